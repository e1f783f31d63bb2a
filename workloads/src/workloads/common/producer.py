"""Producers of Kafka, idempotent or transactional."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from workloads.common.consumer import Receiver
from workloads.common.errors import AwayError, FencedError, NonRetriableError, RetriableError
from workloads.common.received import TIMEOUT_SECONDS, Received, after_all, returning
from workloads.common.settings import Settings
from workloads.common.sizes import require_small


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
            self._guard(self._producer.init_transactions, TIMEOUT_SECONDS)

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

    def flush(self, timeout: float = TIMEOUT_SECONDS) -> None:
        """Wait until all is delivered.

        Raises
        ------
        AwayError
            If something was not, or not in `timeout` seconds.
        """
        left = self._producer.flush(timeout)
        failures, self._failures = self._failures, []
        if left or failures:
            raise AwayError(f"Kafka: {left} messages not delivered in {timeout:g} s; {'; '.join(failures[:3])}")

    @contextmanager
    def transaction(self, consumer: Receiver, *done: Received) -> Iterator[None]:
        """Make what the body sends, and the offsets after `done`, one transaction; an error of the body aborts it.

        Raises
        ------
        AwayError
            If Kafka does not take the transaction: it was aborted.
        FencedError
            If this producer cannot go on.
        """
        self._guard(self._producer.begin_transaction)
        try:
            yield
            if done:
                after = [TopicPartition(*where, offset) for where, offset in after_all(done).items()]
                self._guard(self._producer.send_offsets_to_transaction, after, consumer.group_metadata, TIMEOUT_SECONDS)
            self._guard(self._producer.commit_transaction, TIMEOUT_SECONDS)
        except FencedError:
            raise
        except BaseException:
            self._abort()
            raise

    def _abort(self) -> None:
        self._failures.clear()
        try:
            self._guard(self._producer.abort_transaction, TIMEOUT_SECONDS)
        except RetriableError as error:
            raise FencedError(f"{error}; neither committed nor aborted") from error

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failures.append(f"{message.topic()}: {error.str()}")

    @staticmethod
    def _guard(call: Any, *arguments: Any) -> None:
        try:
            with returning(call.__name__):
                call(*arguments)
        except KafkaException as exception:
            error = exception.args[0]
            kind = FencedError if error.fatal() else AwayError
            raise kind(f"Kafka transaction: {error.str()}") from exception
