"""Trails of satellites and aircraft: long, straight and thin on a map of significance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from workloads.pixels.images import Doubles, Floats, Planes
from workloads.pixels.masks import UNUSABLE, Mask

_BLOCK = 4
"""Side of the squares (pixels) in which the map is looked at; its brightest pixel stands for each."""
_LEAST_LENGTH = 24
"""Blocks: nearly a hundred pixels, longer than any galaxy's disc is thin."""
_REACH = 2.0
"""Distance from the line within which a block belongs to it, blocks."""
_FILLED, _SHARE = 0.9, 0.6
"""Parts of the line that must be covered, and of the light that must lie on it."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Streak:
    """A straight trail.

    Parameters
    ----------
    x, y
        Its middle, pixels.
    along
        Unit vector ``(dx, dy)``.
    length, width
        Pixels; the width is that of the light above the threshold, end to end across.
    """

    x: float
    y: float
    along: tuple[float, float]
    length: float
    width: float

    def covers(self, shape: tuple[int, int], margin: float) -> Bools:
        """Pixels of an image within half the width and a margin of the trail."""
        v, u = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
        u, v = u - np.float32(self.x), v - np.float32(self.y)
        dx, dy = self.along
        near = np.abs(dx * v - dy * u) <= self.width / 2 + margin
        return np.asarray(near & (np.abs(dx * u + dy * v) <= self.length / 2 + margin), bool)


def find_streaks(significance: Floats, mask: Planes, threshold: float = 5.0) -> list[Streak]:
    """Find trails of either sign on a map of signal to noise.

    What is connected above the threshold is a trail if it is long, thin and straight all along. Trails that noise breaks
    into pieces shorter than a hundred pixels are not found, and saturated columns are masked before.
    """
    bright = (np.abs(significance) > threshold) & (mask & UNUSABLE.value == 0)
    rows, columns = (-(-n // _BLOCK) for n in bright.shape)
    padded = np.pad(bright, ((0, rows * _BLOCK - bright.shape[0]), (0, columns * _BLOCK - bright.shape[1])))
    blocks = padded.reshape(rows, _BLOCK, columns, _BLOCK).any(axis=(1, 3))
    labels, _ = scipy.ndimage.label(blocks, np.ones((3, 3)))
    found = []
    for number, box in enumerate(scipy.ndimage.find_objects(labels), 1):
        if np.hypot(*(part.stop - part.start for part in box)) < _LEAST_LENGTH:
            continue
        y, x = (part.astype(np.float64) for part in np.nonzero(labels[box] == number))
        streak = _straight(x + box[1].start, y + box[0].start)
        found += [streak] if streak else []
    return found


def _straight(x: Doubles, y: Doubles) -> Streak | None:
    """Fit a line to blocks, leaving out what hangs on to it; None if they are no trail."""
    on = np.ones(len(x), bool)
    for _ in range(5):
        cx, cy = x[on].mean(), y[on].mean()
        _, vectors = np.linalg.eigh(np.cov(x[on], y[on]))
        dx, dy = vectors[:, -1]
        across, along = dx * (y - cy) - dy * (x - cx), dx * (x - cx) + dy * (y - cy)
        on = np.abs(across) <= _REACH
        if on.sum() < _LEAST_LENGTH:
            return None
    first, last = along[on].min(), along[on].max()
    length = last - first + 1
    covered = len(np.unique(np.floor(along[on]))) / length
    if length < _LEAST_LENGTH or covered < _FILLED or on.mean() < _SHARE:
        return None
    middle = (first + last) / 2
    # Blocks are counted from their corner, pixels from their middle.
    x0, y0 = ((part + 0.5) * _BLOCK - 0.5 for part in (cx + dx * middle, cy + dy * middle))
    width = 2 * float(np.sqrt(np.mean(across[on] ** 2))) + 1
    return Streak(float(x0), float(y0), (float(dx), float(dy)), float(length) * _BLOCK, width * _BLOCK)


def mark_streaks(significance: Floats, mask: Planes, margin: float, threshold: float = 5.0) -> int:
    """Set STREAK, in place, where trails are and ``margin`` pixels beyond; return how many there are."""
    found = find_streaks(significance, mask, threshold)
    for streak in found:
        mask |= np.where(streak.covers(mask.shape, margin), np.uint16(Mask.STREAK.value), np.uint16(0))
    return len(found)
