"""Sees every committed alert, and stamps a detector's visit when all its alerts are out.

A visit may stay open for minutes while others come and go. Offsets are committed up to the oldest message of what is open; what
comes again after a restart was answered or not, as the ledger says, which is read to its end before anything is stamped.
"""

from __future__ import annotations

import io
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import fastavro
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from prometheus_client import Counter, Gauge, Histogram

from workloads.common import schemas
from workloads.common.avro import SchemasById, unframe
from workloads.common.consume import Delivery
from workloads.common.errors import NonRetriableError
from workloads.common.kafka import Received
from workloads.common.ledger import TOPIC as LEDGER
from workloads.common.ledger import Ledger, Step, Subject
from workloads.common.names import ExposureName
from workloads.common.settings import Settings
from workloads.common.times import tai_now

LOG = logging.getLogger(__name__)
ALERTS = "alerts"
DISTRIBUTED = Counter("alerts_distributed", "Alerts that stand in the stream")
BYTES = Counter("alerts_bytes", "Bytes of alerts")
LATENCY = Histogram(
    "alerts_latency_seconds", "End of readout to the stream", buckets=(5, 10, 15, 20, 30, 45, 60, 90, 120, 300)
)
_ANSWER_SECONDS = 10.0
SHORT_SECONDS = 300.0
"""After so long without news a visit's alerts are not all coming: they stand in the stream in one transaction."""
LAG = Gauge("alerts_lag", "Alerts that a group has not read", ["group"])
_REMEMBERED = 40_000
"""Detectors of visits that were answered and are remembered: two hundred visits of the whole camera."""
Where = tuple[str, int]
Key = tuple[int, str]


@dataclass(frozen=True)
class Origin:
    """Whose alert a packet is: number of the visit and of the detector."""

    visit: int
    detector: int


class OriginReader:
    """Reads from a packet no more than its origin: a whole one, with a year of history, takes a thousand times as long.

    A record of Avro has no marks between its fields, so that a schema of the first few reads just those.

    Parameters
    ----------
    registry
        Where schemas are that are newer than this code.
    """

    def __init__(self, registry: SchemasById) -> None:
        self._registry = registry
        self._declared = {one.id: one.definition for one in schemas.alerts().values()}
        self._beginnings: dict[int, Any] = {}

    def __call__(self, message: Received) -> Origin:
        """Return the origin of the alert in a message.

        Raises
        ------
        NonRetriableError
            If its beginning is none of an alert.
        RetriableError
            If its schema cannot be had now.
        """
        schema_id, body = unframe(message.value)
        if schema_id not in self._beginnings:
            definition = self._declared.get(schema_id) or self._registry.schema(schema_id)
            self._beginnings[schema_id] = _beginning(definition)
        record: Any = fastavro.schemaless_reader(io.BytesIO(body), self._beginnings[schema_id], None)
        return Origin(int(record["diaSource"]["visit"]), int(record["diaSource"]["detector"]))


def _beginning(definition: dict[str, Any]) -> Any:
    """Return the schema of a packet's first fields, up to visit and detector of its source."""
    fields = definition.get("fields", ())
    source: dict[str, Any] = next((one["type"] for one in fields if one["name"] == "diaSource"), {})
    inner = source.get("fields", ())
    places = {one["name"]: number for number, one in enumerate(inner)}
    if not {"visit", "detector"} <= places.keys():
        name = definition.get("name", definition["type"])
        raise NonRetriableError(f"schema {name}: no visit and detector of a diaSource; expected an alert's")
    before = fields[: [one["name"] for one in fields].index("diaSource")]
    kept = {"name": "diaSource", "type": {**source, "fields": inner[: max(places["visit"], places["detector"]) + 1]}}
    return fastavro.parse_schema({"type": "record", "name": "beginning", "fields": [*before, kept]})


@dataclass
class _Detector:
    """What is known of one detector of a visit.

    `first` are the offsets of its first messages, by partition, `last` those of its last alerts.
    """

    news: float
    obs_id: str = ""
    expected: int = -1
    seen: int = 0
    group: str = ""
    time: float = 0.0
    end_of_readout: float = 0.0
    first: dict[Where, int] = field(default_factory=dict)
    last: dict[Where, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all of its alerts are in the stream."""
        return 0 <= self.expected <= self.seen


class Watch:
    """Counts alerts against what prompt processing says it sent.

    Parameters
    ----------
    ledger
        Where the stamp ``alerted`` goes.
    names
        Detector names by number.
    service
        By which name the ledger's stamps of this service are known.
    clock
        Seconds of a clock that is never set.
    """

    def __init__(
        self, ledger: Ledger, names: dict[int, str], service: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger, self._names, self._service, self._clock = ledger, names, service, clock
        self._open: dict[Key, _Detector] = {}
        """By the exposure's number and the detector: an alert does not say what triggered the exposure."""
        self._answered: dict[Key, None] = {}
        """The newest that were, in the order of their answers."""
        self._held: dict[Key, _Detector] = {}
        """Those of them of which alerts would come again after a restart."""
        self._next: dict[Where, int] = {}
        self._floors: dict[Where, float] | None = None
        """The oldest open messages, found once for all partitions; None when something has changed since."""

    @property
    def idle(self) -> bool:
        """Whether every visit that was heard of was answered."""
        return not self._open

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Take messages of the stream and of the ledger, each once, however often they are given."""
        self._floors = None
        for delivery in deliveries:
            message = delivery.message
            if message.offset < self._next.get(message.where, 0):
                continue
            if message.role == LEDGER:
                self._stamp(message, delivery.content)
            else:
                self._alert(message, delivery.content)
            self._next[message.where] = message.offset + 1

    def answer(self) -> None:
        """Stamp the detectors whose alerts are all in the stream, and those that had no news for long."""
        for key, state in list(self._open.items()):
            if state.complete:
                LATENCY.observe(state.time - state.end_of_readout)
                subject = Subject(state.obs_id, key[1], state.group)
                self._ledger.stamp(Step.ALERTED, subject, time=state.time, figures={"alerts": state.seen})
                self._close(key)
            elif self._clock() - state.news > SHORT_SECONDS:
                wanted = str(state.expected) if state.expected >= 0 else "an unknown number"
                reason = (
                    f"{state.seen} of {wanted} of its alerts are in the stream {SHORT_SECONDS:g} s after the last news"
                )
                LOG.error("%s %s: %s", state.obs_id or key[0], key[1], reason)
                subject = Subject(state.obs_id or str(key[0]), key[1], state.group)
                self._ledger.stamp(Step.LATE, subject, reason=reason)
                self._close(key)

    def oldest_open(self, where: Where) -> float:
        """Return the offset of the oldest message in a partition that must come again after a restart.

        Those are the messages of what is open. And of what was answered, the ledger's stamps as long as some of its alerts
        would come again: without them they would look like alerts of a visit that nobody knows.
        """
        if self._floors is None:
            self._floors = self._find_floors()
        return self._floors.get(where, math.inf)

    def _find_floors(self) -> dict[Where, float]:
        """Return those offsets by partition, and forget the messages of those of which no alert would come again."""
        floors: dict[Where, float] = {}
        for state in self._open.values():
            for where, offset in state.first.items():
                floors[where] = min(offset, floors.get(where, offset))
        for key, state in list(self._held.items()):
            if all(offset < floors.get(where, math.inf) for where, offset in state.last.items()):
                del self._held[key]
        for state in self._held.values():
            for where, offset in state.first.items():
                if where not in state.last:
                    floors[where] = min(offset, floors.get(where, offset))
        return floors

    def _alert(self, message: Received, origin: Origin) -> None:
        BYTES.inc(len(message.value))
        DISTRIBUTED.inc()
        key = origin.visit, self._names.get(origin.detector, str(origin.detector))
        if (state := self._state(key, message)) is not None:
            state.last[message.where] = message.offset
            state.seen += 1
            state.time = max(state.time, tai_now())

    def _stamp(self, message: Received, record: dict[str, Any]) -> None:
        step, service = record["step"], record["service"]
        answers = step == Step.ALERTED or (step == Step.LATE and service == self._service)
        if not answers and step != Step.PROCESSED:
            return
        try:
            key = _exposure(record["obsId"]), record["detector"]
        except NonRetriableError as error:
            LOG.error("stamp of the ledger: %s", error)  # noqa: TRY400 - the text says it all
            return
        if answers:
            self._close(key)
        elif (state := self._state(key, message)) is not None:
            state.obs_id, state.group = record["obsId"], record["groupId"]
            state.expected = int(record["figures"].get("alerts", 0))
            state.end_of_readout = record["time"] - record["figures"].get("latency_s", 0.0)
            state.time = max(state.time, record["time"])

    def _state(self, key: Key, message: Received) -> _Detector | None:
        """Return what is known of a detector of a visit, with this message; None if it was answered."""
        if key in self._answered:
            return None
        state = self._open.setdefault(key, _Detector(self._clock()))
        state.news = self._clock()
        state.first.setdefault(message.where, message.offset)
        return state

    def _close(self, key: Key) -> None:
        self._floors = None
        if (state := self._open.pop(key, None)) is not None:
            self._held[key] = state
        self._answered[key] = None
        while len(self._answered) > _REMEMBERED:
            del self._answered[next(iter(self._answered))]


def _exposure(obs_id: str) -> int:
    """Return the number of an exposure, by which it is named as well where its observation id was not known.

    Raises
    ------
    NonRetriableError
        If it is an exposure of another camera, or none.
    """
    return int(obs_id) if obs_id.isdecimal() else ExposureName.from_obs_id(obs_id).exposure_id


class Lags:
    """How far behind each consumer group is.

    Parameters
    ----------
    settings, site
        Which Kafka.
    """

    def __init__(self, settings: Settings, site: str) -> None:
        self._options, self.stream = settings.kafka_options(site), settings.site.topics[ALERTS].name
        self._admin = AdminClient(self._options)
        self.current: dict[str, int] = {}
        self._measured = 0.0

    def measure(self, groups: list[str], every: float = 15.0) -> None:
        """Measure again if the last time is `every` seconds ago; where Kafka cannot say, the last figures stay."""
        if time.monotonic() - self._measured < every:
            return
        self._measured = time.monotonic()
        try:
            self._measure(groups)
        except (KafkaException, TimeoutError) as error:
            LOG.warning("lags not measured: %s", error or "no answer")
            self._admin = AdminClient(self._options)  # one that saw a broker killed asks its coordinators in vain

    def _measure(self, groups: list[str]) -> None:
        count = len(self._admin.list_topics(self.stream, timeout=_ANSWER_SECONDS).topics[self.stream].partitions)
        partitions = [TopicPartition(self.stream, number) for number in range(count)]
        ends = self._admin.list_offsets({partition: OffsetSpec.latest() for partition in partitions})
        last = {
            partition.partition: future.result(timeout=_ANSWER_SECONDS).offset for partition, future in ends.items()
        }
        for group in groups:
            request = ConsumerGroupTopicPartitions(group, partitions)
            answer = self._admin.list_consumer_group_offsets([request])[group]
            committed = answer.result(timeout=_ANSWER_SECONDS).topic_partitions
            self.current[group] = sum(last[one.partition] - max(one.offset, 0) for one in committed)
            LAG.labels(group).set(self.current[group])
