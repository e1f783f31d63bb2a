"""Consumers of Kafka: they see committed records only, and commit by hand."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from workloads.common.errors import AwayError
from workloads.common.received import TIMEOUT_SECONDS, Place, Received, Where, returning
from workloads.common.settings import Settings

LOG = logging.getLogger(__name__)
_STARTING = frozenset(
    {
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError._TIMED_OUT,  # noqa: SLF001 - librdkafka names its own codes so
    }
)
"""What a broker answers that has just started: the same question is answered a moment later."""


class Receiver:
    """A consumer of committed records that commits by hand.

    Parameters
    ----------
    settings, site
        Which Kafka.
    group
        Consumer group.
    roles
        Topics to share with the rest of the group; or
    partitions
        fixed partitions of topics.
    start
        Where a group without offsets begins: ``earliest`` or ``latest``.
    marks
        Offsets to begin at, by partition: of who keeps account of them elsewhere, whatever the group has committed.
    since
        Time to begin at, Unix seconds, whatever the group has committed.
    hung
        Seconds after which the partitions of a member that asks for nothing go to others of the group, and those of one that
        does not even beat as soon as the brokers are set to: by the protocol in which nobody waits for the others, so that
        members that live are not stopped meanwhile. By default all members agree on who has what.

    Raises
    ------
    ContractError
        If the contract does not name one of the topics with this group.
    """

    def __init__(
        self,
        settings: Settings,
        site: str,
        group: str,
        roles: Sequence[str] = (),
        *,
        partitions: Sequence[tuple[str, int]] = (),
        start: str = "earliest",
        marks: Mapping[tuple[str, int], int] | None = None,
        since: float | None = None,
        hung: float | None = None,
    ) -> None:
        self._marks, self._since = marks or {}, since
        protocol: dict[str, Any] = {"partition.assignment.strategy": "cooperative-sticky"}
        if hung is not None:
            protocol = {"group.protocol": "consumer", "max.poll.interval.ms": int(hung * 1000)}
        wanted = dict.fromkeys([*roles, *(role for role, _ in partitions)])
        names = {role: settings.read_topic(role, site, group) for role in wanted}
        self._roles = {name: role for role, name in names.items()}
        self._consumer = Consumer(
            settings.kafka_options(site)
            | {
                "group.id": group,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": start,
                "fetch.wait.max.ms": 2000,  # a record is handed out at once; this is how often an idle consumer asks again
                "fetch.message.max.bytes": settings.site.kafka[site].message_bytes,
                "allow.auto.create.topics": False,
                "topic.metadata.refresh.interval.ms": 5000,
            }
            | protocol
        )
        self.group = group
        self._paused = False
        self._lost: set[tuple[str, int]] = set()
        self._ended: set[tuple[str, int]] = set()
        if roles:
            self._consumer.subscribe(list(names.values()), on_revoke=self._revoked, on_lost=self._revoked)
        else:
            self._assign([(names[role], number) for role, number in partitions], start)

    def _assign(self, partitions: Sequence[tuple[str, int]], start: str) -> None:
        wanted = [TopicPartition(topic, partition) for topic, partition in partitions]
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            try:
                self._consumer.assign(self._positions(wanted, start))
            except KafkaException as exception:
                error = exception.args[0]
                if error.code() not in _STARTING or time.monotonic() > deadline:
                    raise AwayError(f"Kafka, offsets of {partitions}: {error.str()}") from exception
                time.sleep(0.5)  # a broker that has just started looks for its coordinators
            else:
                return

    def _positions(self, wanted: list[TopicPartition], start: str) -> list[TopicPartition]:
        if self._since is not None:
            times = [TopicPartition(one.topic, one.partition, int(self._since * 1000)) for one in wanted]
            found: list[TopicPartition] = self._consumer.offsets_for_times(times, TIMEOUT_SECONDS)
            return found
        committed: list[TopicPartition] = self._consumer.committed(wanted, TIMEOUT_SECONDS)
        for position in committed:
            mark = self._marks.get((self._roles[position.topic], position.partition))
            if mark is not None:
                low, _ = self._consumer.get_watermark_offsets(position, TIMEOUT_SECONDS)
                if low > mark > 0:
                    LOG.error("%s/%d: records %d to %d are gone", position.topic, position.partition, mark, low - 1)
                position.offset = max(low, mark)
            elif position.offset < 0:
                low, high = self._consumer.get_watermark_offsets(position, TIMEOUT_SECONDS)
                position.offset = low if start == "earliest" else high
        return committed

    @property
    def group_metadata(self) -> Any:
        """What a transactional producer needs to commit this group's offsets."""
        return self._consumer.consumer_group_metadata()

    def receive(self, timeout: float = 1.0, most: int = 500) -> list[Received]:
        """Return what came within `timeout` seconds, at most `most` messages.

        Raises
        ------
        AwayError
            On an error of the cluster that does not heal by itself.
        """
        if self._paused:
            self._consumer.resume(self._consumer.assignment())
            self._paused = False
        return self._consume(timeout, most)

    def idle(self, timeout: float) -> list[Received]:
        """Take nothing for `timeout` seconds and stay in the group; return what was on its way all the same.

        A consumer that does not ask for five minutes loses its place to others.
        """
        self._consumer.pause(self._consumer.assignment())  # one that was assigned meanwhile is not paused yet
        self._paused = True
        return self._consume(timeout, 1)

    def _consume(self, timeout: float, most: int) -> list[Received]:
        found = []
        for message in self._consumer.consume(most, timeout):
            error = message.error()
            if error is None:
                found.append(_received(message, self._roles))
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka names its own codes so
                self._ended.add((str(message.topic()), int(message.partition() or 0)))
            elif not error.retriable() and error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise AwayError(f"Kafka: {error.str()}")
            else:
                LOG.warning("Kafka: %s", error.str())
        return found

    @property
    def assigned(self) -> set[Where]:
        """The partitions that it has, by their topic's name in Kafka."""
        return {(str(one.topic), int(one.partition)) for one in self._consumer.assignment()}

    @property
    def caught_up(self) -> bool:
        """Whether it has been at the end of each partition that it has."""
        assigned = self.assigned
        return bool(assigned) and assigned <= self._ended

    def to_the_end(self, seconds: float = TIMEOUT_SECONDS) -> Iterator[Received]:
        """Yield what stands in its partitions by now.

        Raises
        ------
        AwayError
            If Kafka hands nothing out for `seconds`.
        """
        news = time.monotonic()
        while not self.caught_up:
            messages = self.receive(timeout=0.5)
            news = time.monotonic() if messages else news
            if time.monotonic() - news > seconds:
                raise AwayError(f"Kafka: nothing for {self.group} in {seconds:g} s")
            yield from messages

    def lost(self) -> set[tuple[str, int]]:
        """Return the partitions that went to others of the group since the last call."""
        lost, self._lost = self._lost, set()
        return lost

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        lost = {(str(one.topic), int(one.partition)) for one in partitions}
        self._lost |= lost
        self._ended -= lost

    def place(self, where: tuple[str, int]) -> Place | None:
        """Return how far the group is in a partition; None where it has committed nothing there.

        Raises
        ------
        AwayError
            If Kafka does not say.
        """
        try:
            (found,) = self._consumer.committed([TopicPartition(*where)], TIMEOUT_SECONDS)
        except KafkaException as exception:
            raise AwayError(f"Kafka, offset of {where}: {exception.args[0].str()}") from exception
        return Place(found.offset, found.metadata or "") if found.offset >= 0 else None

    def commit(self, places: Mapping[tuple[str, int], Place], *, wait: bool = True) -> None:
        """Commit how far the group is; without `wait`, nobody hears whether Kafka took it.

        Raises
        ------
        AwayError
            If Kafka does not take it: messages may come again.
        """
        offsets = [TopicPartition(*where, place.offset, place.note) for where, place in places.items()]
        try:
            with returning("commit"):
                if not wait:
                    self._consumer.commit(offsets=offsets, asynchronous=True)
                    return
                answers = self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as exception:
            raise AwayError(f"Kafka, offsets not committed: {exception.args[0].str()}") from exception
        if refused := [f"{one.topic}/{one.partition}: {one.error.str()}" for one in answers if one.error]:
            raise AwayError(f"Kafka, offsets not committed: {'; '.join(refused)}")

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()


def _received(message: Message, roles: Mapping[str, str]) -> Received:
    key: Any = message.key()
    value: Any = message.value()
    headers: Any = message.headers()
    return Received(
        role=roles[str(message.topic())],
        topic=str(message.topic()),
        partition=int(message.partition() or 0),
        offset=int(message.offset() or 0),
        timestamp=message.timestamp()[1] / 1000.0,
        key=key,
        value=bytes(value or b""),
        headers={name: bytes(content or b"") for name, content in (headers or [])},
    )
