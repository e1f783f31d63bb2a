"""Who waits for what: a slot for each detector and each visit that may be in flight, and a partition for each slot."""

from __future__ import annotations

import os
from dataclasses import dataclass

from workloads.common.errors import NonRetriableError
from workloads.common.settings import Camera, Detector


@dataclass(frozen=True)
class Slot:
    """What one worker works on.

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


def share(camera: Camera) -> list[Slot]:
    """Return the slots of this process: ``SHARD`` of ``SHARDS``, counted from 0; by default all.

    Raises
    ------
    NonRetriableError
        If there is no such shard.
    """
    shard, shards = os.environ.get("SHARD", "0"), os.environ.get("SHARDS", "1")
    if not (shard.isdigit() and shards.isdigit() and int(shard) < int(shards)):
        raise NonRetriableError(f"SHARD {shard!r} of SHARDS {shards!r}: expected a number below that of the shards")
    return slots(camera)[int(shard) :: int(shards)]
