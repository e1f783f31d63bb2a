"""The ledger's stamps of a night, as columns over its images: a full night has two million of them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from workloads.common.ledger import ANSWERED, Step

Row = dict[str, Any]
Image = tuple[str, str]
"""Observation id and detector."""
_WENT_WRONG = (Step.QUARANTINED, Step.FAILED, Step.LOST, Step.LATE, Step.CANCELLED)


class _Columns:
    """Columns of numbers by name, as long as there are images; NaN where an image has none."""

    def __init__(self) -> None:
        self.columns: dict[str, array[float]] = {}

    def put(self, name: str, image: int, value: float) -> None:
        """Set a value."""
        column = self.columns.setdefault(name, array("d"))
        if len(column) <= image:
            column.extend([math.nan] * (image + 1 - len(column)))
        column[image] = value

    def get(self, name: str, image: int) -> float:
        """Return a value."""
        column = self.columns.get(name, ())
        return column[image] if image < len(column) else math.nan

    def of(self, image: int) -> dict[str, float]:
        """Return all values of an image."""
        found = ((name, column[image]) for name, column in self.columns.items() if image < len(column))
        return {name: value for name, value in found if value == value}  # noqa: PLR0124 - NaN is none

    def known(self, name: str) -> tuple[Any, Any]:
        """Return the images that have a value under a name, and the values."""
        column = np.frombuffer(self.columns.get(name, array("d")))
        images = np.flatnonzero(~np.isnan(column))
        return images, column[images]


class Stamps:
    """What the stamps say of each image, and what they say of none.

    Parameters
    ----------
    rows
        The stamps, in their order.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self.images: dict[Image, int] = {}
        """Their numbers, which columns are indexed by."""
        self.times, self.figures, self.processed = _Columns(), _Columns(), _Columns()
        """When each step was first stamped; all figures, the last of a name; those of the first stamp `processed`."""
        self.reasons: dict[int, list[str]] = {}
        self.failures: list[str] = []
        self.off: dict[str, str] = {}
        """Reasons why detectors were off."""
        for row in rows:
            self._take(row)

    def _take(self, row: Row) -> None:
        step, detector, reason = row["step"], row["detector"], row["reason"]
        if step == Step.OFF:
            self.off[detector] = reason
        if step in _WENT_WRONG:
            self.failures.append(sentence(row))
        if not detector:
            return
        if row["obsId"]:
            image = self.images.setdefault((row["obsId"], detector), len(self.images))
            first = math.isnan(self.times.get(step, image))
            if first:
                self.times.put(step, image, row["time"])
            for name, value in row["figures"].items():
                self.figures.put(name, image, value)
                if first and step == Step.PROCESSED:
                    self.processed.put(name, image, value)
            if reason:
                self.reasons.setdefault(image, []).append(f"{step}: {reason}")

    def count(self, step: str) -> int:
        """Return of how many images a step was stamped."""
        return len(self.times.known(step)[0])

    def answered(self, image: Image) -> bool:
        """Tell whether processing said what became of an image."""
        number = self.images.get(image)
        return number is not None and any(not math.isnan(self.times.get(step, number)) for step in ANSWERED)

    def by_exposure(self) -> dict[str, list[tuple[str, int]]]:
        """Return the detectors of each exposure, sorted, with the numbers of their images."""
        found: dict[str, list[tuple[str, int]]] = {}
        for (obs_id, detector), image in self.images.items():
            found.setdefault(obs_id, []).append((detector, image))
        return {obs_id: sorted(detectors) for obs_id, detectors in found.items()}

    def after(self, step: str, ends: dict[str, float]) -> Iterator[float]:
        """Yield how long after the end of its readout a step of each image was done."""
        moments = self.times.columns.get(step, array("d"))
        for (obs_id, _), image in self.images.items():
            if image < len(moments) and not math.isnan(moments[image]) and obs_id in ends:
                yield moments[image] - ends[obs_id]


def sentence(row: Row) -> str:
    """Return what went wrong by a stamp."""
    where = "_".join(part for part in (row["obsId"] or row["groupId"], row["detector"]) if part)
    return f"{row['step']}: {where}: {row['reason']}"
