"""Sees every committed alert, checks that it decodes, and stamps a detector's visit when all its alerts are out."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from prometheus_client import Counter, Gauge, Histogram

from workloads.common.errors import NonRetriableError
from workloads.common.kafka import Bus, Received
from workloads.common.ledger import TOPIC as LEDGER
from workloads.common.ledger import Ledger, Step, Subject
from workloads.common.names import ExposureName
from workloads.common.settings import Settings
from workloads.common.times import tai_now

LOG = logging.getLogger(__name__)
ALERTS = "alerts"
DISTRIBUTED = Counter("alerts_distributed", "Alerts that stand in the stream")
UNDECODABLE = Counter("alerts_undecodable", "Packets that do not decode with the schema they name")
BYTES = Counter("alerts_bytes", "Bytes of alerts")
LATENCY = Histogram(
    "alerts_latency_seconds", "End of readout to the stream", buckets=(5, 10, 15, 20, 30, 45, 60, 90, 120, 300)
)
_ANSWER_SECONDS = 10.0
SHORT_SECONDS = 300.0
"""After so long without news a visit's alerts are not all coming: they stand in the stream in one transaction."""
LAG = Gauge("alerts_lag", "Alerts that a group has not read", ["group"])


@dataclass
class _Detector:
    obs_id: str = ""
    expected: int = -1
    seen: int = 0
    group: str = ""
    last: float = 0.0
    end_of_readout: float = 0.0
    news: float = field(default_factory=time.monotonic)


class Watch:
    """Counts alerts against what prompt processing says it sent.

    Parameters
    ----------
    bus
        The Kafka of the stream.
    ledger
        Where the stamp ``alerted`` goes.
    names
        Detector names by number.
    """

    def __init__(self, bus: Bus, ledger: Ledger, names: dict[int, str]) -> None:
        self._bus, self._ledger, self._names = bus, ledger, names
        self._open: dict[tuple[int, str], _Detector] = {}
        """By the exposure's number and the detector: an alert does not say what triggered the exposure."""

    def take(self, message: Received) -> None:
        """Take one message of the stream or of the ledger."""
        if message.role == LEDGER:
            record = self._bus.codec.decode(message.value)
            if record["step"] == Step.PROCESSED:
                self._processed(record)
        else:
            self._alert(message)

    @property
    def idle(self) -> bool:
        """Whether every visit that was heard of has all of its alerts, or was named."""
        return not self._open

    def name_short(self) -> None:
        """Stamp and forget the detectors whose alerts are not all in the stream and have had no news for long."""
        for key, state in list(self._open.items()):
            if time.monotonic() - state.news > SHORT_SECONDS:
                wanted = str(state.expected) if state.expected >= 0 else "an unknown number"
                reason = (
                    f"{state.seen} of {wanted} of its alerts are in the stream {SHORT_SECONDS:g} s after the last news"
                )
                LOG.error("%s %s: %s", state.obs_id or key[0], key[1], reason)
                subject = Subject(state.obs_id or str(key[0]), key[1], state.group)
                self._ledger.stamp(Step.LATE, subject, reason=reason)
                del self._open[key]

    def _alert(self, message: Received) -> None:
        BYTES.inc(len(message.value))
        try:
            source = self._bus.codec.decode(message.value)["diaSource"]
        except NonRetriableError as error:
            UNDECODABLE.inc()
            LOG.error("alert at %d/%d: %s", message.partition, message.offset, error)  # noqa: TRY400 - the text says it all
            return
        DISTRIBUTED.inc()
        key = int(source["visit"]), self._names.get(source["detector"], str(source["detector"]))
        state = self._open.setdefault(key, _Detector())
        state.seen += 1
        state.last, state.news = tai_now(), time.monotonic()
        self._close(key, state)

    def _processed(self, record: dict[str, Any]) -> None:
        try:
            key = ExposureName.from_obs_id(record["obsId"]).exposure_id, record["detector"]
        except NonRetriableError as error:
            LOG.error("stamp of the ledger: %s", error)  # noqa: TRY400 - the text says it all
            return
        state = self._open.setdefault(key, _Detector())
        state.obs_id = record["obsId"]
        state.expected, state.group = int(record["figures"].get("alerts", 0)), record["groupId"]
        state.end_of_readout = record["time"] - record["figures"].get("latency_s", 0.0)
        state.last, state.news = max(state.last, record["time"]), time.monotonic()
        self._close(key, state)

    def _close(self, key: tuple[int, str], state: _Detector) -> None:
        if state.expected < 0 or state.seen < state.expected:
            return
        LATENCY.observe(state.last - state.end_of_readout)
        subject = Subject(state.obs_id, key[1], state.group)
        self._ledger.stamp(Step.ALERTED, subject, time=state.last, figures={"alerts": state.seen})
        del self._open[key]


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
