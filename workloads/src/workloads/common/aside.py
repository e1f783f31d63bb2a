"""Messages that could not be handled: set aside in a topic of their own, listed there, and given back to who could not.

Each record has as its key whose message it is; the newest record of a key says what became of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from prometheus_client import Counter

from workloads.common.consumer import Receiver
from workloads.common.errors import NonRetriableError
from workloads.common.kafka import Bus, partitions
from workloads.common.producer import Sender
from workloads.common.received import Received
from workloads.common.sizes import TooLargeError
from workloads.common.times import tai_now

TOPIC = "set-aside"
GIVEN_BACK_TO = "dpp-given-back-to"
"""Header of a message that is there for one group only, by its name: all others pass over it."""
GIVEN_BACK_FROM = "dpp-given-back-from"
"""Header of such a message: the offset at which it stood when it was set aside."""
SET_ASIDE, GIVEN_BACK, DISMISSED = "set-aside", "given-back", "dismissed"
COUNT = Counter("messages_set_aside", "Messages that could not be handled", ["group", "topic"])
_LONGEST_TEXT = 8000


@dataclass(frozen=True)
class Aside:
    """A message that a group could not handle, as the record of schema `set-aside` has it; `time` is TAI seconds.

    `size` are the bytes of its key, headers and value, which are kept together or not at all, see `write`.
    """

    state: str
    group: str
    workload: str
    role: str
    topic: str
    partition: int
    offset: int
    timestamp: float
    key: bytes | None
    headers: dict[str, bytes]
    value: bytes
    size: int
    reason: str
    traceback: str
    attempts: int
    time: float

    @classmethod
    def of(cls, message: Received, group: str, workload: str, reason: str, traceback: str, attempts: int) -> Aside:
        """Return what is kept of a message."""
        return cls(
            state=SET_ASIDE, group=group, workload=workload, role=message.role, topic=message.topic,
            partition=message.partition, offset=message.offset, timestamp=message.timestamp, key=message.key,
            headers=message.headers, value=message.value, size=_size(message.key, message.headers, message.value),
            reason=_text(reason[:_LONGEST_TEXT]), traceback=_text(traceback[-_LONGEST_TEXT:]), attempts=attempts, time=tai_now(),
        )  # fmt: skip

    @property
    def name(self) -> str:
        """Whose message it is and where it stood: the record's key."""
        return f"{self.group}/{self.topic}/{self.partition}/{self.offset}"

    @property
    def whole(self) -> bool:
        """Whether all of the message is kept."""
        return self.size == _size(self.key, self.headers, self.value)

    @property
    def facts(self) -> Aside:
        """What is known of the message, without itself."""
        return replace(self, key=None, headers={}, value=b"")


def _size(key: bytes | None, headers: Mapping[str, bytes], value: bytes) -> int:
    return len(key or b"") + sum(len(name.encode()) + len(content) for name, content in headers.items()) + len(value)


def _text(text: str) -> str:
    """Return a text as UTF-8 can hold it: what JSON escapes may be half a character."""
    return text.encode(errors="replace").decode()


def write(bus: Bus, sender: Sender, aside: Aside) -> None:
    """Send the record of a message; it is delivered with the sender's next flush or transaction.

    A message that fits into a record alone, but not with what is said about it, is not kept: only that is.
    """
    try:
        bus.publish(sender, TOPIC, vars(aside), key=aside.name)
    except TooLargeError:
        bus.publish(sender, TOPIC, vars(aside.facts), key=aside.name)


def is_for(message: Received, group: str) -> bool:
    """Tell whether a message is for a group: it is for all unless it was given back to one."""
    return message.headers.get(GIVEN_BACK_TO, group.encode()) == group.encode()


class Asides:
    """What was set aside at a site.

    Parameters
    ----------
    bus
        The site's Kafka.
    group
        Consumer group to read in; it commits nothing.
    """

    def __init__(self, bus: Bus, group: str) -> None:
        self._bus, self._group = bus, group

    def open(self) -> list[Aside]:
        """Return what nobody has dealt with, the oldest first.

        Raises
        ------
        RetriableError
            If Kafka does not answer.
        """
        found: dict[str, Aside] = {}
        for record in self._records():
            aside = Aside(**record)
            found.pop(aside.name, None)  # the newest record says what became of it
            found[aside.name] = aside
        return [aside for aside in found.values() if aside.state == SET_ASIDE]

    def _records(self) -> Iterable[Mapping[str, Any]]:
        wanted = partitions(self._bus.settings, self._bus.site, self._group, TOPIC)
        receiver = Receiver(self._bus.settings, self._bus.site, self._group, partitions=wanted)
        try:
            for message in receiver.to_the_end():
                try:
                    yield self._bus.codec.decode(TOPIC, message.value)
                except NonRetriableError:
                    continue  # what is no record of ours is nobody's message
        finally:
            receiver.close()

    def give_back(self, asides: Iterable[Aside]) -> list[Aside]:
        """Publish messages anew, each for the group that could not handle it, and note that; return those that were.

        A message that was given back twice, because this was cut short, is handled twice: handlers bear that, as they bear
        their own restarts.

        Raises
        ------
        NonRetriableError
            If a message cannot be given back; those before it were.
        """
        given = []
        for aside in asides:
            if not aside.whole:
                raise NonRetriableError(
                    f"{aside.name}: {aside.size} bytes, too many to be kept here; have its sender send it again"
                )
            sender = self._bus.sender_at_home(aside.role)
            sender.send(
                aside.role, aside.value, key=aside.key, partition=aside.partition,
                headers=aside.headers | {GIVEN_BACK_TO: aside.group.encode(), GIVEN_BACK_FROM: str(aside.offset).encode()},
            )  # fmt: skip
            sender.flush()
            given += self._settle([aside], GIVEN_BACK)
        return given

    def dismiss(self, asides: Iterable[Aside]) -> list[Aside]:
        """Note that messages need no more care; they are listed no longer."""
        return self._settle(asides, DISMISSED)

    def _settle(self, asides: Iterable[Aside], state: str) -> list[Aside]:
        sender = self._bus.sender(TOPIC)
        settled = [replace(aside, state=state, time=tai_now()) for aside in asides]
        for aside in settled:
            write(self._bus, sender, aside.facts)
        sender.flush()
        return settled
