"""The sky: clipped mode on a mesh, smoothed, splined."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import scipy.interpolate
import scipy.ndimage

from workloads.pixels import parallel
from workloads.pixels.errors import InvalidValueError
from workloads.pixels.images import Floats, Image, Integers
from workloads.pixels.kernels.meshing import cell_statistics
from workloads.pixels.kernels.splining import spline_rows
from workloads.pixels.masks import UNUSABLE


@dataclass(frozen=True)
class Background:
    """A background model.

    Parameters
    ----------
    mesh_level, mesh_rms
        Electrons on the mesh, after smoothing.
    shape
        Of the image.
    usable
        Fraction of cells that had enough pixels; 0 means the whole image was masked and the level is 0.
    threads
        Threads that its evaluation takes.
    """

    mesh_level: Floats
    mesh_rms: Floats
    shape: tuple[int, int]
    usable: float
    threads: int | None = None

    @cached_property
    def level(self) -> Floats:
        """``float32[ny, nx]``, electrons."""
        return spline(self.mesh_level, self.shape, self.threads)

    @cached_property
    def rms(self) -> Floats:
        """``float32[ny, nx]``, electrons."""
        return spline(self.mesh_rms, self.shape, self.threads)


def estimate_background(
    image: Image, mesh: int = 64, *, smooth: int = 3, exclude: int | None = None, threads: int | None = None
) -> Background:
    """Model the sky of an image.

    Parameters
    ----------
    mesh
        Side of a cell, pixels.
    smooth
        Side of the median filter over cells.
    exclude
        Mask planes to leave out (default: unusable ones).

    Raises
    ------
    InvalidValueError
        The mesh is smaller than 8 pixels.
    """
    if mesh < 8:
        raise InvalidValueError("background mesh", f"{mesh} pixels", "8 or more")
    rows, columns = (max(1, round(n / mesh)) for n in image.shape)
    level, spread = np.empty((rows, columns), np.float32), np.empty((rows, columns), np.float32)
    unusable = np.uint16(UNUSABLE.value if exclude is None else exclude)
    side = max(-(-image.shape[0] // rows), -(-image.shape[1] // columns))
    jobs = [
        (image.pixels, image.mask, unusable, side, *band, level, spread) for band in parallel.bands(rows, threads, 1)
    ]
    parallel.run(cell_statistics, jobs, threads)
    good = np.isfinite(level)
    if not good.any():
        zero = np.zeros((rows, columns), np.float32)
        return Background(zero, zero, image.shape, 0.0)
    level, spread = _fill(level, good), _fill(spread, good)
    if smooth > 1:
        level = scipy.ndimage.median_filter(level, smooth, mode="nearest")
        spread = scipy.ndimage.median_filter(spread, smooth, mode="nearest")
    return Background(level, spread, image.shape, float(good.mean()), threads)


def spline(mesh: Floats, shape: tuple[int, int], threads: int | None = None) -> Floats:
    """Bicubic natural spline through cell centres, evaluated at every pixel."""
    along = _splined(np.ascontiguousarray(mesh.T), shape[1], threads)
    return _splined(np.ascontiguousarray(along.T), shape[0], threads)


def _splined(mesh: Floats, pixels: int, threads: int | None) -> Floats:
    """Spline down the columns of a mesh: ``float32[pixels, columns]``."""
    weights, begin, end = _weights(len(mesh), pixels)
    result = np.empty((pixels, mesh.shape[1]), np.float32)
    jobs = [(mesh, weights, begin, end, *band, result) for band in parallel.bands(pixels, threads)]
    parallel.run(spline_rows, jobs, threads)
    return result


@lru_cache(maxsize=8)
def _weights(cells: int, pixels: int) -> tuple[Floats, Integers, Integers]:
    """Contribution of each cell to each pixel along one axis, and the first and last that counts (last exclusive)."""
    if cells == 1:
        return np.ones((pixels, 1), np.float32), np.zeros(pixels, np.int64), np.ones(pixels, np.int64)
    centers = (np.arange(cells) + 0.5) * pixels / cells - 0.5
    # Beyond the outermost centres the level is held: an extrapolated cubic runs away.
    where = np.clip(np.arange(pixels), centers[0], centers[-1])
    curve = scipy.interpolate.CubicSpline(centers, np.eye(cells), bc_type="natural" if cells > 2 else "not-a-knot")
    weights = np.asarray(curve(where), np.float32)
    # A cell's part falls by a factor of four from one cell to the next: far ones are below the rounding of the sum.
    counts = np.abs(weights) > 1e-8
    return weights, counts.argmax(axis=1), cells - counts[:, ::-1].argmax(axis=1)


def _fill(mesh: Floats, good: np.ndarray) -> Floats:
    """Empty cells take the value of the nearest good one."""
    nearest = scipy.ndimage.distance_transform_edt(~good, return_distances=False, return_indices=True)
    return np.ascontiguousarray(mesh[tuple(nearest)])
