"""Keeper of the ledger: what was announced and expected, what came late or never, what stands at all sites."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from workloads.common.errors import NonRetriableError
from workloads.common.ledger import Ledger, Step, Subject
from workloads.common.names import ExposureName, Kind, kind_of_sensor
from workloads.common.settings import Camera
from workloads.common.times import tai_now
from workloads.common.visit import EndReadout, NextVisit, NextVisitCanceled

LOG = logging.getLogger(__name__)
LATE_SECONDS = 30.0
NO_IMAGE_SECONDS = 60.0
REMEMBERED_SECONDS = 2 * 86400.0
"""How long groups, arrivals and what was named are known: longer than a night and the day after it."""
_Image = tuple[str, str]
"""Observation id and detector."""


def subjects(role: str, record: dict[str, Any]) -> list[Subject]:
    """Return whom an event that is set aside announces: what was set aside is still owed, by its name."""
    if role == "next-visit":
        return [Subject(group=record["groupId"])]
    if role != "readouts":
        return []  # what is only told about an exposure takes nothing from it
    try:
        obs_id = ExposureName.from_obs_id(record["imageName"]).obs_id
        event = EndReadout.model_validate(record)
    except NonRetriableError:
        return []
    except ValidationError:
        return [Subject(obs_id)]
    science = [sensor for sensor in event.sensors if kind_of_sensor(sensor) is Kind.SCIENCE]
    return [Subject(obs_id, sensor, event.group) for sensor in science] or [Subject(obs_id, group=event.group)]


@dataclass
class _Visit:
    announced: float
    deadline: float
    closed: bool = False


@dataclass(frozen=True)
class _Expected:
    group: str
    end: float


class Keeper:
    """Turns the observatory's and the archiver's events into stamps.

    The ledger itself is its memory: `recall` takes the stamps of the last days, so that after a restart nothing is stamped
    twice and nothing that was open is forgotten.

    Parameters
    ----------
    ledger
        Where stamps go.
    camera
        Which science sensors there are, and which of them are declared off.
    """

    def __init__(self, ledger: Ledger, camera: Camera | None = None) -> None:
        self._ledger = ledger
        self._camera = camera or Camera()
        self._off: set[tuple[int, str]] = set()
        """Observing day and detector of those that were named as off."""
        self._visits: dict[str, _Visit] = {}
        self._expected: dict[_Image, _Expected] = {}
        self._missing: set[_Image] = set()
        """Those expected that have not arrived, and that nothing was said about."""
        self._arrived: dict[_Image, float] = {}

    def recall(self, stamp: dict[str, Any]) -> None:
        """Take one stamp of the ledger, whoever wrote it, in the order in which they were written."""
        image, group, time = (stamp["obsId"], stamp["detector"]), stamp["groupId"], float(stamp["time"])
        match stamp["step"]:
            case Step.ANNOUNCED:
                self._visits[group] = _Visit(time, float(stamp["figures"].get("deadline", time)))
            case Step.CANCELLED | Step.LATE if not stamp["obsId"]:
                self._close(group)
            case Step.EXPECTED:
                self._expect(image, _Expected(group, time))
                self._close(group)
            case Step.ARRIVED:
                self.arrived(*image)
            case Step.LATE | Step.LOST | Step.ARCHIVED:
                self._missing.discard(image)
            case Step.OFF:
                self._off.add((ExposureName.from_obs_id(stamp["obsId"]).day_obs, stamp["detector"]))

    def next_visit(self, record: dict[str, Any]) -> None:
        """Take note of an announced visit; one that is known already came again because its offset was not committed."""
        visit = NextVisit.model_validate(record)
        known = self._visits.get(visit.groupId)
        if known and known.announced == visit.private_sndStamp:
            return
        deadline = visit.startTime + 2 * visit.duration + NO_IMAGE_SECONDS
        self._visits[visit.groupId] = _Visit(visit.private_sndStamp, deadline)
        self._ledger.stamp(
            Step.ANNOUNCED,
            Subject(group=visit.groupId),
            time=visit.private_sndStamp,
            reason=visit.survey,
            figures={"deadline": deadline},
        )

    def cancelled(self, record: dict[str, Any]) -> None:
        """Take note that an announced visit was cancelled."""
        event = NextVisitCanceled.model_validate(record)
        self._close(event.groupId)
        self._ledger.stamp(
            Step.CANCELLED, Subject(group=event.groupId), time=event.private_sndStamp, reason="cancelled by the OCS"
        )

    def end_readout(self, record: dict[str, Any]) -> None:
        """Take note of a readout: its sensors are expected from now on."""
        event = EndReadout.model_validate(record)
        group = event.group
        reason = "" if group in self._visits else "image without an announced visit"
        self._close(group)
        # Of other kinds, and of what is off, files are archived as they are: none of them is waited for.
        science = [detector for detector in event.sensors if kind_of_sensor(detector) is Kind.SCIENCE]
        self._name_off(event, science)
        for detector in science:
            image = (event.imageName, detector)
            if detector in self._camera.detectors_off or image in self._expected:
                continue
            self._expect(image, _Expected(group, event.timestampEndOfReadout))
            self._ledger.stamp(
                Step.EXPECTED,
                Subject(event.imageName, detector, group),
                time=event.timestampEndOfReadout,
                reason=reason,
            )

    def _name_off(self, event: EndReadout, named: list[str]) -> None:
        """Stamp, once a day, each detector of which nothing is expected: declared off, or not among what was read out."""
        for detector in (one.name for one in self._camera.detectors):
            declared = detector in self._camera.detectors_off
            once = (event.exposure.day_obs, detector)
            if once in self._off or not (declared or (named and detector not in named)):
                continue
            self._off.add(once)
            reason = "declared off" if declared else "not among the sensors that the camera read out"
            LOG.warning("%s: off: %s", detector, reason)
            subject = Subject(event.imageName, detector, event.group)
            self._ledger.stamp(Step.OFF, subject, time=event.timestampEndOfReadout, reason=reason)

    def forwarded(self, record: dict[str, Any]) -> None:
        """Take note of a raw file that was read back from another site."""
        if record["everywhere"]:
            self._archived(record["obsId"], record["detector"], record["time"], float(record["size"]))

    def retrieved(self, record: dict[str, Any]) -> None:
        """Take note of what the archiver reports of one sensor of an exposure."""
        detector = f"{record['raft']}_{record['sensor']}"
        if record["statusCode"] == 0 or detector in self._camera.detectors_off:
            return  # nothing was expected of those that are off
        self._missing.discard((record["obsid"], detector))
        subject = Subject(record["obsid"], detector, record["groupId"])
        self._ledger.stamp(Step.LOST, subject, reason=record["description"])

    def arrived(self, obs_id: str, detector: str) -> None:
        """Take note that a raw file is here; may be called from another thread."""
        self._arrived[obs_id, detector] = tai_now()

    def check(self, now: float | None = None) -> None:
        """Stamp what is late: images that have not arrived, announced visits without an image. Forget what is old."""
        now = tai_now() if now is None else now
        for image in [one for one in self._missing if one in self._arrived]:
            self._missing.discard(image)
        for image in [one for one in self._missing if now - self._expected[one].end > LATE_SECONDS]:
            self._missing.discard(image)
            self._ledger.stamp(
                Step.LATE,
                Subject(*image, self._expected[image].group),
                reason=f"not arrived {LATE_SECONDS:g} s after its readout",
            )
        for group, visit in self._visits.items():
            if not visit.closed and now > visit.deadline:
                visit.closed = True
                self._ledger.stamp(Step.LATE, Subject(group=group), reason="announced, but no image was read out")
        self._forget(now - REMEMBERED_SECONDS)

    def _close(self, group: str) -> None:
        if group in self._visits:
            self._visits[group].closed = True

    def _expect(self, image: _Image, expected: _Expected) -> None:
        self._expected[image] = expected
        self._missing.add(image)

    def _forget(self, before: float) -> None:
        """Forget what is older than `before` (TAI seconds); what came first stands first."""
        while self._expected and self._expected[first := next(iter(self._expected))].end < before:
            del self._expected[first]
            self._missing.discard(first)
        while self._visits and self._visits[group := next(iter(self._visits))].announced < before:
            del self._visits[group]
        while self._arrived and self._arrived[first := next(iter(self._arrived))] < before:
            del self._arrived[first]

    def _archived(self, obs_id: str, detector: str, time: float, size: float) -> None:
        """Note that all sites have an image: the forwarder's journal knows, whatever was restarted meanwhile."""
        self._missing.discard((obs_id, detector))
        expected = self._expected.get((obs_id, detector))
        subject = Subject(obs_id, detector, expected.group if expected else "")
        self._ledger.stamp(Step.ARCHIVED, subject, time=time, figures={"bytes": size})
