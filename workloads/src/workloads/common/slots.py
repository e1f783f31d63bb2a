"""Who waits for what: a slot for each detector and each visit that may be in flight, and a partition for each slot.

Which worker has which slot is nobody's to declare: workers lease them from their group.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from workloads.common.errors import NonRetriableError
from workloads.common.settings import Camera, Detector


@dataclass(frozen=True)
class Slot:
    """What is one worker's at a time.

    Parameters
    ----------
    partition
        Its partition of the topic of ingested files.
    detector
        The detector.
    lane
        Which visits: those whose sequence number leaves this remainder, divided by the visits in flight.
    """

    partition: int
    detector: Detector
    lane: int

    @property
    def name(self) -> str:
        """The detector's name; further lanes add their number."""
        return f"{self.detector.name}-{self.lane}" if self.lane else self.detector.name


def slots(camera: Camera) -> list[Slot]:
    """Return all slots of a camera, in the order of their partitions."""
    count = len(camera.detectors)
    return [
        Slot(lane * count + number, detector, lane)
        for lane in range(camera.visits_in_flight)
        for number, detector in enumerate(camera.detectors)
    ]


def workers(camera: Camera) -> int:
    """Return how many workers this process has: ``WORKERS``; by default one for each slot, and all spare ones.

    Raises
    ------
    NonRetriableError
        If that is no number of workers.
    """
    found = os.environ.get("WORKERS", "")
    if not found:
        return len(slots(camera)) + camera.spare_workers
    if not (found.isdecimal() and int(found) > 0):
        raise NonRetriableError(f"WORKERS {found!r}: expected a number above 0, or none for all workers of the camera")
    return int(found)
