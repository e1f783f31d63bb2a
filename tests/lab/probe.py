"""Asks real systems for what principals may do, from where it is run: ``python probe.py kafka|store|database``.

Standard input has the system's address and the cells, each with the credentials of its principal (`known` where it has any); standard output gets one
word for each: `allowed`, `refused` where the system itself says that this one may not, or what else came of it. Nothing that
is asked for changes anything: records are too large, objects do not have their digest, transactions are rolled back.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

THREADS = 12
SECONDS = 15.0
TOO_LARGE = 4_400_000
"""Bytes of a record that a client may send, and no broker takes."""
Cell = dict[str, Any]
ALLOWED, REFUSED = "allowed", "refused"
Ask = Callable[[Cell], str]
_STARTING = frozenset({"COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR"})
"""What a broker says of a group for the first time."""


# -- Kafka -------------------------------------------------------------------------------------------------------------


def kafka(system: dict[str, Any], user: str, password: str) -> Ask:
    """Return what asks a broker as a user.

    One thread uses the clients of a user, and none of them is ever closed: the client library has crashed where many came and
    went at once.
    """
    from confluent_kafka import KafkaException

    options = {
        "bootstrap.servers": system["address"],
        "security.protocol": "SASL_SSL" if system["authority"] else "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user,
        "sasl.password": password,
        "log_level": 0,
    } | ({"ssl.ca.location": system["authority"]} if system["authority"] else {})
    client = _KafkaUser(options, system["topics"])

    def once(cell: Cell) -> str:
        try:
            return client.tries(cell["kind"], cell["verb"], cell["thing"]) if client.logs_in else REFUSED
        except KafkaException as error:
            return str(error.args[0].name())

    def ask(cell: Cell) -> str:
        deadline = time.monotonic() + SECONDS
        while (outcome := once(cell)) in _STARTING and time.monotonic() < deadline:
            time.sleep(0.2)
        return REFUSED if outcome.endswith("_AUTHORIZATION_FAILED") else outcome

    return ask


class _KafkaUser:
    """The clients of one user, made when they are first needed."""

    def __init__(self, options: dict[str, Any], topics: dict[str, str]) -> None:
        self._options, self._topics = options, topics
        self._transactional: list[Any] = []

    def tries(self, kind: str, verb: str, thing: str) -> str:
        """Return what came of it: `ALLOWED`, or the name of an error."""
        asked = {
            ("topic", "read"): self._reads,
            ("topic", "write"): self._writes,
            ("group", "describe"): self._describes,
            ("group", "commit"): self._commits,
            ("transactional id", "write"): self._begins,
        }
        return asked[kind, verb](thing)

    @cached_property
    def logs_in(self) -> bool:
        """Whether the user may log in; one that is not answered within the time limit raises."""
        from confluent_kafka import KafkaException

        deadline = time.monotonic() + SECONDS
        while "_AUTHENTICATION" not in self._said:
            try:
                self._admin.list_topics(timeout=1.0)
            except KafkaException:
                self._admin.poll(0)
                if time.monotonic() > deadline:
                    raise
            else:
                return True
        return False

    @cached_property
    def _said(self) -> list[str]:
        return []

    @cached_property
    def _admin(self) -> Any:
        from confluent_kafka.admin import AdminClient

        return AdminClient(self._options | {"error_cb": lambda error: self._said.append(error.name())})

    @cached_property
    def _consumer(self) -> Any:
        from confluent_kafka import Consumer

        return Consumer(
            self._options | {"group.id": "probe", "enable.auto.commit": False, "enable.partition.eof": True}
        )

    @cached_property
    def _producer(self) -> Any:
        from confluent_kafka import Producer

        own = {"message.max.bytes": 2 * TOO_LARGE, "message.timeout.ms": int(SECONDS * 1000), "retries": 0}
        return Producer(self._options | own)

    def _described(self, topic: str) -> str:
        error = self._admin.list_topics(topic, timeout=SECONDS).topics[topic].error
        return "" if error is None else str(error.name())

    def _reads(self, topic: str) -> str:
        from confluent_kafka import OFFSET_END, TopicPartition

        if refused := self._described(topic):
            return refused
        self._consumer.assign([TopicPartition(topic, 0, OFFSET_END)])
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            message = self._consumer.poll(1.0)
            error = message.error() if message is not None else None
            if message is not None and message.topic() == topic and (error is None or error.name() == "_PARTITION_EOF"):
                return ALLOWED
            if error is not None and error.name() not in (
                "GROUP_AUTHORIZATION_FAILED",
                "_PARTITION_EOF",
            ):  # its group is nobody's
                return str(error.name())
        return "no answer"

    def _writes(self, topic: str) -> str:
        if refused := self._described(topic):
            return refused
        outcomes: list[str] = []
        self._producer.produce(
            topic,
            os.urandom(TOO_LARGE),
            key=b"probe",
            on_delivery=lambda error, _: outcomes.append(error.name() if error else "stored"),
        )
        self._producer.flush(SECONDS)
        return ALLOWED if outcomes == ["MSG_SIZE_TOO_LARGE"] else "".join(outcomes) or "no answer"

    def _place(self, group: str, offset: int) -> Any:
        """Return a place in a topic that the group reads, as the requests about groups have it."""
        from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

        topic = self._topics.get(group, self._topics["any"])
        return ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, offset)])

    def _committed(self, group: str) -> Any:
        from confluent_kafka import OFFSET_INVALID

        [answer] = self._admin.list_consumer_group_offsets([self._place(group, OFFSET_INVALID)]).values()
        return answer.result(timeout=SECONDS).topic_partitions[0]

    def _describes(self, group: str) -> str:
        error = self._committed(group).error
        return ALLOWED if error is None or error.name().startswith("TOPIC_") else str(error.name())

    def _commits(self, group: str) -> str:
        """Commit what is committed; a group whose members are at work refuses others, but only after it has asked for rights.

        By a consumer of the group: the administrators' request for it ends the process where some are refused.
        """
        from confluent_kafka import Consumer, KafkaException, TopicPartition

        place = TopicPartition(self._topics.get(group, self._topics["any"]), 0, max(self._committed(group).offset, 0))
        consumer = Consumer(self._options | {"group.id": group, "enable.auto.commit": False})
        try:
            consumer.commit(offsets=[place], asynchronous=False)
        except KafkaException as exception:
            error = exception.args[0].name()
            return ALLOWED if error in ("UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION") or error.startswith("TOPIC_") else str(error)  # fmt: skip
        finally:
            consumer.close()
        return ALLOWED

    def _begins(self, name: str) -> str:
        from confluent_kafka import Producer

        self._transactional.append(Producer(self._options | {"transactional.id": name}))
        self._transactional[-1].init_transactions(SECONDS)
        return ALLOWED


# -- stores ------------------------------------------------------------------------------------------------------------


def store(system: dict[str, Any], user: str, password: str) -> Ask:
    """Return what asks a store as a user; it refuses by errors of access, and by not knowing who asks."""
    from botocore.exceptions import ClientError

    client = _client(system, user, password)

    def ask(cell: Cell) -> str:
        bucket, key = cell["kind"], cell["thing"]
        calls: dict[str, Callable[[], Any]] = {
            "read": lambda: client.get_object(Bucket=bucket, Key=key),
            "write": lambda: client.put_object(Bucket=bucket, Key=key, Body=b"probe", ContentMD5="A" * 22 + "=="),
            "list": lambda: client.list_objects_v2(Bucket=bucket, MaxKeys=1),
            "delete": lambda: client.delete_object(Bucket=bucket, Key=key),
        }
        try:
            calls[cell["verb"]]()
        except ClientError as error:
            code = str(error.response["Error"]["Code"])
            if code in ("AccessDenied", "InvalidAccessKeyId"):
                return REFUSED
            return ALLOWED if code in ("NoSuchKey", "BadDigest") else code
        finally:
            if cell["verb"] == "write":  # of one that is refused the store may take the body for the next request
                client.close()
        return "stored" if cell["verb"] == "write" else ALLOWED

    return ask


def _client(system: dict[str, Any], user: str, password: str) -> Any:
    import boto3
    from botocore.config import Config

    own = Config(
        s3={"addressing_style": "path"},
        connect_timeout=10,
        read_timeout=SECONDS,
        retries={"total_max_attempts": 1},
    )
    return boto3.session.Session().client(
        "s3",
        endpoint_url=system["address"],
        region_name="us-east-1",
        aws_access_key_id=user,
        aws_secret_access_key=password,
        verify=system["authority"] or None,
        config=own,
    )


# -- databases ---------------------------------------------------------------------------------------------------------


def database(system: dict[str, Any], user: str, password: str) -> Ask:
    """Return what asks a database server as a user: for a table's rows, or for a new table that is rolled back."""
    host, _, port = system["address"].partition(":")
    trust = {"sslmode": "verify-full", "sslrootcert": system["authority"]} if system["authority"] else {}
    where = {"host": host, "port": int(port), "connect_timeout": int(SECONDS)} | trust
    return lambda cell: _database(cell, where | {"user": user, "password": password, "dbname": cell["thing"]})


def _database(cell: Cell, options: dict[str, Any]) -> str:
    import psycopg

    try:
        with psycopg.connect(**options) as connection:
            if cell["verb"] == "write":
                connection.execute("CREATE TABLE probe (number int)")
                connection.execute("INSERT INTO probe VALUES (1)")
            else:
                tables = connection.execute("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'")
                for (table,) in tables.fetchall():
                    connection.execute(f"SELECT * FROM {table} LIMIT 0")  # type: ignore[arg-type]  # noqa: S608 - quoted
            connection.rollback()
    except psycopg.errors.InsufficientPrivilege:
        return REFUSED
    except psycopg.OperationalError as error:
        denied = ["permission denied for database", "password authentication failed"]
        if not cell["known"]:
            denied.append("no pg_hba.conf entry")  # which lets in those that there are
        return REFUSED if any(words in str(error) for words in denied) else " ".join(str(error).split())
    return ALLOWED


def main() -> None:
    """Answer every cell, those of one user one after the other."""
    asks = {"kafka": kafka, "store": store, "database": database}[sys.argv[1]]
    given = json.load(sys.stdin)
    cells: list[Cell] = given["cells"]
    answers = [""] * len(cells)

    def answer(numbers: list[int]) -> None:
        first = cells[numbers[0]]
        ask = asks(given["system"], first["user"], first["password"])
        for number in numbers:
            try:
                answers[number] = ask(cells[number])
            except Exception as error:  # noqa: BLE001 - whatever it is, it is neither allowed nor refused
                answers[number] = f"{type(error).__name__}: {error}"

    users: dict[str, list[int]] = {}
    for number, cell in enumerate(cells):
        users.setdefault(cell["user"], []).append(number)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(answer, users.values()))
    json.dump(answers, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # without closing clients one by one


if __name__ == "__main__":
    main()
