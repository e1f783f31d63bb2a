"""Sources of an image: matched filter, peaks by prominence, centroids, fluxes, shapes, flags."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntFlag
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.pixels import parallel
from workloads.pixels.convolution import matched_filter
from workloads.pixels.errors import InvalidValueError
from workloads.pixels.images import Doubles, Floats, Image, Table
from workloads.pixels.kernels.measuring import aperture_fluxes, psf_fluxes, windowed_centroids
from workloads.pixels.kernels.peaks import find_islands, flood_islands, join_pixels
from workloads.pixels.masks import UNUSABLE, Mask
from workloads.pixels.psf import Psf

MAXIMUM_SOURCES = 100_000


class Flag(IntFlag):
    """What is doubtful about a source."""

    EDGE = 1 << 0
    SATURATED = 1 << 1
    BAD = 1 << 2
    CR = 1 << 3
    INTERPOLATED = 1 << 4
    DIPOLE = 1 << 5
    TRAIL = 1 << 6
    BLENDED = 1 << 7
    BAD_CENTROID = 1 << 8
    BAD_SHAPE = 1 << 9
    HIGH_VARIANCE = 1 << 10
    SATURATED_CENTER = 1 << 11
    REJECT = EDGE | SATURATED_CENTER | DIPOLE | TRAIL | BAD_SHAPE | HIGH_VARIANCE


_FLAG_OF_PLANE = {
    Mask.EDGE: Flag.EDGE,
    Mask.NO_DATA: Flag.EDGE,
    Mask.SAT: Flag.SATURATED,
    Mask.BAD: Flag.BAD,
    Mask.CR: Flag.CR,
    Mask.INTRP: Flag.INTERPOLATED,
    Mask.STREAK: Flag.TRAIL,
}

SOURCE_FIELDS: list[tuple[str, str]] = [
    ("x", "f8"), ("y", "f8"), ("x_err", "f4"), ("y_err", "f4"), ("snr", "f4"), ("psf_flux", "f4"), ("psf_flux_err", "f4"),
    ("ap_flux", "f4"), ("ap_flux_err", "f4"), ("ixx", "f4"), ("iyy", "f4"), ("ixy", "f4"), ("psf_chi2", "f4"),
    ("area", "i4"), ("is_negative", "?"), ("flags", "u4"),
]  # fmt: skip
SOURCE_DTYPE = np.dtype(SOURCE_FIELDS)


def detect(
    image: Image,
    psf: Psf,
    threshold: float = 5.0,
    *,
    negative: bool = False,
    prominence: float = 2.0,
    contrast: float = 0.01,
    snr: Floats | None = None,
    place: Floats | None = None,
    fit_shape: bool = True,
    threads: int | None = None,
) -> Table:
    """Find and measure sources of a background-subtracted image.

    Parameters
    ----------
    threshold
        Signal to noise that a source needs.
    negative
        Look for holes as well (difference images).
    prominence, contrast
        How far a summit must stand out of a brighter neighbour's flank, in signal to noise and as a fraction of it.
    snr
        Significance map to use in place of the matched filter's.
    place
        Map whose summits are the sources' places, if ``snr`` counts noise that changes between neighbouring pixels.

    Returns
    -------
    table
        `SOURCE_DTYPE`, brightest first; empty if nothing is there (also if all is masked).

    Raises
    ------
    InvalidValueError
        The threshold is not positive, or pixels that are not finite are not masked.
    """
    if not threshold > 0:
        raise InvalidValueError("detection threshold", str(threshold), "a positive number")
    if snr is None:
        snr = matched_filter(image, psf, threads=threads).significance(threads)
    signs = (1, -1) if negative else (1,)
    peaks = [_peaks(snr, sign, threshold, prominence, contrast, threads) for sign in signs]
    table = np.concatenate(peaks)
    if place is not None:
        table = _climb(table, place)
    measure(image, psf, table, snr if place is None else place, fit_shape=fit_shape, threads=threads)
    return table[np.argsort(-np.abs(table["snr"]), kind="stable")]


def _peaks(snr: Floats, sign: int, threshold: float, prominence: float, contrast: float, threads: int | None) -> Table:
    """Return summits, highest first, with their area and whether another one touches them."""
    numbers = np.empty(snr.shape, np.int32)

    def above(first: int, last: int) -> npt.NDArray[np.int64]:
        numbers[first:last] = -1
        band = snr[first:last]
        found = band >= threshold if sign > 0 else band <= -threshold
        flat: npt.NDArray[np.int64] = np.flatnonzero(found) + first * snr.shape[1]
        return flat

    found_in_bands = parallel.run(above, parallel.bands(snr.shape[0], threads), threads)
    where = np.concatenate(found_in_bands)
    height = np.float32(sign) * snr.ravel()[where]
    edges = np.cumsum([0, *map(len, found_in_bands)])
    joined, members, starts = (np.empty(len(where) + more, np.int64) for more in (0, 0, 1))
    parallel.run(join_pixels, [(numbers, where, *band, joined) for band in pairwise(edges)], threads)
    islands = find_islands(numbers, where, edges[:-1], joined, members, starts)
    parent, size = np.arange(len(where)), np.ones(len(where), np.int64)
    touched, flooded = np.zeros(len(where), np.uint8), np.zeros(len(where), np.uint8)
    given = height, where, numbers, members, starts
    limits = np.float32(prominence), np.float32(contrast)
    found = parent, size, touched, flooded
    parallel.run(
        flood_islands, [(*given, *band, *limits, *found) for band in parallel.bands(islands, threads)], threads
    )
    top = np.flatnonzero(parent == np.arange(len(where)))
    top = top[np.argsort(-height[top], kind="stable")][:MAXIMUM_SOURCES]
    table = np.zeros(len(top), SOURCE_DTYPE)
    table["y"], table["x"] = np.divmod(where[top], snr.shape[1])
    table["area"], table["snr"] = size[top], sign * height[top]
    table["is_negative"] = sign < 0
    table["flags"] = np.where(touched[top], Flag.BLENDED.value, 0)
    return table


def _climb(table: Table, place: Floats, steps: int = 4) -> Table:
    """Move peaks uphill on another map; of those that meet the most significant stays."""
    rows, columns = place.shape
    sign = np.where(table["is_negative"], -1.0, 1.0)
    x, y = table["x"].astype(int), table["y"].astype(int)
    for _ in range(steps):
        around = [(np.clip(y + j, 0, rows - 1), np.clip(x + i, 0, columns - 1)) for j in (-1, 0, 1) for i in (-1, 0, 1)]
        best = np.argmax(np.stack([sign * place[v, u] for v, u in around]), axis=0)
        y, x = np.clip(y + best // 3 - 1, 0, rows - 1), np.clip(x + best % 3 - 1, 0, columns - 1)
    table["x"], table["y"] = x, y
    order = np.argsort(-np.abs(table["snr"]), kind="stable")
    _, first = np.unique(np.stack([y, x, sign.astype(int)])[:, order], axis=1, return_index=True)
    return table[order[np.sort(first)]]


def refine_peaks(snr: Floats, x: Doubles, y: Doubles, sign: Doubles) -> None:
    """Move integer peak positions to the top of a parabola through the neighbouring pixels, in place."""
    ix, iy = np.clip(x.astype(int), 1, snr.shape[1] - 2), np.clip(y.astype(int), 1, snr.shape[0] - 2)
    for axis, position in ((1, x), (0, y)):
        dy, dx = (0, 1) if axis == 1 else (1, 0)
        left, middle, right = snr[iy - dy, ix - dx] * sign, snr[iy, ix] * sign, snr[iy + dy, ix + dx] * sign
        bend = left - 2 * middle + right
        position[:] += np.where(bend < 0, np.clip(0.5 * (left - right) / np.where(bend < 0, bend, -1), -0.5, 0.5), 0.0)


def measure(
    image: Image, psf: Psf, table: Table, snr: Floats, *, fit_shape: bool = True, threads: int | None = None
) -> None:
    """Fill a table of peaks with positions, fluxes, shapes and flags, in place."""
    if len(table) == 0:
        return
    sign = np.where(table["is_negative"], -1.0, 1.0)
    x, y = table["x"].copy(), table["y"].copy()
    refine_peaks(snr, x, y, sign)
    unusable = np.uint16(UNUSABLE.value)
    sigma = psf.fwhm / 2.3548
    table["x"], table["y"] = x, y
    if fit_shape:
        moments, bad = np.empty((len(table), 3)), np.empty(len(table), np.uint8)
        per_source = (x, y, moments, bad)
        _spread(windowed_centroids, (image.pixels, image.mask, unusable, sigma, 16), per_source, threads)
        wandered = (bad > 0) | (np.hypot(x - table["x"], y - table["y"]) > 0.75 * sigma)
        table["flags"] |= np.where(wandered, Flag.BAD_CENTROID.value, 0).astype(np.uint32)
        table["x"], table["y"] = np.where(wandered, table["x"], x), np.where(wandered, table["y"], y)
        table["ixx"], table["iyy"], table["ixy"] = moments.T
    else:
        table["ixx"] = table["iyy"] = table["ixy"] = np.nan
    _fluxes(image, psf, table, unusable, threads)
    _errors(table, sigma)


def _spread(
    kernel: Callable[..., None],
    given: tuple[object, ...],
    per_source: tuple[npt.NDArray[Any], ...],
    threads: int | None,
) -> None:
    """Run a kernel over sources on all threads: its last arguments have a row per source."""
    jobs = [
        (*given, *(one[first:last] for one in per_source))
        for first, last in parallel.bands(len(per_source[0]), threads)
    ]
    parallel.run(kernel, jobs, threads)


def _fluxes(image: Image, psf: Psf, table: Table, unusable: np.uint16, threads: int | None) -> None:
    x, y = np.ascontiguousarray(table["x"]), np.ascontiguousarray(table["y"])
    flux, error, chi2, covered = forced_photometry(image, psf, x, y, threads)
    table["psf_flux"], table["psf_flux_err"], table["psf_chi2"] = flux, error, chi2
    bits = np.empty(len(table), np.int64)
    aperture, noise = np.empty(len(table)), np.empty(len(table))
    planes = (image.pixels, image.variance, image.mask, unusable)
    _spread(aperture_fluxes, (*planes, 1.5 * psf.fwhm), (x, y, aperture, noise, bits), threads)
    table["ap_flux"], table["ap_flux_err"] = aperture, noise
    core = np.empty(len(table), np.int64)
    _spread(aperture_fluxes, (*planes, max(0.6 * psf.fwhm, 1.5)), (x, y, aperture, noise, core), threads)
    for plane, flag in _FLAG_OF_PLANE.items():
        table["flags"] |= np.where(core & plane.value, flag.value, 0).astype(np.uint32)
    table["flags"] |= np.where(covered < 0.5, Flag.EDGE.value, 0).astype(np.uint32)
    table["flags"] |= np.where(_centers_on(image, x, y, Mask.SAT), Flag.SATURATED_CENTER.value, 0).astype(np.uint32)


def _centers_on(image: Image, x: Doubles, y: Doubles, plane: Mask) -> npt.NDArray[np.bool_]:
    """Whether all of the three by three pixels at each position carry a mask plane."""
    rows, columns = image.shape
    step = np.arange(-1, 2)
    v = np.clip(np.rint(y).astype(np.int64)[:, None, None] + step[:, None], 0, rows - 1)
    u = np.clip(np.rint(x).astype(np.int64)[:, None, None] + step[None, :], 0, columns - 1)
    return np.asarray((image.mask[v, u] & plane.value != 0).all(axis=(1, 2)))


def _errors(table: Table, sigma: float) -> None:
    """Centroid errors of a background-limited Gaussian source."""
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(2) * sigma * table["psf_flux_err"] / np.abs(table["psf_flux"])
    table["x_err"] = table["y_err"] = np.where(np.isfinite(error), error, np.nan)


def forced_photometry(
    image: Image, psf: Psf, x: Doubles, y: Doubles, threads: int | None = None
) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """PSF flux and error (electrons), reduced chi squared and usable fraction of the PSF, at given positions.

    Where no pixel is usable flux, error and chi squared are NaN.
    """
    n = len(x)
    flux, error, chi2, covered = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    xs, ys = np.ascontiguousarray(x, np.float64), np.ascontiguousarray(y, np.float64)
    planes = (image.pixels, image.variance, image.mask, np.uint16(UNUSABLE.value))
    given = (*planes, psf.coefficients, psf.width, psf.height)
    _spread(psf_fluxes, given, (xs, ys, flux, error, chi2, covered), threads)
    return flux, error, chi2, covered
