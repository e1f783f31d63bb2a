"""One device's topics at the Kafka of its site: schemas registered, records written, messages read.

A device's topics are never written in transactions: a client would wait for the record that it takes a marker for.
"""

from __future__ import annotations

import logging
import math
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workloads.common.avro import Codec
from workloads.common.consumer import Receiver
from workloads.common.errors import NonRetriableError, RetriableError
from workloads.common.kafka import Bus
from workloads.common.received import Received
from workloads.common.registry import RegistryClient
from workloads.common.schemas import Declared
from workloads.common.times import tai_now, tai_to_utc
from workloads.sal.interfaces import COMMAND, EVENT, Component, Topic

LOG = logging.getLogger(__name__)
REGISTRY = "schema-registry"
_LAST_NUMBER = (1 << 31) - 1
_TICK_SECONDS = 1e-6
"""Between the stamps of two records: clients drop one that is not newer than the last of its topic."""
Clock = Callable[[], float]


class Link:
    """What a device writes to and reads from.

    Parameters
    ----------
    bus
        The Kafka of its site.
    component
        Its interface.
    index
        Which instance it is; 0 where the component is not indexed.
    clock
        TAI seconds.
    """

    def __init__(self, bus: Bus, component: Component, index: int = 0, clock: Clock = tai_now) -> None:
        self.bus, self.component, self.index = bus, component, index
        self.identity = component.identity(index)
        self.origin = 1 + secrets.randbelow(_LAST_NUMBER)
        """By chance, as a process id is the same in many pods: twins are told apart by it."""
        self.clock = clock
        registry = RegistryClient(bus.settings.service(REGISTRY))
        self._codec = Codec.of(
            {topic.role: self._register(registry, topic) for topic in component.topics.values()}, registry
        )
        self._sender = bus.sender(*(topic.role for topic in component.topics.values() if not _is_command(topic)))
        self._lock = threading.Lock()
        self._last = 0.0
        self._writers = {
            name: Writer(self, topic) for name, topic in component.topics.items() if not _is_command(topic)
        }

    def _register(self, registry: RegistryClient, topic: Topic) -> Declared:
        subject = f"{self.bus.settings.site.topics[topic.role].name}-value"
        return Declared(registry.register(subject, topic.schema), subject, topic.schema)

    # -- writing -------------------------------------------------------------------------------------------------------

    def event(self, name: str) -> Writer:
        """Return the writer of an event."""
        return self._writer(f"{EVENT}{name}")

    def telemetry(self, name: str) -> Writer:
        """Return the writer of a telemetry topic."""
        return self._writer(name)

    def _writer(self, name: str) -> Writer:
        self.component.topic(name)
        return self._writers[name]

    def send(self, topic: Topic, *records: tuple[int, Mapping[str, Any]]) -> None:
        """Write records, each with its number, and return when Kafka has all of them.

        Raises
        ------
        NonRetriableError
            If a value does not fit its field.
        RetriableError
            If Kafka has not taken it yet; it may still take it.
        """
        for _, values in records:
            for field in topic.own:
                if problem := field.problem(values[field.name]):
                    raise NonRetriableError(f"{topic.role}: field {field.name} is {problem}")
        with self._lock:
            for number, values in records:
                record = self._codec.encode(topic.role, self._private(topic, number) | dict(values))
                self._sender.send(topic.role, record, key=topic.key(self.index))
            self._sender.flush()

    def _private(self, topic: Topic, number: int) -> dict[str, Any]:
        """Return what stands in a record before its own fields; stamps of a link only ever grow."""
        now = self._last = max(self.clock(), self._last + _TICK_SECONDS)
        indexed = {"salIndex": self.index} if topic.indexed else {}
        return indexed | {
            "private_sndStamp": now, "private_rcvStamp": 0.0, "private_efdStamp": tai_to_utc(now),
            "private_kafkaStamp": now, "private_seqNum": number, "private_revCode": topic.revision,
            "private_identity": self.identity, "private_origin": self.origin,
        }  # fmt: skip

    def again(self) -> None:
        """Write those events anew that Kafka did not take when they changed."""
        for writer in self._writers.values():
            writer.again()

    # -- reading -------------------------------------------------------------------------------------------------------

    @property
    def group(self) -> str:
        """What the names of its consumer groups begin with."""
        return self.identity.replace(":", "-")

    def receiver(self, group: str, topics: Sequence[Topic]) -> Receiver:
        """Return a consumer of topics that begins at what comes from now on, unless the group has been further back."""
        settings, site = self.bus.settings, self.bus.site
        places = [(topic.role, 0) for topic in topics]
        return Receiver(settings, site, f"{self.group}-{group}", partitions=places, start="latest")

    def decode(self, message: Received) -> dict[str, Any]:
        """Return the record of a message of one of the component's topics; errors as of `Codec.decode`."""
        return self._codec.decode(message.role, message.value)

    def concerns(self, record: Mapping[str, Any]) -> bool:
        """Tell whether a record is this instance's, or for all instances."""
        return not self.component.indexed or record["salIndex"] in (0, self.index)


class Writer:
    """Writes one topic of events or telemetry, of which it knows the last values.

    Parameters
    ----------
    link
        Where it is written to.
    topic
        The topic.
    """

    def __init__(self, link: Link, topic: Topic) -> None:
        self._link, self._topic = link, topic
        self._always = not topic.name.startswith(EVENT)
        self._values: dict[str, Any] = {field.name: field.default for field in topic.own}
        self._number = 0
        self._known, self._owed = False, False
        """Whether Kafka has the last values, and whether they are to be written anew because it did not take them."""
        self._lock = threading.RLock()

    @property
    def values(self) -> dict[str, Any]:
        """The last values."""
        return dict(self._values)

    def write(self, *, force: bool = False, **values: object) -> bool:
        """Write what has changed: an event whose values are what they were is not written, unless forced.

        Parameters
        ----------
        force
            Write it in any case; telemetry always is.
        values
            By the name of the field; others stay as they were.

        Returns
        -------
        bool
            Whether it was written.

        Raises
        ------
        NonRetriableError
            If there is no such field, or a value does not fit it; the last values stay.
        RetriableError
            If Kafka has not taken it yet.
        """
        for name in values:
            if name not in self._values:
                raise NonRetriableError(
                    f"{self._topic.role}: no field {name}; expected some of {', '.join(self._values)}"
                )
        with self._lock:
            changed = self._values | values
            if self._known and not (force or self._always) and _same(changed, self._values):
                return False
            number = _after(self._number)
            try:
                self._link.send(self._topic, (number, changed))
            except RetriableError:
                self._values, self._number, self._known, self._owed = changed, number, False, not self._always
                raise
            self._values, self._number, self._known, self._owed = changed, number, True, False
            return True

    def report(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write an event that tells of things that happened, once for each of them; Kafka is waited for once.

        Raises
        ------
        NonRetriableError
            If a value does not fit its field, or one is missing.
        RetriableError
            If Kafka has not taken all of them yet; the caller tells of them again.
        """
        names = set(self._values)
        for row in rows:
            if set(row) != names:
                raise NonRetriableError(
                    f"{self._topic.role}: fields {', '.join(row)}; expected {', '.join(self._values)}"
                )
        with self._lock:
            numbered = list[tuple[int, Mapping[str, Any]]]()
            for row in rows:
                self._number = _after(self._number)
                numbered.append((self._number, row))
            if numbered:
                self._link.send(self._topic, *numbered)
                self._values, self._known = dict(rows[-1]), True

    def again(self) -> None:
        """Write the last values if Kafka did not take them."""
        with self._lock:
            if self._owed:
                self.write()


def _same(some: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Compare values; one that is no number is the same as another one."""
    pairs = zip(some.values(), others.values(), strict=True)
    return all(one == other or (_is_none(one) and _is_none(other)) for one, other in pairs)


def _is_none(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _after(number: int) -> int:
    """Return the number after one: they begin again at 1."""
    return number % _LAST_NUMBER + 1


def _is_command(topic: Topic) -> bool:
    return topic.name.startswith(COMMAND)
