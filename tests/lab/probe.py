"""Asks real systems for what principals may do, from where it is run: ``python probe.py kafka|store|database``.

Standard input has the system's address and the cells, each with the credentials of its principal (`known` where it has any); standard output gets one
word for each: `allowed`, `refused` where the system itself says that this one may not, or what else came of it. Nothing that
is asked for changes anything: records are too large, objects do not have their digest, transactions are rolled back.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

THREADS = 12
SECONDS = 15.0
TOO_LARGE = 4_400_000
"""Bytes of a record that a client may send, and no broker takes."""
Cell = dict[str, Any]
ALLOWED, REFUSED = "allowed", "refused"
_KNOWN: dict[str, bool] = {}
"""Whether a user of Kafka may log in."""
_CLIENTS: dict[str, Any] = {}
"""By user: of Kafka those that log in, since answers go with the client that asked; of a store all."""
_KNOWING: dict[str, threading.Lock] = {}
"""By user: only one thread finds out, or makes a client."""


# -- Kafka -------------------------------------------------------------------------------------------------------------


def kafka(system: dict[str, Any], cell: Cell) -> str:
    """Ask a broker."""
    from confluent_kafka import KafkaException

    options = {
        "bootstrap.servers": system["address"],
        "security.protocol": "SASL_SSL" if system["authority"] else "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": cell["user"],
        "sasl.password": cell["password"],
        "log_level": 0,
    } | ({"ssl.ca.location": system["authority"]} if system["authority"] else {})
    asked = {"topic": {"read": _reads, "write": _writes}, "group": {"commit": _commits, "describe": _describes}}
    try:
        if not _is_known(options):
            return REFUSED
        ask = asked[cell["kind"]][cell["verb"]] if cell["kind"] in asked else _begins
        outcome = ask(options, system, cell)
    except KafkaException as error:
        outcome = error.args[0].name()
    return REFUSED if outcome.endswith("_AUTHORIZATION_FAILED") else outcome


def _is_known(options: dict[str, Any]) -> bool:
    """Say whether a user may log in; those that do not answer within the time limit raise."""
    user = options["sasl.username"]
    with _KNOWING.setdefault(user, threading.Lock()):
        if user not in _KNOWN:
            _KNOWN[user] = _logs_in(options)
        return _KNOWN[user]


def _logs_in(options: dict[str, Any]) -> bool:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    said: list[str] = []
    client = AdminClient(options | {"error_cb": lambda error: said.append(error.name())})
    deadline = time.monotonic() + SECONDS
    while "_AUTHENTICATION" not in said:
        try:
            client.list_topics(timeout=1.0)
        except KafkaException:
            client.poll(0)
            if time.monotonic() > deadline:
                raise
        else:
            _CLIENTS[options["sasl.username"]] = client
            return True
    return False


def _reads(options: dict[str, Any], _: dict[str, Any], cell: Cell) -> str:
    from confluent_kafka import OFFSET_END, Consumer, TopicPartition

    own = {"group.id": "probe", "enable.auto.commit": False, "enable.partition.eof": True}
    consumer = Consumer(options | own)
    try:
        described = consumer.list_topics(cell["thing"], timeout=SECONDS).topics[cell["thing"]]
        if described.error is not None:
            return str(described.error.name())
        consumer.assign([TopicPartition(cell["thing"], 0, OFFSET_END)])
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            message = consumer.poll(1.0)
            error = message.error() if message is not None else None
            if message is not None and (error is None or error.name() == "_PARTITION_EOF"):
                return ALLOWED
            if error is not None and error.name() != "GROUP_AUTHORIZATION_FAILED":  # its group is nobody's
                return str(error.name())
        return "no answer"
    finally:
        consumer.close()


def _writes(options: dict[str, Any], _: dict[str, Any], cell: Cell) -> str:
    from confluent_kafka import Producer

    outcomes: list[str] = []
    own = {"message.max.bytes": 2 * TOO_LARGE, "message.timeout.ms": int(SECONDS * 1000), "retries": 0}
    producer = Producer(options | own)
    described = producer.list_topics(cell["thing"], timeout=SECONDS).topics[cell["thing"]]
    if described.error is not None:
        return str(described.error.name())
    producer.produce(
        cell["thing"],
        os.urandom(TOO_LARGE),
        key=b"probe",
        on_delivery=lambda error, _: outcomes.append(error.name() if error else "stored"),
    )
    producer.flush(SECONDS)
    return ALLOWED if outcomes == ["MSG_SIZE_TOO_LARGE"] else "".join(outcomes) or "no answer"


def _place(system: dict[str, Any], cell: Cell, offset: int) -> Any:
    """Return a place in a topic that the group reads, as the requests about groups have it."""
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

    topic = system["topics"].get(cell["thing"], system["topics"]["any"])
    return ConsumerGroupTopicPartitions(cell["thing"], [TopicPartition(topic, 0, offset)])


def _committed(options: dict[str, Any], system: dict[str, Any], cell: Cell) -> Any:
    from confluent_kafka import OFFSET_INVALID

    client = _CLIENTS[options["sasl.username"]]
    [answer] = client.list_consumer_group_offsets([_place(system, cell, OFFSET_INVALID)]).values()
    return answer.result(timeout=SECONDS).topic_partitions[0]


def _describes(options: dict[str, Any], system: dict[str, Any], cell: Cell) -> str:
    error = _committed(options, system, cell).error
    return ALLOWED if error is None or error.name().startswith("TOPIC_") else str(error.name())


def _commits(options: dict[str, Any], system: dict[str, Any], cell: Cell) -> str:
    """Commit what is committed; a group whose members are at work refuses others, but only after it has asked for rights."""
    from confluent_kafka import KafkaException

    offset = max(_committed(options, system, cell).offset, 0)
    client = _CLIENTS[options["sasl.username"]]
    try:
        [answer] = client.alter_consumer_group_offsets([_place(system, cell, offset)]).values()
        error = answer.result(timeout=SECONDS).topic_partitions[0].error
    except KafkaException as exception:
        error = exception.args[0]
    return (
        ALLOWED if error is None or error.name() in ("UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION") else str(error.name())
    )


def _begins(options: dict[str, Any], _: dict[str, Any], cell: Cell) -> str:
    from confluent_kafka import Producer

    Producer(options | {"transactional.id": cell["thing"]}).init_transactions(SECONDS)
    return ALLOWED


# -- stores ------------------------------------------------------------------------------------------------------------


def store(system: dict[str, Any], cell: Cell) -> str:
    """Ask a store; the errors with which it refuses are those of access, and that it does not know who asks."""
    from botocore.exceptions import ClientError

    client, bucket, key = _client(system, cell), cell["kind"], cell["thing"]
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
    return "stored" if cell["verb"] == "write" else ALLOWED


def _client(system: dict[str, Any], cell: Cell) -> Any:
    """Return the client of a user: to make one takes longer than to ask by it."""
    user = cell["user"]
    with _KNOWING.setdefault(user, threading.Lock()):
        if user not in _CLIENTS:
            _CLIENTS[user] = _made_client(system, cell)
        return _CLIENTS[user]


def _made_client(system: dict[str, Any], cell: Cell) -> Any:
    import boto3
    from botocore.config import Config

    own = Config(
        s3={"addressing_style": "path"},
        connect_timeout=10,
        read_timeout=SECONDS,
        retries={"total_max_attempts": 1},
        max_pool_connections=THREADS,
    )
    return boto3.session.Session().client(
        "s3",
        endpoint_url=system["address"],
        region_name="us-east-1",
        aws_access_key_id=cell["user"],
        aws_secret_access_key=cell["password"],
        verify=system["authority"] or None,
        config=own,
    )


# -- databases ---------------------------------------------------------------------------------------------------------


def database(system: dict[str, Any], cell: Cell) -> str:
    """Ask a database server for a table's rows, or for a new table in a transaction that is rolled back."""
    import psycopg

    host, _, port = system["address"].partition(":")
    trust = {"sslmode": "verify-full", "sslrootcert": system["authority"]} if system["authority"] else {}
    who = {"user": cell["user"], "password": cell["password"], "dbname": cell["thing"], **trust}
    try:
        with psycopg.connect(host=host, port=int(port), connect_timeout=int(SECONDS), **who) as connection:
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
    """Answer every cell."""
    ask = {"kafka": kafka, "store": store, "database": database}[sys.argv[1]]
    given = json.load(sys.stdin)

    def answer(cell: Cell) -> str:
        try:
            return ask(given["system"], cell)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is neither allowed nor refused
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(THREADS) as pool:
        json.dump(list(pool.map(answer, given["cells"])), sys.stdout)


if __name__ == "__main__":
    main()
