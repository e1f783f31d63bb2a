"""Kafka as the workloads use it: idempotent or transactional producers, consumers that see committed records only."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from workloads.common.avro import Codec
from workloads.common.errors import FencedError, NonRetriableError, RetriableError
from workloads.common.registry import RegistryClient
from workloads.common.settings import Settings
from workloads.common.sizes import require_small

LOG = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 30.0
_GRACE_SECONDS = 5.0
_STARTING = frozenset(
    {
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError._TIMED_OUT,  # noqa: SLF001 - librdkafka names its own codes so
    }
)
"""What a broker answers that has just started: the same question is answered a moment later."""


@contextmanager
def _returning(what: str) -> Iterator[None]:
    """End the process if the client library does not come back long after its own time-out.

    librdkafka 2.16 waits for ever for a group's coordinator whose broker was killed and is back; a new process finds it.
    """
    timer = threading.Timer(_TIMEOUT_SECONDS + _GRACE_SECONDS, _give_up, (what,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _give_up(what: str) -> None:
    LOG.error("Kafka: %s does not return; the process starts again from its last commit", what)
    os._exit(1)


@dataclass(frozen=True)
class Received:
    """One message: where it stood, when it was written (TAI is the payload's matter, this is UTC seconds), its bytes.

    `role` is what the contract calls its topic, `topic` its name in Kafka.
    """

    role: str
    topic: str
    partition: int
    offset: int
    timestamp: float
    key: bytes | None
    value: bytes
    headers: dict[str, bytes]

    @property
    def where(self) -> tuple[str, int]:
        """Its topic in Kafka and its partition."""
        return self.topic, self.partition


@dataclass(frozen=True)
class Place:
    """How far a group is in a partition, as it has committed it: the next offset, and a note for whoever goes on there."""

    offset: int
    note: str = ""


class Sender:
    """A producer whose `flush` raises when anything was not delivered.

    Parameters
    ----------
    settings
        Where the cluster is.
    site
        Whose Kafka.
    roles
        Topics that it writes to; `ContractError` where the contract does not say so.
    transactional_id
        Makes the producer transactional; a second one with the same id fences the first.
    """

    def __init__(self, settings: Settings, site: str, *roles: str, transactional_id: str | None = None) -> None:
        self._names = {role: settings.written_topic(role, site) for role in roles}
        connection = settings.kafka_options(site)
        self._limit = settings.site.kafka[site].message_bytes
        options = connection | {
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 5,
            "compression.type": "lz4",
            "message.max.bytes": self._limit,
        }
        if transactional_id:
            settings.require_transactions(transactional_id)
            options |= {"transactional.id": transactional_id, "transaction.timeout.ms": 60_000}
        self._producer = Producer(options)
        self._failures: list[str] = []
        self.transactional = transactional_id is not None
        if transactional_id:
            self._guard(self._producer.init_transactions, _TIMEOUT_SECONDS)

    def send(
        self,
        role: str,
        value: bytes,
        *,
        key: str | bytes | None = None,
        partition: int | None = None,
        headers: Mapping[str, bytes] | None = None,
    ) -> None:
        """Hand one message to the producer; a full queue waits.

        Raises
        ------
        TooLargeError
            If it is larger than brokers and mirrors take.
        """
        raw_key = key.encode() if isinstance(key, str) else key
        require_small(self.name(role), self._limit, raw_key or b"", value, headers or {})
        where: dict[str, Any] = {} if partition is None else {"partition": partition}
        while True:
            try:
                self._producer.produce(
                    self.name(role),
                    value,
                    key=raw_key or None,
                    headers=list((headers or {}).items()),
                    on_delivery=self._delivered,
                    **where,
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                self._producer.poll(0)
                return

    def name(self, role: str) -> str:
        """Return the name in Kafka of a topic that it writes to."""
        if role not in self._names:
            raise NonRetriableError(f"topic {role}: not one that this producer was made for: {', '.join(self._names)}")
        return self._names[role]

    def flush(self, timeout: float = _TIMEOUT_SECONDS) -> None:
        """Wait until all is delivered.

        Raises
        ------
        RetriableError
            If something was not, or not in `timeout` seconds.
        """
        left = self._producer.flush(timeout)
        failures, self._failures = self._failures, []
        if left or failures:
            raise RetriableError(f"Kafka: {left} messages not delivered in {timeout:g} s; {'; '.join(failures[:3])}")

    @contextmanager
    def transaction(self, consumer: Receiver, *done: Received) -> Iterator[None]:
        """Make what the body sends, and the offsets after `done`, one transaction; an error of the body aborts it.

        Raises
        ------
        RetriableError
            If Kafka does not take the transaction: it was aborted.
        FencedError
            If this producer cannot go on.
        """
        self._guard(self._producer.begin_transaction)
        try:
            yield
            if done:
                after = [TopicPartition(*where, offset) for where, offset in after_all(done).items()]
                self._guard(
                    self._producer.send_offsets_to_transaction, after, consumer.group_metadata, _TIMEOUT_SECONDS
                )
            self._guard(self._producer.commit_transaction, _TIMEOUT_SECONDS)
        except FencedError:
            raise
        except BaseException:
            self._abort()
            raise

    def _abort(self) -> None:
        self._failures.clear()
        try:
            self._guard(self._producer.abort_transaction, _TIMEOUT_SECONDS)
        except RetriableError as error:
            raise FencedError(f"{error}; neither committed nor aborted") from error

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failures.append(f"{message.topic()}: {error.str()}")

    @staticmethod
    def _guard(call: Any, *arguments: Any) -> None:
        try:
            with _returning(call.__name__):
                call(*arguments)
        except KafkaException as exception:
            error = exception.args[0]
            kind = FencedError if error.fatal() else RetriableError
            raise kind(f"Kafka transaction: {error.str()}") from exception


def after_all(done: Sequence[Received]) -> dict[tuple[str, int], int]:
    """Return the offset after the last of some messages, by topic and partition."""
    after: dict[tuple[str, int], int] = {}
    for message in done:
        after[message.where] = max(after.get(message.where, 0), message.offset + 1)
    return after


def partitions(settings: Settings, site: str, group: str, *roles: str) -> list[tuple[str, int]]:
    """Return all partitions of some topics: what a consumer takes that must not lose its place when Kafka restarts."""
    topics = {role: settings.read_topic(role, site, group) for role in roles}
    admin = AdminClient(settings.kafka_options(site))
    try:
        known = admin.list_topics(timeout=_TIMEOUT_SECONDS).topics
    except KafkaException as exception:
        raise RetriableError(f"Kafka of {site}, its topics: {exception.args[0].str()}") from exception
    if missing := [topic for topic in topics.values() if topic not in known]:
        raise RetriableError(f"Kafka of {site}: no topic {', '.join(missing)}; expected from role kafka_broker")
    return [(role, number) for role, topic in topics.items() for number in sorted(known[topic].partitions)]


def held(settings: Settings, site: str, group: str) -> set[tuple[str, int]]:
    """Return the partitions that members of a group have at this moment."""
    client = AdminClient(settings.kafka_options(site))  # the answer goes with it
    try:
        [answer] = client.describe_consumer_groups([group], request_timeout=_TIMEOUT_SECONDS).values()
        members = answer.result(timeout=_TIMEOUT_SECONDS).members
    except KafkaException as exception:
        raise RetriableError(f"Kafka of {site}, group {group}: {exception.args[0].str()}") from exception
    return {(str(one.topic), int(one.partition)) for member in members for one in member.assignment.topic_partitions}


def topic_identity(settings: Settings, site: str, group: str, role: str) -> str:
    """Return what tells a topic from one of the same name that was deleted: offsets of the two mean different records."""
    name = settings.read_topic(role, site, group)
    client = AdminClient(settings.kafka_options(site))  # the answer goes with it
    try:
        [answer] = client.describe_topics(TopicCollection([name])).values()
        return str(answer.result(timeout=_TIMEOUT_SECONDS).topic_id)
    except KafkaException as exception:
        raise RetriableError(f"Kafka of {site}, topic {name}: {exception.args[0].str()}") from exception


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
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while True:
            try:
                self._consumer.assign(self._positions(wanted, start))
            except KafkaException as exception:
                error = exception.args[0]
                if error.code() not in _STARTING or time.monotonic() > deadline:
                    raise RetriableError(f"Kafka, offsets of {partitions}: {error.str()}") from exception
                time.sleep(0.5)  # a broker that has just started looks for its coordinators
            else:
                return

    def _positions(self, wanted: list[TopicPartition], start: str) -> list[TopicPartition]:
        if self._since is not None:
            times = [TopicPartition(one.topic, one.partition, int(self._since * 1000)) for one in wanted]
            found: list[TopicPartition] = self._consumer.offsets_for_times(times, _TIMEOUT_SECONDS)
            return found
        committed: list[TopicPartition] = self._consumer.committed(wanted, _TIMEOUT_SECONDS)
        for position in committed:
            mark = self._marks.get((self._roles[position.topic], position.partition))
            if mark is not None:
                low, _ = self._consumer.get_watermark_offsets(position, _TIMEOUT_SECONDS)
                if low > mark > 0:
                    LOG.error("%s/%d: records %d to %d are gone", position.topic, position.partition, mark, low - 1)
                position.offset = max(low, mark)
            elif position.offset < 0:
                low, high = self._consumer.get_watermark_offsets(position, _TIMEOUT_SECONDS)
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
        RetriableError
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
                raise RetriableError(f"Kafka: {error.str()}")
            else:
                LOG.warning("Kafka: %s", error.str())
        return found

    @property
    def assigned(self) -> set[tuple[str, int]]:
        """The partitions that it has, by their topic's name in Kafka."""
        return {(str(one.topic), int(one.partition)) for one in self._consumer.assignment()}

    @property
    def caught_up(self) -> bool:
        """Whether it has been at the end of each partition that it has."""
        assigned = self.assigned
        return bool(assigned) and assigned <= self._ended

    def to_the_end(self, seconds: float = _TIMEOUT_SECONDS) -> Iterator[Received]:
        """Yield what stands in its partitions by now.

        Raises
        ------
        RetriableError
            If Kafka hands nothing out for `seconds`.
        """
        news = time.monotonic()
        while not self.caught_up:
            messages = self.receive(timeout=0.5)
            news = time.monotonic() if messages else news
            if time.monotonic() - news > seconds:
                raise RetriableError(f"Kafka: nothing for {self.group} in {seconds:g} s")
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
        RetriableError
            If Kafka does not say.
        """
        try:
            (found,) = self._consumer.committed([TopicPartition(*where)], _TIMEOUT_SECONDS)
        except KafkaException as exception:
            raise RetriableError(f"Kafka, offset of {where}: {exception.args[0].str()}") from exception
        return Place(found.offset, found.metadata or "") if found.offset >= 0 else None

    def commit(self, places: Mapping[tuple[str, int], Place], *, wait: bool = True) -> None:
        """Commit how far the group is; without `wait`, nobody hears whether Kafka took it.

        Raises
        ------
        RetriableError
            If Kafka does not take it: messages may come again.
        """
        offsets = [TopicPartition(*where, place.offset, place.note) for where, place in places.items()]
        try:
            with _returning("commit"):
                if not wait:
                    self._consumer.commit(offsets=offsets, asynchronous=True)
                    return
                answers = self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as exception:
            raise RetriableError(f"Kafka, offsets not committed: {exception.args[0].str()}") from exception
        if refused := [f"{one.topic}/{one.partition}: {one.error.str()}" for one in answers if one.error]:
            raise RetriableError(f"Kafka, offsets not committed: {'; '.join(refused)}")

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


class Bus:
    """One site's Kafka with the codec of the site's registry: what most services hold.

    Parameters
    ----------
    settings
        The workload's settings.
    site
        Whose Kafka; by default the site that this runs at.
    """

    def __init__(self, settings: Settings, site: str | None = None) -> None:
        self.settings = settings
        self.site = site or settings.site.site

    @cached_property
    def codec(self) -> Codec:
        """What encodes and decodes records; the registry is asked where the contract calls it."""
        site = self.settings.site
        names = {role: topic.name for role, topic in site.topics.items()}
        called = "schema-registry" in site.services
        return Codec(names, RegistryClient(self.settings.service("schema-registry")) if called else None)

    def sender(self, *roles: str, transactional_id: str | None = None) -> Sender:
        """Return a producer for topics."""
        return Sender(self.settings, self.site, *roles, transactional_id=transactional_id)

    def sender_at_home(self, role: str) -> Sender:
        """Return a producer for a topic at the site where it is written."""
        topic = self.settings.site.topics.get(role)
        return Sender(self.settings, topic.written_at if topic and topic.written_at else self.site, role)

    def receiver(self, group: str, *roles: str, start: str = "earliest") -> Receiver:
        """Return a consumer of topics."""
        return Receiver(self.settings, self.site, group, roles, start=start)

    def publish(
        self, sender: Sender, role: str, record: dict[str, Any], *, key: str = "", partition: int | None = None
    ) -> None:
        """Encode and send one record."""
        sender.send(role, self.codec.encode(role, record), key=key, partition=partition)
