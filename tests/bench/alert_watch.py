"""What alert distribution does of every packet, in visits of the whole camera: origins, counts, answers, offsets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any

from pixels.test_alerts import make_batch
from workloads.alert_distribution.watch import ALERTS, OriginReader, Watch
from workloads.common.consume import Delivery
from workloads.common.ledger import TOPIC as LEDGER
from workloads.common.names import ExposureName
from workloads.pixels.alerts import Encoder

from .camera_files import DAY, SCIENCE, FocalPlane
from .harness import Footprint, Values, Verdict, against

PER_SECOND = 2000.0
"""Of a core: a visit of 40,000 alerts is through in 20 s, one of 10,000 in five."""
PARTITIONS, TOGETHER = 45, 2000
_DIFFERENT = 500


class Stream:
    """Messages of visits as two of them in flight interleave: alerts by partition, and after them the stamps of the ledger.

    Parameters
    ----------
    detectors
        Of the camera.
    alerts
        Of a visit.
    """

    def __init__(self, detectors: int, alerts: int) -> None:
        self._detectors = FocalPlane(256, detectors).science
        self._each = alerts // detectors
        columns, _ = make_batch(1, _DIFFERENT)
        self._columns, self._encoder = columns, Encoder()
        self._ends: Counter[tuple[str, int]] = Counter()

    def visits(self, first: int, last: int) -> Iterator[Any]:
        """Yield the messages of visits, always of two at once."""
        for visit in range(first, last, 2):
            pair = [self._visit(number) for number in range(visit, min(visit + 2, last))]
            while pair:
                for messages in list(pair):
                    part = list(islice(messages, self._each))
                    yield from part
                    if not part:
                        pair.remove(messages)

    def _visit(self, number: int) -> Iterator[Any]:
        exposure = ExposureName(DAY, number, "O")
        for detector in self._detectors:
            for packet in self._packets(exposure.exposure_id, detector.id):
                yield self._message(ALERTS, hash((number, detector.id, len(packet))) % PARTITIONS, packet)
            figures = {"alerts": float(self._each), "latency_s": 12.0}
            record = {"step": "processed", "service": "prompt-processing", "obsId": exposure.obs_id, "detector": detector.name, "groupId": "g", "figures": figures, "time": 1.8e9}  # fmt: skip
            yield self._message(LEDGER, 0, record)

    def _packets(self, visit: int, detector: int) -> list[bytes]:
        """Return packets of a detector: the same again and again, but for what says whose they are."""
        source = dict(self._columns["diaSource"].columns)
        source["visit"] = source["visit"] * 0 + visit
        source["detector"] = source["detector"] * 0 + detector
        given = {**self._columns, "diaSource": type(self._columns["diaSource"])(source)}
        made = list(self._encoder.encode(given, _DIFFERENT, 1))
        return [made[number % _DIFFERENT] for number in range(self._each)]

    def _message(self, role: str, partition: int, value: Any) -> Any:
        where = (role, partition)
        self._ends[where] += 1
        return SimpleNamespace(role=role, where=where, offset=self._ends[where] - 1, value=value)


class _Ledger:
    """Counts the stamps."""

    def __init__(self) -> None:
        self.alerts, self.images = 0.0, 0

    def stamp(self, _step: Any, _subject: Any, *, figures: Any, **_: Any) -> None:
        self.alerts, self.images = self.alerts + figures["alerts"], self.images + 1


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Measure batches as the service takes them, with the offsets that it commits after each."""
    detectors, alerts, visits = (9, 450, 4) if quick else (SCIENCE, 10_000, 24)
    stream, ledger = Stream(detectors, alerts), _Ledger()
    names = {one.id: one.name for one in FocalPlane(256, detectors).science}
    watch: Any = Watch(ledger, names, "bench")  # type: ignore[arg-type]
    reader: Any = OriginReader(SimpleNamespace(schema=lambda _: {}))
    rates, footprint, number = Values(), Footprint(), 0
    for batch in _batches(stream.visits(1, visits + 1)):
        seconds = Values()
        with seconds:
            deliveries = [Delivery(one, reader(one) if one.role == ALERTS else one.value) for one in batch]
            watch.take(deliveries)
            watch.answer()
            floors = [watch.oldest_open((ALERTS, partition)) for partition in range(PARTITIONS)]
        assert len(floors) == PARTITIONS
        packets = sum(one.role == ALERTS for one in batch)
        number += packets
        if packets:
            rates.values.append(packets / seconds.values[0])
    expected = visits * detectors * (alerts // detectors)
    assert (number, ledger.alerts, ledger.images) == (expected, expected, visits * detectors), "not all were answered"
    notes = {"packets": number, "visits": visits, "partitions": PARTITIONS, "threads": threads, **footprint.notes()}
    return [against("alert_watch", "packets of a second and core", rates, PER_SECOND, at_least=True, **notes)]


def _batches(messages: Iterator[Any]) -> Iterator[list[Any]]:
    while batch := list(islice(messages, TOGETHER)):
        yield batch
