"""The night's schedule: announce, expose, read out, and again, on time."""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass, field

from workloads.camera.daq import ImageBuffer
from workloads.camera.frames import Frame, Sky
from workloads.camera.headers import sal_header
from workloads.camera.records import NightRecords
from workloads.common.kafka import Bus
from workloads.common.log import about
from workloads.common.names import INSTRUMENT, ExposureName
from workloads.common.plan import EXPOSURE_SECONDS
from workloads.common.times import day_obs, iso, mjd, tai_now
from workloads.common.visit import EndReadout, NextVisit, NextVisitCanceled, join_colons

LOG = logging.getLogger(__name__)
LEAD_SECONDS = 20.0
READOUT_SECONDS = 2.0
_NEXT, _CANCEL, _READOUT = "next-visit", "next-visit-cancelled", "readouts"


@dataclass(frozen=True)
class Faults:
    """What goes wrong on purpose, by visit number: for the tests of what users then see."""

    cancelled: frozenset[int] = frozenset()
    unannounced: frozenset[int] = frozenset()
    missing: dict[int, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, texts: list[str]) -> Faults:
        """Read ``cancel:N``, ``unannounced:N`` and ``missing:N:DETECTOR``."""
        cancelled, unannounced, missing = set(), set(), {}
        for text in texts:
            kind, number, *rest = text.split(":")
            if kind == "cancel":
                cancelled.add(int(number))
            elif kind == "unannounced":
                unannounced.add(int(number))
            elif kind == "missing" and rest:
                missing[int(number)] = rest[0]
            else:
                raise ValueError(f"fault {text!r}: expected cancel:N, unannounced:N or missing:N:DETECTOR")
        return cls(frozenset(cancelled), frozenset(unannounced), missing)


@dataclass(frozen=True)
class Plan:
    """A night: number of visits, seconds between them, detectors, the first sequence number and the night's name."""

    night: str
    visits: int
    interval: float
    detectors: list[str]
    first_seq: int
    faults: Faults = Faults()


class Night:
    """Takes the visits of a plan.

    Parameters
    ----------
    plan, sky
        What to take.
    bus
        The summit's Kafka.
    buffer
        Where pixels are offered.
    records
        Where they are remembered.
    """

    def __init__(self, plan: Plan, sky: Sky, bus: Bus, buffer: ImageBuffer, records: NightRecords) -> None:
        self._plan, self._sky, self._bus, self._buffer, self._records = plan, sky, bus, buffer, records
        self._sender = bus.sender(_NEXT, _CANCEL, _READOUT)
        self._number = 0
        self._day = day_obs(tai_now())
        ExposureName(
            self._day, plan.first_seq + max(plan.visits - 1, 0)
        )  # refused now and not in the middle of the night
        self._ready: queue.Queue[list[Frame]] = queue.Queue(maxsize=2)

    def run(self) -> None:
        """Take all visits; each begins on the beat of the interval, later only if the one before is not done."""
        threading.Thread(target=self._prepare, name="sky", daemon=True).start()
        lead = min(LEAD_SECONDS, self._plan.interval)
        begin = time.monotonic() + lead
        for visit in range(self._plan.visits):
            start = begin + visit * self._plan.interval
            frames = self._ready.get()
            _sleep_until(start - lead)
            self._visit(visit, start, frames)

    def _prepare(self) -> None:
        for visit in range(self._plan.visits):
            begun = time.monotonic()
            self._ready.put(list(self._sky.expose(visit, self._plan.detectors, mjd(tai_now()))))
            LOG.info("sky of visit %d ready after %.1f s", visit, time.monotonic() - begun)

    def _visit(self, visit: int, start: float, frames: list[Frame]) -> None:
        name = ExposureName(self._day, self._plan.first_seq + visit)
        group = f"{iso(tai_now())}#{visit}"
        exposure_wait = min(EXPOSURE_SECONDS, max(0.0, self._plan.interval * 0.6))
        with about(visit=visit, group=group, obs_id=name.obs_id):
            if visit not in self._plan.faults.unannounced:
                self._announce(visit, group, start)
            if visit in self._plan.faults.cancelled:
                self._cancel(group)
                return
            _sleep_until(start)
            opened = tai_now()
            _sleep_until(start + exposure_wait + min(READOUT_SECONDS, 0.1 * self._plan.interval))
            self._read_out(visit, name, group, opened, frames)

    def _announce(self, visit: int, group: str, start: float) -> None:
        field = self._sky.field(visit)
        now = tai_now()
        content = NextVisit(
            **self._header(now),
            scriptSalIndex=100000 + visit,
            groupId=group,
            position=[field.ra, field.dec],
            startTime=now + max(0.0, start - time.monotonic()),
            filters=field.band,
            duration=EXPOSURE_SECONDS + READOUT_SECONDS,
            nimages=1,
            instrument=INSTRUMENT,
            survey=field.name,
        )
        self._publish(_NEXT, content.model_dump(mode="json"))
        self._records.visit({"visit": visit, "group": group, "announced": now, "field": field.name, "cancelled": False})
        LOG.info("announced %s", field.name)

    def _cancel(self, group: str) -> None:
        index = 100000
        content = NextVisitCanceled(**self._header(tai_now()), scriptSalIndex=index, groupId=group)
        self._publish(_CANCEL, content.model_dump(mode="json"))
        self._records.visit({"group": group, "cancelled": True, "time": tai_now()})
        LOG.info("cancelled")

    def _read_out(self, visit: int, name: ExposureName, group: str, opened: float, frames: list[Frame]) -> None:
        missing = self._plan.faults.missing.get(visit, "")
        for frame in frames:
            fact = {"obsId": name.obs_id, "detector": frame.detector, "group": group, "visit": visit}
            self._records.truth([{"obsId": name.obs_id, "detector": frame.detector, **row} for row in frame.truth])
            if frame.detector != missing:
                self._records.exposure(fact | {"sha256": self._buffer.store(name.obs_id, frame)})
        closed = tai_now()
        self._records.readout(
            {"obsId": name.obs_id, "group": group, "endOfReadout": closed, "detectors": [f.detector for f in frames]}
        )
        sensors, band = ",".join(frame.detector for frame in frames), self._sky.field(visit).band
        keys = {"groupId": group, "sensors": sensors, "imageType": "OBJECT", "filter": band}
        content = EndReadout(
            **self._header(closed),
            imageName=name.obs_id,
            imageController=name.controller,
            imageDate=str(name.day_obs),
            imageNumber=name.seq_num,
            requestedExposureTime=EXPOSURE_SECONDS,
            timestampAcquisitionStart=opened,
            timestampEndOfReadout=closed,
            additionalKeys=join_colons(list(keys)),
            additionalValues=join_colons(list(keys.values())),
        )
        self._publish(_READOUT, content.model_dump(mode="json"))
        LOG.info("read out %d detectors", len(frames))

    def _header(self, now: float) -> dict[str, object]:
        self._number += 1
        return sal_header(0, self._number, "camera", now)

    def _publish(self, role: str, record: dict[str, object]) -> None:
        self._bus.publish(self._sender, role, record)
        self._sender.flush()


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))
