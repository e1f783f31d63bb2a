"""Around bright stars: light beyond the matching kernel's reach, and how far the match is to be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from workloads.pixels.images import Doubles, Floats, Planes
from workloads.pixels.masks import UNUSABLE, Mask
from workloads.pixels.maxima import box_maximum

_WIDTH = 2.0
"""Width of a ring, pixels."""
_BRIGHT = 400.0
"""Signal to noise from which a star is looked at."""
_REACHES = (2, 5)
"""Distances (pixels) between which the match's error is measured over all stars; farther out each star's rings tell."""
_CHANCE = (1.95, 2.5)
"""The largest of the correlated noise samples between those distances is less in four of five places, deviations."""
_LEAST = {2: 1e-3, 5: 5e-4}
"""Errors that are taken for possible at least."""
_FIRST_RING = 5
"""Rings within tell little: a new source beside the star covers most of them."""


@dataclass(frozen=True)
class Stars:
    """Bright stars of a difference image.

    Parameters
    ----------
    x, y
        Pixels.
    start
        Where their rings begin: the core of an unsaturated star is the kernel's business.
    """

    x: Doubles
    y: Doubles
    start: Doubles


def find_bright(light: Floats, noise2: Floats, mask: Planes) -> Stars:
    """Find saturated stars by their masks and bright others by their light (seen through the PSF)."""
    saturated, count = scipy.ndimage.label(mask & Mask.SAT.value, np.ones((3, 3)))
    places = [
        _center(saturated[box] == i + 1, box) for i, box in enumerate(scipy.ndimage.find_objects(saturated, count))
    ]
    top = (light > _BRIGHT * np.sqrt(noise2)) & (mask & UNUSABLE.value == 0)
    rows, columns = np.nonzero(top)
    if len(rows):
        summit = box_maximum(light, 7)[rows, columns] == light[rows, columns]
        places += [(float(x), float(y), 9.0) for y, x in zip(rows[summit], columns[summit], strict=True)]
    table = np.array(places, np.float64).reshape(-1, 3)
    return Stars(table[:, 0], table[:, 1], table[:, 2])


def _center(region: npt.NDArray[np.bool_], box: tuple[slice, slice]) -> tuple[float, float, float]:
    """Centre of a saturated star: trails are narrow, so rows count by the square of their width."""
    y, x = np.nonzero(region)
    widths = region.sum(axis=1).astype(float) ** 2
    row = float(np.average(np.arange(region.shape[0]), weights=widths))
    near = np.abs(y - row) <= 2
    return float(box[1].start + (x[near] if near.any() else x).mean()), box[0].start + row, 0.0


def _rings(shape: tuple[int, int], x: float, y: float, reach: int) -> tuple[tuple[slice, slice], Floats]:
    """Window round a place and the distance of its pixels."""
    window = (
        slice(max(round(y) - reach, 0), min(round(y) + reach + 1, shape[0])),
        slice(max(round(x) - reach, 0), min(round(x) + reach + 1, shape[1])),
    )
    v, u = np.ogrid[window]
    return window, np.hypot(u - x, v - y).astype(np.float32)


def subtract_halos(pixels: Floats, mask: Planes, stars: Stars, reach: int = 44) -> None:
    """Take the median of every ring round bright stars off, in place; it fades out at ``reach`` pixels."""
    for x, y, start in zip(stars.x, stars.y, stars.start, strict=True):
        window, radius = _rings(pixels.shape, x, y, reach)
        usable = mask[window] & UNUSABLE.value == 0
        number = (radius / _WIDTH).astype(np.int64)
        rings = reach // round(_WIDTH)
        level = np.zeros(rings + 1)
        for ring in range(int(start / _WIDTH), rings):
            values = pixels[window][usable & (number == ring)]
            if values.size >= 12:
                level[ring] = np.median(values)
        level *= np.clip((rings - np.arange(rings + 1)) / 6.0, 0, 1)
        where = (np.arange(rings + 1) + 0.5) * _WIDTH
        pixels[window] -= np.interp(radius, where, level, left=level[0], right=0).astype(np.float32) * (radius >= start)


def match_errors(
    signal: Floats, noise2: Floats, light: Floats, mask: Planes, x: Doubles, y: Doubles
) -> dict[int, float]:
    """Share of a bright star's light that the match leaves from one distance to the next (keys), beyond noise.

    Four fifths of the stars leave less.
    """
    shares: dict[int, list[float]] = {reach: [] for reach in _REACHES}
    for cx, cy in zip(np.rint(x).astype(int), np.rint(y).astype(int), strict=True):
        core = np.s_[max(cy - 2, 0) : cy + 3, max(cx - 2, 0) : cx + 3]
        if mask[core].size == 0 or (mask[core] & UNUSABLE.value).any():
            continue
        noise = float(np.sqrt(np.median(noise2[core])))
        if light[core].max() < 100 * noise:
            continue
        inner = -1
        for reach, chance in zip(_REACHES, _CHANCE, strict=True):
            window, radius = _rings(mask.shape, cx, cy, reach)
            outside = radius > inner
            left = float(np.where(outside, np.abs(signal[window]) - chance * np.sqrt(noise2[window]), 0).max())
            shares[reach].append(left / float(light[window].max()))
            inner = reach
    return {
        reach: max(float(np.quantile(found, 0.8)), _LEAST[reach]) if len(found) >= 5 else 10 * _LEAST[reach]
        for reach, found in shares.items()
    }


def match_noise(light: Floats, errors: dict[int, float]) -> Floats:
    """Deviation of the match's error at each pixel, by the brightest light within reach."""
    spread = np.zeros_like(light)
    for reach, share in errors.items():
        np.maximum(spread, np.float32(share) * box_maximum(light, reach), out=spread)
    return spread


def ring_scatter(snr: Floats, mask: Planes, stars: Stars, reach: int = 32) -> Floats:
    """How much more than 1 the significance scatters in each ring round bright stars (1 elsewhere).

    Inside of the first ring that tells, its scatter is taken.
    """
    scatter = np.ones_like(snr)
    for x, y in zip(stars.x, stars.y, strict=True):
        window, radius = _rings(snr.shape, x, y, reach)
        usable = mask[window] & UNUSABLE.value == 0
        number = (radius / _WIDTH).astype(np.int64)
        seen = np.ones(reach // round(_WIDTH))
        for ring in range(_FIRST_RING, len(seen)):
            values = np.abs(snr[window][usable & (np.abs(number - ring) <= 1)])
            if values.size >= 12:
                # One new source covers less than a quarter of a ring; what the match leaves has many lobes.
                seen[ring] = max(float(np.quantile(values, 0.75)) / 1.15, 1.0)
        seen[:_FIRST_RING] = seen[_FIRST_RING]
        where = (np.arange(len(seen)) + 0.5) * _WIDTH
        np.maximum(scatter[window], np.interp(radius, where, seen, right=1), out=scatter[window])
    return scatter
