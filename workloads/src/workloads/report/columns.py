"""Alerts of a night and what was injected, as columns in the order of their images: ten million alerts are half a gigabyte."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workloads.report.batches import Array, batches, numbers, prefixes

_DETECTORS = 1 << 16
_ALERT = pa.schema(
    [
        *((name, pa.int64()) for name in ("diaSourceId", "diaObjectId", "visit", "detector", "bytes")),
        *((name, pa.float64()) for name in ("received", "x", "y")),
        *((name, pa.string()) for name in ("sha256", "error")),
    ]
)
_TRUTH = pa.schema(
    [
        *((name, pa.string()) for name in ("obsId", "detector")),
        *((name, pa.float64()) for name in ("x", "y", "snr")),
        ("kind", pa.int64()),
        ("masked", pa.bool_()),
    ]
)


@dataclass
class _Images:
    """Columns in the order of the images that their rows are of.

    Parameters
    ----------
    image
        The number of each row's image.
    columns
        All others.
    """

    image: Array
    columns: dict[str, Array]

    @classmethod
    def gathered(cls, parts: dict[str, list[Array]], kinds: Mapping[str, Any]) -> tuple[Array, dict[str, Array]]:
        """Put the parts of columns together, one after the other: together with its parts a column needs twice its room."""
        joined = {name: np.concatenate([np.empty(0, kind), *parts.pop(name)]) for name, kind in kinds.items()}
        order = np.argsort(joined["image"], kind="stable")
        for name in joined:
            joined[name] = joined[name][order]
        return joined.pop("image"), joined

    def rows(self, image: int) -> slice:
        """Return where the rows of an image stand."""
        first, last = np.searchsorted(self.image, [image, image + 1])
        return slice(int(first), int(last))

    def places(self, rows: slice) -> Array:
        """Return the positions of rows on their image, as pairs."""
        return np.column_stack([self.columns["x"][rows], self.columns["y"][rows]]).astype(np.float64)


@dataclass
class Alerts(_Images):
    """Alerts that an independent consumer received.

    Parameters
    ----------
    visits
        Numbers of the night's exposures, sorted.
    received, undecodable, size
        How many messages, how many of them are no alerts, and the bytes of all.
    """

    visits: Array = field(default_factory=lambda: np.empty(0, np.int64))
    received: int = 0
    undecodable: int = 0
    size: int = 0

    _KINDS: ClassVar[dict[str, Any]] = {
        "image": np.int64, "source": np.int64, "object": np.int64, "digest": np.uint64, "received": np.float64,
        "x": np.float32, "y": np.float32,
    }  # fmt: skip

    @classmethod
    def read(cls, rows: Iterable[Any], visits: Iterable[int]) -> Alerts:
        """Read the alerts of these visits, and what does not decode."""
        known = np.array(sorted(visits), np.int64)
        parts: dict[str, list[Array]] = {name: [] for name in cls._KINDS}
        received, undecodable, size = 0, 0, 0
        for batch in batches(rows, _ALERT):
            broken = batch["error"].is_valid().to_numpy(zero_copy_only=False)
            visit = numbers(batch["visit"], np.int64, -1)
            own = ~broken & np.isin(visit, known)
            received, undecodable = received + int((own | broken).sum()), undecodable + int(broken.sum())
            size += int(numbers(batch["bytes"], np.int64, 0)[own | broken].sum())
            for name, values in cls._columns(batch, visit, known).items():
                parts[name].append(values[own])
        image, columns = cls.gathered(parts, cls._KINDS)
        return cls(image, columns, known, received, undecodable, size)

    @classmethod
    def _columns(cls, batch: pa.RecordBatch, visit: Array, known: Array) -> dict[str, Array]:
        source = numbers(batch["diaSourceId"], np.int64, -1)
        owner = batch["diaObjectId"]
        return {
            "image": np.searchsorted(known, visit) * _DETECTORS + numbers(batch["detector"], np.int64, 0),
            "source": source,
            "object": np.where(owner.is_valid().to_numpy(zero_copy_only=False), numbers(owner, np.int64, -1), source),
            "digest": prefixes(batch["sha256"]),
            **{name: numbers(batch[name], cls._KINDS[name], np.nan) for name in ("received", "x", "y")},
        }

    @property
    def visit(self) -> Array:
        """The visit of each alert, as its place in `visits`."""
        return self.image // _DETECTORS

    def of(self, visit: int, detector: int) -> slice:
        """Return where the alerts of a visit's detector stand, both by their numbers."""
        place = int(np.searchsorted(self.visits, visit))
        if place == len(self.visits) or self.visits[place] != visit or not 0 <= detector < _DETECTORS:
            return slice(0, 0)
        return self.rows(place * _DETECTORS + detector)

    def latest(self) -> dict[tuple[int, int], float]:
        """Return when the last alert of each visit's detector came."""
        if not len(self.image):
            return {}
        first = np.flatnonzero(np.diff(self.image, prepend=-1))
        times = np.maximum.reduceat(self.columns["received"], first)
        return {
            (int(self.visits[image // _DETECTORS]), int(image % _DETECTORS)): float(time)
            for image, time in zip(self.image[first], times, strict=True)
        }


@dataclass
class Truth(_Images):
    """What the camera knows to be on the images of a night, numbered in their order there."""

    numbers: dict[tuple[str, str], int] = field(default_factory=dict)

    _KINDS: ClassVar[dict[str, Any]] = {
        "image": np.int64, "x": np.float64, "y": np.float64, "snr": np.float32, "kind": np.int8, "masked": np.bool_,
    }  # fmt: skip

    @classmethod
    def read(cls, rows: Iterable[Any], images: Sequence[tuple[str, str]]) -> Truth:
        """Read what is on these images, by observation id and detector."""
        names = pa.array([f"{obs_id} {detector}" for obs_id, detector in images], pa.string())
        parts: dict[str, list[Array]] = {name: [] for name in cls._KINDS}
        for batch in batches(rows, _TRUTH):
            image = numbers(
                pc.index_in(pc.binary_join_element_wise(batch["obsId"], batch["detector"], " "), names), np.int64, -1
            )
            own = image >= 0
            parts["image"].append(image[own])
            for name in ("x", "y", "snr", "kind"):
                parts[name].append(numbers(batch[name], cls._KINDS[name], 0)[own])
            parts["masked"].append(numbers(batch["masked"], np.bool_, False)[own])
        image, columns = cls.gathered(parts, cls._KINDS)
        return cls(image, columns, {name: number for number, name in enumerate(images)})

    def of(self, obs_id: str, detector: str) -> slice:
        """Return where the rows of an image stand."""
        number = self.numbers.get((obs_id, detector))
        return slice(0, 0) if number is None else self.rows(number)
