"""A device from afar: commands with their acknowledgements, the last event of each topic, and what comes."""

from __future__ import annotations

import os
import random
import struct
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext, SerializationError
from fastavro.read import SchemaResolutionError

from workloads.ocs.interfaces import Interface, Subject, UsageError
from workloads.ocs.surroundings import Surroundings

STATES = {1: "DISABLED", 2: "ENABLED", 3: "FAULT", 4: "OFFLINE", 5: "STANDBY"}
CODES = {
    300: "ACK", 301: "INPROGRESS", 302: "STALLED", 303: "COMPLETE",
    -300: "NOPERM", -301: "NOACK", -302: "FAILED", -303: "ABORTED", -304: "TIMEOUT",
}  # fmt: skip
"""Of acknowledgements; NOACK is not sent by anybody: there was none."""
_GO_ON = (300, 301)
_UNREADABLE = (
    *(SchemaRegistryError, SerializationError, SchemaResolutionError, httpx2.HTTPError),
    *(ValueError, EOFError, LookupError, TypeError, OverflowError, MemoryError, struct.error),
)
"""What is raised at bytes that are no record of a topic: such a message is passed over, as the observatory's client does."""
_HISTORY = 500
"""Records of an indexed component's event that are looked through for the last of one index."""
_TAI_MINUS_UTC = 37.0
_LARGEST = 2**31 - 1
_PATIENCE_SECONDS = 30.0


class RemoteError(Exception):
    """Kafka or the registry does not answer, or refuses."""


@dataclass(frozen=True)
class Answer:
    """An acknowledgement: its code, what it says, and how much longer it may take."""

    code: int
    result: str
    error: int = 0
    timeout: float = 0.0

    @property
    def name(self) -> str:
        """The code's name."""
        return CODES.get(self.code, str(self.code))

    @property
    def complete(self) -> bool:
        """Whether the command was carried out."""
        return self.name == "COMPLETE"

    @property
    def final(self) -> bool:
        """Whether no other follows."""
        return self.code not in _GO_ON


@dataclass(frozen=True)
class Sample:
    """A record of a topic: the topic's short name, whether it stood there before, and its fields."""

    topic: str
    old: bool
    fields: Mapping[str, Any]


class Remote:
    """One device, or one instance of it.

    Parameters
    ----------
    interface
        What it understands.
    surroundings
        Where it is.
    index
        Which instance; 0 where there is but one.
    """

    def __init__(self, interface: Interface, surroundings: Surroundings, index: int = 0) -> None:
        if interface.indexed != (index > 0):
            expected = "one above 0, as NAME:INDEX" if interface.indexed else "none"
            raise UsageError(f"{interface.name}: index {index}; expected {expected}")
        self.interface, self.index = interface, index
        self._at, self._origin = surroundings, os.getpid()
        self._registry = SchemaRegistryClient({"url": surroundings.registry})
        self._topics = {name: f"lsst.{surroundings.subname}.{interface.name}.{name}" for name in interface.subjects}
        self._names = {topic: name for name, topic in self._topics.items()}
        self._writers: dict[str, AvroSerializer] = {}
        self._readers: dict[str, AvroDeserializer] = {}
        self._numbers: dict[str, int] = {}
        self._reached: dict[str, int] = {}
        """The offset up to which each topic was read."""
        self._history: dict[str, int] = {}
        """Topics of which something stands before the end that they had at the start: that end."""
        self._answers: dict[int, deque[Answer]] = {}
        """Acknowledgements that nobody has asked for yet, by the number of the command."""
        self.last: dict[str, Sample] = {}
        """The last sample of each event, by its short name."""
        options = {"bootstrap.servers": surroundings.brokers, **surroundings.security, "log_level": 0}
        self._producer = Producer(options | {"acks": 1, "linger.ms": 0})
        group = f"{surroundings.group}-{surroundings.identity}-{random.getrandbits(40):010x}"
        self._consumer = Consumer(
            options
            | {"group.id": group, "enable.auto.commit": False, "enable.partition.eof": True, "fetch.wait.max.ms": 100}
        )

    # -- the beginning -------------------------------------------------------------------------------------------------

    def start(self) -> Remote:
        """Register what is read and written, read the last event of each topic, and return this.

        Raises
        ------
        RemoteError
            If Kafka or the registry does not answer, or a topic is missing.
        """
        try:
            for name, subject in self.interface.subjects.items():
                schema = Schema(subject.schema, "AVRO")
                self._registry.register_schema(f"{self._topics[name]}-value", schema)
                if name.startswith("command_"):
                    settings = {"auto.register.schemas": False}
                    self._writers[name] = AvroSerializer(self._registry, subject.schema, conf=settings)
                else:
                    self._readers[name] = AvroDeserializer(self._registry, subject.schema)
            self._assign()
        except (SchemaRegistryError, httpx2.HTTPError, OSError) as error:
            raise RemoteError(f"registry {self._at.registry}: {error}") from error
        except KafkaException as error:
            raise RemoteError(f"Kafka {self._at.brokers}: {error.args[0].str()}") from error
        self._read_history()
        return self

    def _assign(self) -> None:
        known = self._consumer.list_topics(timeout=_PATIENCE_SECONDS).topics
        if missing := sorted(set(self._topics.values()) - set(known)):
            raise RemoteError(f"Kafka {self._at.brokers}: no topic {', '.join(missing)}; is the device declared there?")
        places = []
        for name in self._readers:
            place = TopicPartition(self._topics[name], 0)
            low, high = self._ends(place)
            back = (_HISTORY if self.interface.indexed else 1) if name.startswith("logevent_") else 0
            place.offset = max(low, high - back)
            self._reached[place.topic] = place.offset
            if place.offset < high:
                self._history[name] = high
            places.append(place)
        self._consumer.assign(places)

    def _ends(self, place: TopicPartition) -> tuple[int, int]:
        """Return the first offset of a topic and the one after its last; a broker that is busy is asked again."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                found: tuple[int, int] = self._consumer.get_watermark_offsets(place, _PATIENCE_SECONDS)
            except KafkaException as error:
                if time.monotonic() > end:
                    raise RemoteError(f"Kafka {self._at.brokers}: {error.args[0].str()}") from error
                time.sleep(0.5)
            else:
                return found

    def _read_history(self) -> None:
        """Read what stood there, to the end of each topic: there may be less than its offsets say."""
        waited = set(self._history)
        end = time.monotonic() + _PATIENCE_SECONDS
        while waited:
            if time.monotonic() > end:
                raise RemoteError(f"Kafka {self._at.brokers}: nothing of {', '.join(sorted(waited))}")
            for message in self._consume(0.2):
                name, offset = self._names[str(message.topic())], int(message.offset() or 0)
                high = self._history.get(name, 0)
                if message.error() is None:
                    self._take(message, old=offset < high)
                if message.error() is not None or offset >= high - 1:
                    waited.discard(name)

    # -- commands ------------------------------------------------------------------------------------------------------

    def command(self, name: str, *words: str, timeout: float = 60.0) -> Answer:
        """Send a command and return its last acknowledgement; NOACK if none came in time.

        Parameters
        ----------
        name
            The command.
        words
            Its parameters, such as ``level=10``.
        timeout
            Seconds to wait; what the device says that it takes comes on top.

        Raises
        ------
        UsageError
            If there is no such command or parameter.
        RemoteError
            If Kafka does not take it.
        """
        *_, last = self.acknowledgements(name, *words, timeout=timeout)
        return last

    def acknowledgements(self, name: str, *words: str, timeout: float = 60.0) -> Iterator[Answer]:
        """Send a command and yield its acknowledgements as they come, the last one included; see `command`."""
        number = self.send(name, *words)
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            self.samples(min(0.2, timeout))
            for answer in self.answers(number):
                if answer.final:
                    self._catch_up()
                    yield answer
                    return
                yield answer
                end = max(end, time.monotonic() + answer.timeout + timeout)
        yield Answer(-301, f"no answer in {timeout:g} s; is {self.interface.name} running?")

    def answers(self, number: int) -> list[Answer]:
        """Return the acknowledgements of a command that have come since the last call."""
        return list(self._answers.pop(number, ()))

    def send(self, name: str, *words: str) -> int:
        """Send a command and return its number, without waiting; errors as of `command`."""
        subject, values = self.interface.command(name), self.interface.parameters(name, words)
        full, now = subject.name, time.time()
        number = self._number(name)
        private = {
            "private_sndStamp": now + _TAI_MINUS_UTC, "private_rcvStamp": 0.0, "private_efdStamp": now,
            "private_kafkaStamp": now + _TAI_MINUS_UTC, "private_seqNum": number,
            "private_revCode": subject.revision, "private_identity": self._at.identity, "private_origin": self._origin,
        }  # fmt: skip
        instance = {"salIndex": self.index} if self.interface.indexed else {}
        topic = self._topics[full]
        try:
            value = self._writers[full](instance | private | values, SerializationContext(topic, MessageField.VALUE))
            failures: list[KafkaError] = []
            self._producer.produce(
                topic,
                value,
                key=subject.key(self.index),
                on_delivery=lambda error, _: failures.append(error) if error else None,
            )
            if self._producer.flush(_PATIENCE_SECONDS) or failures:
                raise RemoteError(f"Kafka {self._at.brokers}: {name} not taken; {[one.str() for one in failures]}")
        except (SchemaRegistryError, SerializationError, httpx2.HTTPError) as error:
            raise RemoteError(f"{self.interface.name} {name}: {error}") from error
        return number

    def _number(self, name: str) -> int:
        """Return the next number of a command: each command has a range of its own, begun at random."""
        commands = self.interface.commands
        size = _LARGEST // len(commands)
        first = 1 + size * commands.index(name)
        before = self._numbers.get(name, first + random.randrange(size))  # noqa: S311 - no secret
        self._numbers[name] = first + (before + 1 - first) % size
        return self._numbers[name]

    def _catch_up(self) -> None:
        """Read what the device told before it acknowledged: records of other topics may come later than the acknowledgement."""
        places = [TopicPartition(self._topics[f"logevent_{name}"], 0) for name in ("errorCode", "summaryState")]
        ends = [self._ends(place)[1] for place in places]
        end = time.monotonic() + _PATIENCE_SECONDS
        while any(self._reached[place.topic] < after for place, after in zip(places, ends, strict=True)):
            if time.monotonic() > end:
                return
            for message in self._consume(0.2):
                if message.error() is None:
                    self._take(message, old=False)

    def _keep_answer(self, fields: Mapping[str, Any]) -> None:
        if (fields["identity"], fields["origin"]) == (self._at.identity, self._origin):
            answer = Answer(fields["ack"], fields["result"], fields["error"], fields["timeout"])
            self._answers.setdefault(fields["private_seqNum"], deque()).append(answer)

    # -- events --------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """The state that the device has told last; empty where it has told none."""
        sample = self.last.get("summaryState")
        return STATES.get(sample.fields["summaryState"], "?") if sample else ""

    def samples(self, seconds: float) -> list[Sample]:
        """Return what comes within some seconds."""
        taken = [self._take(message, old=False) for message in self._consume(seconds) if message.error() is None]
        return [sample for sample in taken if sample is not None]

    def watch(self, *names: str) -> Iterator[Sample]:
        """Yield what comes of some events and telemetry topics, or of all, without end; `UsageError` for unknown names."""
        wanted = {_short(self.interface.watched(name)) for name in names}
        while True:
            for sample in self.samples(0.5):
                if sample.topic != "ackcmd" and (not wanted or sample.topic in wanted):
                    yield sample

    def wait_for(self, name: str, seconds: float, **fields: Any) -> Sample:
        """Return the last sample of an event if its fields are these, or the next one whose are.

        Raises
        ------
        RemoteError
            If none comes in time.
        """
        self.interface.watched(name)
        end = time.monotonic() + seconds
        while True:
            last = self.last.get(name)
            if last is not None and all(last.fields[key] == value for key, value in fields.items()):
                return last
            if time.monotonic() > end:
                found = dict(last.fields) if last else "none"
                raise RemoteError(
                    f"{self.interface.name} {name}: found {found}; expected {fields} within {seconds:g} s"
                )
            self.samples(0.2)

    def wait_for_next(self, name: str, seconds: float) -> Sample:
        """Return the next sample of an event that comes from now on; `RemoteError` if none does in time."""
        self.interface.watched(name)
        before, end = self.last.get(name), time.monotonic() + seconds
        while self.last.get(name) is before:
            if time.monotonic() > end:
                raise RemoteError(f"{self.interface.name}: no {name} in {seconds:g} s")
            self.samples(0.2)
        return self.last[name]

    def _consume(self, seconds: float) -> list[Message]:
        try:
            messages = list(self._consumer.consume(200, seconds))
        except KafkaException as error:
            raise RemoteError(f"Kafka {self._at.brokers}: {error.args[0].str()}") from error
        for message in messages:
            if message.error() is None:
                self._reached[str(message.topic())] = int(message.offset() or 0) + 1
        return messages

    def _take(self, message: Message, *, old: bool) -> Sample | None:
        """Return the sample of a message; None if it is of another instance, older than the last one, or cannot be read."""
        topic = str(message.topic())
        name, value = self._names[topic], message.value()
        try:
            fields: Any = self._readers[name](value, SerializationContext(topic, MessageField.VALUE))
        except _UNREADABLE:
            return None
        if not isinstance(fields, dict) or (self.interface.indexed and fields["salIndex"] not in (0, self.index)):
            return None
        sample = Sample(_short(self.interface.subjects[name]), old, fields)
        if name == "ackcmd":
            self._keep_answer(fields)
        before = self.last.get(sample.topic)
        if name.startswith("logevent_"):
            if before is not None and fields["private_sndStamp"] <= before.fields["private_sndStamp"]:
                return None
            self.last[sample.topic] = sample
        return sample

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


def _short(subject: Subject) -> str:
    return subject.name.removeprefix("logevent_")
