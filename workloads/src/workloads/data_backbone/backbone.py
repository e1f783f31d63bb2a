"""One batch after the other: arrivals in, the Butler, the ledger and the topic of ingested files out."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from workloads.common.aside import TOPIC as SET_ASIDE
from workloads.common.consume import Delivery
from workloads.common.consumer import Receiver
from workloads.common.kafka import Bus
from workloads.common.ledger import TOPIC as LEDGER
from workloads.common.ledger import Ledger, Step, Subject
from workloads.common.names import INSTRUMENT, Kind, Named, RawName, classify
from workloads.common.producer import Sender
from workloads.common.received import Received, after_all
from workloads.common.s3 import Store
from workloads.common.settings import Settings
from workloads.common.slots import slots
from workloads.common.times import recent_nights, tai_now, utc_to_tai
from workloads.data_backbone.arrivals import Arrival
from workloads.data_backbone.days import Days
from workloads.data_backbone.instrument import group_of, on_sky
from workloads.data_backbone.repository import ensure_repository
from workloads.data_backbone.writer import BUCKET, Bad, Verified, Writer

LOG = logging.getLogger(__name__)
SERVICE = "data-backbone"
ARRIVALS, INGESTED, BAD_REPLICAS = "arrivals", "ingested", "bad-replicas"
SETTLED_SECONDS = 10.0
_TOGETHER = 32
"""Files that are written and reported at once: a visit's workers begin with the first of its 189, not with the last."""
_DAY = re.compile(r"[0-9]{8}")
_ARCHIVED_ONLY = {Kind.WAVEFRONT, Kind.GUIDER}
"""Kinds that are no surprise where nothing is made of them."""


class Backbone:
    """Takes arrivals in and reports them, one Kafka transaction a batch.

    Parameters
    ----------
    settings
        The workload's settings.
    on_arrival
        Told the observation id and the detector of each file that was ingested.
    """

    def __init__(self, settings: Settings, on_arrival: Callable[[str, str], None]) -> None:
        self._settings, self._on_arrival = settings, on_arrival
        self.store = Store(settings, settings.site.site, BUCKET)
        self.writer = Writer(ensure_repository(settings), self.store)
        self.bus = Bus(settings)
        self.sender: Sender = self.bus.sender(INGESTED, BAD_REPLICAS, LEDGER, SET_ASIDE, transactional_id=SERVICE)
        self.ledger = Ledger(self.bus, SERVICE, self.sender)
        self.arrivals: Receiver = self.bus.receiver(SERVICE, ARRIVALS)
        names = {detector.id: detector.name for detector in settings.site.camera.detectors}
        self._days = Days(
            lambda day: {(exposure, names.get(detector, "")) for exposure, detector in self.writer.known(day)}
        )
        self._detectors = set(names.values())
        self._before: list[int] = []
        """Days that no sweep of this round has looked at."""
        self._left: dict[int, set[str]] = {}
        """What the last sweep of a recent day has left where it stands."""
        self._found: list[Arrival] = []
        """What a sweep has found and nobody has taken yet."""
        self._halfway: dict[tuple[str, int], int] = {}
        """How far the messages of a call that failed were taken."""
        self._partitions = {(slot.detector.name, slot.lane): slot.partition for slot in slots(settings.site.camera)}

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Ingest what notifications name, some at a time: offsets are committed with all that was written of them.

        All files are verified from the beginning, beside what is written of the first: no slow one keeps those before it.

        Raises
        ------
        RetriableError
            If store or registry are away, or Kafka does not take the report: the same call may be made again.
        """
        new = [one for one in deliveries if one.message.offset >= self._halfway.get(one.message.where, 0)]
        slices = [new[at : at + _TOGETHER] for at in range(0, len(new), _TOGETHER)]
        seen = set[str]()
        verified = [self._verify([arrival for one in part for arrival in self._named(one)], seen) for part in slices]
        for part, files in zip(slices, verified, strict=True):
            messages = [one.message for one in part]
            self._ingest([file.result() for file in files], *messages)
            self._halfway |= after_all(messages)
        for where, offset in after_all([one.message for one in deliveries]).items():
            if offset >= self._halfway.get(where, math.inf):
                del self._halfway[where]

    def take_swept(self, beat: Callable[[], None] = lambda: None) -> None:
        """Ingest what a sweep has found, some at a time, each with a `beat`: what is done is done. Errors as of `take`."""
        while True:
            found = self._found[:_TOGETHER]
            if not found:
                return
            beat()
            self._ingest([file.result() for file in self._verify(found, set())])
            del self._found[: len(found)]

    def look(self, beat: Callable[[], None] = lambda: None) -> None:
        """Sweep for `take_swept`, in another thread: to list the store of a night takes a minute, and nothing waits for it.

        Nothing is looked for while what was found is not taken yet. `beat` is called as it goes on.
        """
        if not self._found:
            self._found.extend(self.sweep(beat))

    def subjects(self, _: str, keys: list[str]) -> list[Subject]:
        """Return what a notification is about, if it is set aside."""
        return [Subject(name.exposure.obs_id, name.detector) for name in self._raws(keys)]

    def _named(self, delivery: Delivery) -> list[Arrival]:
        time = _tai(delivery.message.timestamp)
        return [Arrival(name, time, "notification") for name in self._raws(delivery.content)]

    def _raws(self, keys: list[str]) -> list[RawName]:
        return [name for key in keys if (name := self._to_ingest(key, classify(key), set()))]

    def _verify(self, arrivals: list[Arrival], seen: set[str]) -> list[Future[Verified | Bad | None]]:
        """Begin to verify what was not seen before, each once."""
        new = {arrival.key: arrival for arrival in arrivals if arrival.key not in seen}
        seen.update(new)
        return self.writer.verify(new.values())

    def _ingest(self, results: list[Verified | Bad | None], *messages: Received) -> None:
        good, bad = self.writer.ingest(results)
        with self.sender.transaction(self.arrivals, *messages):
            for file in good:
                self._report(file)
            for item in bad:
                self._report_bad(item)
        for file in good:
            name = file.arrival.name
            self._days.add(name)
            self._on_arrival(name.exposure.obs_id, name.detector)
        if good:
            LOG.info("ingested %d, quarantined %d", len(good), len(bad))

    def sweep(self, beat: Callable[[], None] = lambda: None) -> list[Arrival]:
        """Return raw files that stand in the store and not in the Butler.

        Each sweep looks at this observing day, the last, and one of the days before in turn: a lost notification is made
        good, whatever its age.
        """
        nights = recent_nights()
        recent = set(nights)
        self._days.keep(recent)
        for day in set(self._left) - recent:
            del self._left[day]
        found: list[Arrival] = []
        for day in (*nights, *self._day_before(recent)):
            found += self._unknown(day, recent, beat)
        return found

    def _unknown(self, day: int, recent: set[int], beat: Callable[[], None]) -> list[Arrival]:
        """Return the raw files of a day that stand in the store and not in the Butler.

        What is left where it stands was told of when it came, and is told of once more while its day is recent.
        """
        found, left, told = [], set[str](), self._left.get(day, set())
        known = self._days.known(day)
        for item in self.store.list(BUCKET, f"{INSTRUMENT}/{day}/"):
            beat()
            named = classify(item.key)
            if named.before_pixels or time.time() - item.modified <= SETTLED_SECONDS:
                continue
            name = self._to_ingest(item.key, named, told if day in recent else {item.key})
            if name is None:
                left.add(item.key)
            elif (name.exposure.exposure_id, name.detector) not in known:
                found.append(Arrival(name, _tai(item.modified), "sweep"))
        if day in recent:
            self._left[day] = left
        return found

    def _day_before(self, recent: set[int]) -> list[int]:
        """Return the next of the days in the store that no other rule looks at, the newest first; none if there is none."""
        if not self._before:
            folders = (name.strip("/").rpartition("/")[2] for name in self.store.folders(BUCKET, f"{INSTRUMENT}/"))
            self._before = sorted({int(name) for name in folders if _DAY.fullmatch(name)} - recent)
        return [self._before.pop()] if self._before else []

    def _to_ingest(self, key: str, named: Named, told: set[str]) -> RawName | None:
        """Return the raw image that a file is if it belongs into the Butler; the others are left in peace, and told once."""
        if named.raw and named.ingested and named.raw.detector in self._detectors:
            return named.raw
        if key not in told:
            why = "of a detector that this camera does not have" if named.ingested else str(named.kind)
            level = logging.INFO if named.kind in _ARCHIVED_ONLY else logging.WARNING
            LOG.log(level, "%s: not ingested: %s", key, why)
        return None

    def _report(self, file: Verified) -> None:
        name = file.arrival.name
        subject = Subject(name.exposure.obs_id, name.detector, group_of(file.header))
        reason = "" if file.arrival.noticed == "notification" else "found by the sweep: its notification was lost"
        self.ledger.stamp(Step.ARRIVED, subject, time=file.arrival.time, reason=reason, figures={"bytes": file.size})
        self.ledger.stamp(Step.VERIFIED, subject, time=file.verified)
        self.ledger.stamp(Step.INGESTED, subject)
        detector = self._settings.site.detector(name.detector)
        if on_sky(file.header) and name.detector not in self._settings.site.camera.detectors_off:
            lane = name.exposure.seq_num % self._settings.site.camera.visits_in_flight
            partition = self._partitions[name.detector, lane]
            self.bus.publish(
                self.sender, INGESTED, file.message(detector.id), key=name.exposure.obs_id, partition=partition
            )

    def _report_bad(self, item: Bad) -> None:
        name = item.arrival.name
        self.ledger.stamp(Step.QUARANTINED, Subject(name.exposure.obs_id, name.detector), reason=item.reason)
        message = item.message(self._settings.site.site)
        self.bus.publish(self.sender, BAD_REPLICAS, message, key=name.exposure.obs_id)


def _tai(utc: float) -> float:
    """Return when a file came, by the clock of its store or broker; now, where that cannot be true."""
    try:
        return utc_to_tai(utc)
    except ValueError:
        return tai_now()
