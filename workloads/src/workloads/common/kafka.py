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
from workloads.common.errors import NonRetriableError, RetriableError
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
        if transactional_id:
            self._guard(self._producer.init_transactions, _TIMEOUT_SECONDS)

    def send(
        self,
        role: str,
        value: bytes,
        *,
        key: str = "",
        partition: int | None = None,
        headers: dict[str, bytes] | None = None,
    ) -> None:
        """Hand one message to the producer; a full queue waits.

        Raises
        ------
        TooLargeError
            If it is larger than brokers and mirrors take.
        """
        require_small(self.name(role), self._limit, key.encode(), value, headers or {})
        where: dict[str, Any] = {} if partition is None else {"partition": partition}
        while True:
            try:
                self._producer.produce(
                    self.name(role),
                    value,
                    key=key.encode() or None,
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

    def begin(self) -> None:
        """Begin a transaction."""
        self._guard(self._producer.begin_transaction)

    def commit(self, consumer: Receiver | None = None, done: Received | None = None) -> None:
        """Commit the transaction; with `done`, the offset after it is part of the same transaction.

        Raises
        ------
        RetriableError
            If the transaction was aborted.
        NonRetriableError
            If this producer was fenced.
        """
        if consumer is not None and done is not None:
            position = [TopicPartition(done.topic, done.partition, done.offset + 1)]
            self._guard(self._producer.send_offsets_to_transaction, position, consumer.group_metadata, _TIMEOUT_SECONDS)
        self._guard(self._producer.commit_transaction, _TIMEOUT_SECONDS)

    def abort(self) -> None:
        """Abort the transaction."""
        self._failures.clear()
        self._guard(self._producer.abort_transaction, _TIMEOUT_SECONDS)

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
            kind = NonRetriableError if error.fatal() else RetriableError
            raise kind(f"Kafka transaction: {error.str()}") from exception


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


def topic_identity(settings: Settings, site: str, group: str, role: str) -> str:
    """Return what tells a topic from one of the same name that was deleted: offsets of the two mean different records."""
    name = settings.read_topic(role, site, group)
    try:
        [answer] = AdminClient(settings.kafka_options(site)).describe_topics(TopicCollection([name])).values()
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
    ) -> None:
        self._marks = marks or {}
        wanted = dict.fromkeys([*roles, *(role for role, _ in partitions)])
        names = {role: settings.read_topic(role, site, group) for role in wanted}
        self._roles = {name: role for role, name in names.items()}
        self._consumer = Consumer(
            settings.kafka_options(site)
            | {
                "group.id": group,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": start,
                "fetch.wait.max.ms": 2000,  # a record is handed out at once; this is how often an idle consumer asks again
                "fetch.message.max.bytes": settings.site.kafka[site].message_bytes,
                "allow.auto.create.topics": False,
                "topic.metadata.refresh.interval.ms": 5000,
                "partition.assignment.strategy": "cooperative-sticky",
            }
        )
        if roles:
            self._consumer.subscribe(list(names.values()))
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
        found = []
        for message in self._consumer.consume(most, timeout):
            error = message.error()
            if error is None:
                found.append(_received(message, self._roles))
            elif not error.retriable() and error.code() not in (
                KafkaError._PARTITION_EOF,  # noqa: SLF001 - librdkafka names its own codes so
                KafkaError.UNKNOWN_TOPIC_OR_PART,
            ):
                raise RetriableError(f"Kafka: {error.str()}")
            else:
                LOG.warning("Kafka: %s", error.str())
        return found

    def messages(self, *, until: float | None = None) -> Iterator[Received]:
        """Yield messages one by one, for ever or until the clock says `until` (Unix seconds)."""
        while until is None or time.time() < until:
            yield from self.receive(most=1)

    def commit(self, *done: Received) -> None:
        """Commit the offsets after `done`.

        Raises
        ------
        RetriableError
            If Kafka does not take them: these messages may come again.
        """
        if done:
            after: dict[tuple[str, int], int] = {}
            for message in done:
                where = (message.topic, message.partition)
                after[where] = max(after.get(where, 0), message.offset + 1)
            try:
                self._consumer.commit(
                    offsets=[TopicPartition(t, p, o) for (t, p), o in after.items()], asynchronous=False
                )
            except KafkaException as exception:
                raise RetriableError(f"Kafka, offsets not committed: {exception.args[0].str()}") from exception

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
        """What encodes and decodes records."""
        return Codec(RegistryClient(self.settings.service("schema-registry")))

    def sender(self, *roles: str, transactional_id: str | None = None) -> Sender:
        """Return a producer for topics."""
        return Sender(self.settings, self.site, *roles, transactional_id=transactional_id)

    def receiver(self, group: str, *roles: str, start: str = "earliest") -> Receiver:
        """Return a consumer of topics."""
        return Receiver(self.settings, self.site, group, roles, start=start)

    def publish(
        self, sender: Sender, role: str, record: dict[str, Any], *, key: str = "", partition: int | None = None
    ) -> None:
        """Encode and send one record."""
        sender.send(role, self.codec.encode(sender.name(role), record), key=key, partition=partition)
