"""Kafka as its client library shows it, in memory and by a virtual clock: what consumers of the workloads are tested with.

Consumers have places, pauses, ends of partitions and committed offsets with metadata; producers have transactions, which
leave a marker behind that takes an offset, as Kafka's do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from dpp.model.environment import Environment
from dpp.model.principals import Principals
from dpp.model.rights import secrets_of
from dpp.model.surroundings import surroundings
from workloads.common import consumer, kafka, producer, schemas
from workloads.common.avro import Codec
from workloads.common.errors import AwayError, UnknownSchemaError
from workloads.common.kafka import Bus
from workloads.common.settings import Settings

Where = tuple[str, int]


class Clock:
    """Seconds that pass only where somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class _Record:
    value: bytes | None
    key: bytes | None = None
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    timestamp: float = 1.8e9


class _Message:
    def __init__(self, where: Where, offset: int, record: _Record | None, error: KafkaError | None = None) -> None:
        self._where, self._offset, self._record, self._error = where, offset, record, error

    def error(self) -> KafkaError | None:
        return self._error

    def topic(self) -> str:
        return self._where[0]

    def partition(self) -> int:
        return self._where[1]

    def offset(self) -> int:
        return self._offset

    def __getattr__(self, name: str) -> Callable[[], Any]:
        value = getattr(self._record, name)
        return lambda: (1, int(value * 1000)) if name == "timestamp" else value


class Broker:
    """Topics and the offsets of groups."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.partitions: dict[Where, list[_Record | None]] = defaultdict(list)
        self.offsets: dict[tuple[str, Where], tuple[int, str]] = {}
        self.away = False
        self.asked: dict[str, int] = defaultdict(int)
        """How often each group has asked for messages: one that does not is thrown out."""

    def append(self, topic: str, value: bytes | None, partition: int = 0, **more: Any) -> int:
        log = self.partitions[topic, partition]
        log.append(_Record(value, **more))
        return len(log) - 1

    def place(self, group: str, topic: str, partition: int = 0) -> tuple[int, str] | None:
        return self.offsets.get((group, (topic, partition)))

    def answer(self) -> None:
        if self.away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT, "broker is away"))

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the workloads' clients talk to this broker."""
        monkeypatch.setattr(consumer, "Consumer", lambda options: Consumer(self, options))
        monkeypatch.setattr(producer, "Producer", lambda options: Producer(self, options))
        monkeypatch.setattr(kafka, "AdminClient", lambda _: _Admin(self))


class _Admin:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def list_topics(self, timeout: float) -> Any:
        del timeout
        self._broker.answer()
        topics: dict[str, Any] = defaultdict(lambda: _Topic({}))
        for topic, number in self._broker.partitions:
            topics[topic].partitions[number] = None
        return _Topics(dict(topics))


@dataclass
class _Topic:
    partitions: dict[int, None]


@dataclass
class _Topics:
    topics: dict[str, _Topic]


class Consumer:
    """A consumer of one group; a second one of the group takes nothing."""

    def __init__(self, broker: Broker, options: dict[str, Any]) -> None:
        self._broker, self._group = broker, options["group.id"]
        self._latest = options["auto.offset.reset"] == "latest"
        self._positions: dict[Where, int] = {}
        self._paused: set[Where] = set()
        self._told: set[Where] = set()

    def subscribe(self, topics: list[str], **_: Any) -> None:
        for topic in topics:
            self._broker.partitions[topic, 0]  # a topic has a partition
        for where in [where for where in self._broker.partitions if where[0] in topics]:
            place = self._broker.offsets.get((self._group, where))
            self._positions[where] = place[0] if place else len(self._broker.partitions[where]) if self._latest else 0

    def assign(self, partitions: list[TopicPartition]) -> None:
        self._positions = {(one.topic, one.partition): one.offset for one in partitions}

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(*where) for where in self._positions]

    def committed(self, partitions: list[TopicPartition], _: float) -> list[TopicPartition]:
        self._broker.answer()
        found = [(one, self._broker.place(self._group, one.topic, one.partition) or (-1001, "")) for one in partitions]
        return [TopicPartition(one.topic, one.partition, *place) for one, place in found]

    def get_watermark_offsets(self, partition: TopicPartition, _: float) -> tuple[int, int]:
        return 0, len(self._broker.partitions[partition.topic, partition.partition])

    def pause(self, partitions: list[TopicPartition]) -> None:
        self._paused |= {(one.topic, one.partition) for one in partitions}

    def resume(self, partitions: list[TopicPartition]) -> None:
        self._paused -= {(one.topic, one.partition) for one in partitions}

    def consume(self, most: int, timeout: float) -> list[_Message]:
        self._broker.asked[self._group] += 1
        found = [] if self._broker.away else list(self._ready(most))
        if not any(message.error() is None for message in found):
            self._broker.clock.now += timeout
        return found

    def _ready(self, most: int) -> Iterable[_Message]:
        for where in self._positions:
            log = self._broker.partitions[where]
            while where not in self._paused and most and self._positions[where] < len(log):
                offset = self._positions[where]
                self._positions[where] += 1
                self._told.discard(where)
                if (record := log[offset]) is not None:
                    most -= 1
                    yield _Message(where, offset, record)
            if where not in self._paused and self._positions[where] >= len(log) and where not in self._told:
                self._told.add(where)
                yield _Message(where, len(log), None, KafkaError(KafkaError._PARTITION_EOF))

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition] | None:
        if asynchronous and self._broker.away:
            return None
        self._broker.answer()
        for one in offsets:
            self._broker.offsets[self._group, (one.topic, one.partition)] = one.offset, one.metadata or ""
        return None if asynchronous else [TopicPartition(one.topic, one.partition, one.offset) for one in offsets]

    def consumer_group_metadata(self) -> str:
        return self._group

    def close(self) -> None:
        self._positions = {}


class Producer:
    """A producer; what it has not delivered goes with its next flush or transaction."""

    def __init__(self, broker: Broker, options: dict[str, Any]) -> None:
        self._broker, self._transactional = broker, "transactional.id" in options
        self._sent: list[tuple[Where, _Record]] = []
        self._places: list[tuple[str, TopicPartition]] = []

    def produce(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None,
        headers: list[tuple[str, bytes]],
        partition: int = 0,
        on_delivery: Any,
    ) -> None:
        del on_delivery
        self._sent.append(((topic, partition), _Record(value, key, headers)))

    def poll(self, _: float) -> int:
        return 0

    def flush(self, _: float) -> int:
        if not self._broker.away and not self._transactional:
            self._deliver()
        return len(self._sent)

    def _deliver(self) -> set[Where]:
        for where, record in self._sent:
            self._broker.partitions[where].append(record)
        touched = {where for where, _ in self._sent}
        self._sent = []
        return touched

    def init_transactions(self, _: float) -> None:
        self._broker.answer()

    def begin_transaction(self) -> None:
        assert not self._sent
        assert not self._places

    def send_offsets_to_transaction(self, offsets: list[TopicPartition], group: str, _: float) -> None:
        self._broker.answer()
        self._places += [(group, one) for one in offsets]

    def commit_transaction(self, _: float) -> None:
        self._broker.answer()
        for where in self._deliver():
            self._broker.partitions[where].append(None)
        for group, one in self._places:
            self._broker.offsets[group, (one.topic, one.partition)] = one.offset, one.metadata or ""
        self._places = []

    def abort_transaction(self, _: float) -> None:
        self._sent, self._places = [], []


class Registry:
    """A registry that knows what it is told, and may be away."""

    def __init__(self) -> None:
        self.known: dict[int, dict[str, Any]] = {}
        self.away = False

    def schema(self, schema_id: int) -> dict[str, Any]:
        if self.away:
            raise AwayError("registry: away")
        if schema_id not in self.known:
            raise UnknownSchemaError(f"schema {schema_id}: not found")
        return self.known[schema_id]


class Site:
    """A principal at a site of the lab, with its contract, on a broker in memory."""

    def __init__(
        self, folder: Path, broker: Broker, principal: str, site: str, principals: Principals | None = None
    ) -> None:
        principals = principals or Principals.load(Environment.load("lab"))
        place = folder / principal
        place.mkdir(exist_ok=True)
        (place / "site.yml").write_text(yaml.safe_dump(surroundings(principals, principal, site)))
        for secret in secrets_of(principals, principal, site):
            (place / secret).write_text("secret")
        self.broker, self.registry = broker, Registry()
        self.bus = Bus(Settings(place / "site.yml", place, place / "ca.crt"))
        self.names = {role: topic.name for role, topic in principals.topics.items()}
        self.codec = Codec(self.names, self.registry)
        self.registry.known = {one.id: one.definition for one in schemas.topics(self.names).values()}
        self.bus.codec = Codec(
            {role: topic.name for role, topic in self.bus.settings.site.topics.items()}, self.registry
        )
        broker.partitions[self.names["set-aside"], 0]  # it is made with the broker

    def publish(self, role: str, value: bytes, partition: int = 0, **more: Any) -> int:
        return self.broker.append(self.names[role], value, partition, **more)

    def record(self, role: str, **fields: Any) -> bytes:
        """Return a message of a topic: a whole record, with these fields."""
        return self.codec.encode(role, {**_DEFAULTS[role], **fields})


_SAL = {
    "salIndex": 0, "private_sndStamp": 1.0, "private_efdStamp": 1.0, "private_kafkaStamp": 1.0, "private_rcvStamp": 0.0,
    "private_seqNum": 1, "private_origin": 1, "private_revCode": "1", "private_identity": "ocs",
}  # fmt: skip
_DEFAULTS: dict[str, dict[str, Any]] = {
    "next-visit": _SAL | {
        "scriptSalIndex": 1, "groupId": "g", "coordinateSystem": 1, "position": [10.0, -20.0], "startTime": 1.0,
        "rotationSystem": 1, "cameraAngle": 0.0, "filters": "r", "dome": 2, "duration": 30.0, "nimages": 1,
        "instrument": "LSSTCam", "survey": "lab", "totalCheckpoints": 0,
    },
    "readouts": _SAL | {
        "imageName": "MC_O_20261122_000001", "imageSource": "MC", "imageController": "O", "imageDate": "20261122",
        "imageNumber": 1, "imageIndex": 1, "imagesInSequence": 1, "requestedExposureTime": 30.0,
        "timestampAcquisitionStart": 1.0, "timestampEndOfReadout": 2.0, "additionalKeys": "", "additionalValues": "",
    },
    "forwarded": {
        "obsId": "MC_O_20261122_000001", "detector": "R22_S11", "key": "a", "sha256": "0", "size": 1, "site": "base",
        "everywhere": False, "time": 1.0,
    },
    "ledger": {
        "groupId": "g", "obsId": "MC_O_20261122_000001", "detector": "R22_S11", "step": "processed", "time": 1.0,
        "service": "prompt-processing", "site": "ncsa", "reason": "", "figures": {},
    },
    "ingested": {
        "obsId": "MC_O_20261122_000001", "exposure": 2026112200001, "detector": 94, "detectorName": "R22_S11",
        "groupId": "g", "uri": "s3://raw/a", "sha256": "0", "size": 1, "endOfReadout": 1.0, "ingested": 1.0,
    },
}  # fmt: skip
