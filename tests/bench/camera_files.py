"""What the whole camera reads out in one exposure: 189 science detectors, eight wavefront halves, eight guiders."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from workloads.archiver.header import primary_cards
from workloads.common.names import ExposureName
from workloads.common.raw import encode_raw
from workloads.common.s3 import sha256
from workloads.common.settings import Detector
from workloads.common.visit import EndReadout, join_colons

from .inputs import detector

SCIENCE, WAVEFRONT, GUIDERS = 189, 8, 8
FILES = SCIENCE + WAVEFRONT + GUIDERS
DAY = 20261122
_CORNERS = ("R00", "R04", "R40", "R44")
_RAFTS = [f"R{column}{row}" for column in range(5) for row in range(5) if f"R{column}{row}" not in _CORNERS]


@dataclass(frozen=True)
class FocalPlane:
    """Sensors and what they read out.

    Parameters
    ----------
    size
        Pixels along a side of a science detector.
    detectors
        Science detectors; of corner sensors there are then as many as go with them.
    """

    size: int = 4096
    detectors: int = SCIENCE

    @cached_property
    def science(self) -> list[Detector]:
        """The science detectors, with their numbers."""
        names = [f"{raft}_S{row}{column}" for raft in _RAFTS for row in range(3) for column in range(3)]
        return [Detector(id=number, name=name, column=0, row=0) for number, name in enumerate(names[: self.detectors])]

    @cached_property
    def sensors(self) -> list[str]:
        """Names of all sensors."""
        share = max(1, round(2 * self.detectors / SCIENCE))
        corners = [f"{raft}_S{kind}{number}" for raft in _CORNERS for kind in "WG" for number in range(share)]
        return [*(one.name for one in self.science), *corners]

    @cached_property
    def _pixels(self) -> np.ndarray:
        return detector(self.size).exposure.raw

    @cached_property
    def _frames(self) -> dict[bool, tuple[bytes, dict[str, Any]]]:
        """The pixels of a whole sensor and of half of one, and what the camera says of them."""
        given, layout = self._pixels, detector(self.size).exposure.layout
        found = {}
        for half in (False, True):
            pixels = given[: len(given) // 2] if half else given
            amplifiers = layout.amplifiers[: len(pixels)]
            data = pixels.astype("<u2").tobytes()
            height = layout.height // (2 if half else 1)
            facts = {**asdict(layout), "height": height, "amplifiers": [asdict(one) for one in amplifiers]}
            found[half] = data, {"shape": list(pixels.shape), "sha256": sha256(data), "layout": facts}
        return found

    def frame(self, sensor: str) -> tuple[bytes, dict[str, Any]]:
        """Return pixels and facts of a sensor, as the camera's memory has them."""
        data, facts = self._frames["_SW" in sensor]
        numbers = {one.name: one.id for one in self.science}
        return data, {**facts, "cards": self._cards(numbers.get(sensor, SCIENCE))}

    @property
    def bytes(self) -> int:
        """Bytes of the pixels of all sensors."""
        return sum(len(self.frame(sensor)[0]) for sensor in self.sensors)

    def _cards(self, number: int) -> dict[str, Any]:
        place = detector(self.size).exposure.wcs.to_header()
        return {"DETNUM": (number, ""), "EXPTIME": (30.0, "[s]"), **place}

    def event(self, visit: int) -> EndReadout:
        """Return the end of the readout of a visit."""
        name, begun = ExposureName(DAY, visit, "O"), 1.8e9 + 37.0 * visit
        return EndReadout(
            imageName=name.obs_id, imageDate=str(DAY), imageNumber=visit, requestedExposureTime=30.0, timestampAcquisitionStart=begun,
            timestampEndOfReadout=begun + 32, additionalKeys=join_colons(["groupId", "sensors"]),
            additionalValues=join_colons([f"g{visit}", ",".join(self.sensors)]),
        )  # fmt: skip

    def file(self, visit: int, one: Detector) -> bytes:
        """Return the raw file of a science detector."""
        cards = primary_cards(self.event(visit), one.name, self._cards(one.id))
        return encode_raw(self._pixels, detector(self.size).exposure.layout, cards)


class Memory:
    """The camera's memory, without a network between."""

    off: frozenset[str] = frozenset()

    def __init__(self, plane: FocalPlane) -> None:
        self._plane = plane
        self.asked = 0

    def describe(self, _obs_id: str) -> dict[str, Any]:
        """Return what there is of an image."""
        self.asked += 1
        return {sensor: self._plane.frame(sensor)[1] for sensor in self._plane.sensors}

    def pixels(self, _obs_id: str, sensor: str, _facts: dict[str, Any]) -> bytes:
        """Return the pixels of a sensor."""
        return self._plane.frame(sensor)[0]

    def release(self, _obs_id: str, _sensor: str) -> None:
        """Take note that a sensor is safe."""
