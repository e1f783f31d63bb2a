"""Keeper of the ledger: what was announced and expected, what came late or never, what stands at all sites."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from workloads.common.ledger import Ledger, Step, Subject
from workloads.common.names import Kind, kind_of_sensor
from workloads.common.settings import Camera
from workloads.common.times import tai_now
from workloads.common.visit import EndReadout, NextVisit, NextVisitCanceled

LOG = logging.getLogger(__name__)
LATE_SECONDS = 30.0
NO_IMAGE_SECONDS = 60.0


@dataclass
class _Visit:
    announced: float
    deadline: float
    closed: bool = False


@dataclass
class _Image:
    group: str
    end: float
    late: bool = False


class Keeper:
    """Turns the observatory's and the archiver's events into stamps.

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
        self._images: dict[tuple[str, str], _Image] = {}
        self._arrived: set[tuple[str, str]] = set()

    def next_visit(self, record: dict[str, Any]) -> None:
        """Take note of an announced visit."""
        visit = NextVisit.model_validate(record)
        self._visits[visit.groupId] = _Visit(
            visit.private_sndStamp, visit.startTime + 2 * visit.duration + NO_IMAGE_SECONDS
        )
        self._ledger.stamp(
            Step.ANNOUNCED, Subject(group=visit.groupId), time=visit.private_sndStamp, reason=visit.survey
        )

    def cancelled(self, record: dict[str, Any]) -> None:
        """Take note that an announced visit was cancelled."""
        event = NextVisitCanceled.model_validate(record)
        if event.groupId in self._visits:
            self._visits[event.groupId].closed = True
        self._ledger.stamp(
            Step.CANCELLED, Subject(group=event.groupId), time=event.private_sndStamp, reason="cancelled by the OCS"
        )

    def end_readout(self, record: dict[str, Any]) -> None:
        """Take note of a readout: its sensors are expected from now on."""
        event = EndReadout.model_validate(record)
        group = event.group
        announced = self._visits.get(group)
        if announced:
            announced.closed = True
        reason = "" if announced else "image without an announced visit"
        # Of other kinds, and of what is off, files are archived as they are: none of them is waited for.
        science = [detector for detector in event.sensors if kind_of_sensor(detector) is Kind.SCIENCE]
        self._name_off(event, science)
        for detector in science:
            if detector in self._camera.detectors_off:
                continue
            self._images[event.imageName, detector] = _Image(group, event.timestampEndOfReadout)
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

    def archiver_event(self, record: dict[str, Any]) -> None:
        """Take note of what the archiver or a forwarder reports."""
        event, content = record["event"], record["content"]
        if event == "imageForwarded" and content.get("everywhere") == str(True):
            self._archived(content["obsid"], content["detector"], record["private_sndStamp"], float(content["size"]))
        elif event == "imageRetrievalForArchiving" and content["statusCode"] != "0":
            detector = f"{content['raft']}_{content['sensor']}"
            if detector in self._camera.detectors_off:
                return  # nothing was expected of it
            self._images.pop((content["obsid"], detector), None)
            self._ledger.stamp(
                Step.LOST,
                Subject(content["obsid"], detector, content.get("groupId", "")),
                reason=content["description"],
            )

    def arrived(self, obs_id: str, detector: str) -> None:
        """Take note that a raw file is here."""
        self._arrived.add((obs_id, detector))

    def check(self, now: float | None = None) -> None:
        """Stamp what is late: images that have not arrived, announced visits without an image."""
        now = tai_now() if now is None else now
        for (obs_id, detector), image in self._images.items():
            if not image.late and now - image.end > LATE_SECONDS and (obs_id, detector) not in self._arrived:
                image.late = True
                self._ledger.stamp(
                    Step.LATE,
                    Subject(obs_id, detector, image.group),
                    reason=f"not arrived {LATE_SECONDS:g} s after its readout",
                )
        for group, visit in self._visits.items():
            if not visit.closed and now > visit.deadline:
                visit.closed = True
                self._ledger.stamp(Step.LATE, Subject(group=group), reason="announced, but no image was read out")

    def _archived(self, obs_id: str, detector: str, time: float, size: float) -> None:
        """Note that all sites have an image: the forwarder's journal knows, whatever was restarted meanwhile."""
        image = self._images.pop((obs_id, detector), None)
        subject = Subject(obs_id, detector, image.group if image else "")
        self._ledger.stamp(Step.ARCHIVED, subject, time=time, figures={"bytes": size})
