"""Templates: epochs on one grid, robustly averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from workloads.pixels import parallel
from workloads.pixels.detection import detect
from workloads.pixels.errors import InvalidValueError
from workloads.pixels.images import Floats, Image, Table
from workloads.pixels.kernels.stacking import coadd_rows
from workloads.pixels.masks import UNUSABLE, Mask
from workloads.pixels.psf import Psf, choose_stars, fit_psf
from workloads.pixels.resampling import noise_power, resample
from workloads.pixels.wcs import Wcs

if TYPE_CHECKING:
    from workloads.pixels.chain import ScienceResult


@dataclass(frozen=True)
class Template:
    """What to subtract.

    Parameters
    ----------
    image
        Coadded epochs.
    psf
        Of the coadd.
    wcs
        Its pixel grid.
    nanojansky_per_electron
        Its flux scale.
    epochs
        How many went in.
    stars
        Its sources (`detection.SOURCE_DTYPE`), brightest first.
    noise
        Power spectrum of its noise (`resampling.noise_power`); a single 1 if it is white.
    """

    image: Image
    psf: Psf
    wcs: Wcs
    nanojansky_per_electron: float
    epochs: int
    stars: Table
    noise: Floats = field(default_factory=lambda: np.ones((1, 1), np.float32))


def build_template(
    results: Sequence[ScienceResult], wcs: Wcs, shape: tuple[int, int] | None = None, *, threads: int | None = None
) -> Template:
    """Average calibrated epochs on the grid of ``wcs``; transients and leftover particles are clipped.

    Every result must have been calibrated against a reference catalogue (`ScienceResult.wcs`,
    ``nanojansky_per_electron``).

    Raises
    ------
    InvalidValueError
        No epoch, or one without flux scale.
    """
    if not results:
        raise InvalidValueError("template", "no epochs", "at least one")
    if not all(np.isfinite(result.nanojansky_per_electron) for result in results):
        raise InvalidValueError(
            "template", "an epoch without photometric calibration", "process_science(..., reference=...)"
        )
    shape = shape or results[0].image.shape
    scale = results[0].nanojansky_per_electron
    frames = [_on_grid(result, wcs, shape, scale, threads) for result in results]
    image = coadd(frames, threads=threads)
    psf, stars = _measure(image, results, threads)
    return Template(image, psf, wcs, scale, len(results), stars, _noise(results, frames, wcs, shape))


def coadd(frames: Sequence[Image], *, threads: int | None = None) -> Image:
    """Inverse-variance mean of aligned images, outliers against the median rejected; what no epoch covers is NO_DATA."""
    shape = frames[0].shape
    result = Image(np.empty(shape, np.float32), np.empty(shape, np.float32), np.zeros(shape, np.uint16))
    typical = np.array([typical_weight(frame) for frame in frames], np.float32)

    def one(first: int, last: int) -> None:
        stacks = [np.stack([getattr(f, name)[first:last] for f in frames]) for name in ("pixels", "variance", "mask")]
        outputs = result.pixels[first:last], result.variance[first:last], result.mask[first:last]
        planes = (np.uint16(plane.value) for plane in (UNUSABLE, Mask.SAT, Mask.NO_DATA | Mask.EDGE, Mask.BAD))
        coadd_rows(*stacks, typical, *planes, *outputs)

    parallel.run(one, parallel.bands(shape[0], threads, 16), threads)
    return result


def _noise(results: Sequence[ScienceResult], frames: Sequence[Image], wcs: Wcs, shape: tuple[int, int]) -> Floats:
    """Spectrum of the coadd's noise: every epoch was shifted by its own part of a pixel."""
    weights = [typical_weight(frame) for frame in frames]
    spectra = [noise_power(grid_matrix(wcs, result.wcs, shape), shape) for result in results]
    return np.asarray(np.average(spectra, axis=0, weights=weights), np.float32)


def typical_weight(frame: Image) -> float:
    """Inverse of a frame's median variance."""
    return 1 / max(float(np.median(frame.variance[::5, ::5])), 1e-6)


def _on_grid(result: ScienceResult, wcs: Wcs, shape: tuple[int, int], scale: float, threads: int | None) -> Image:
    matrix = grid_matrix(wcs, result.wcs, shape)
    image = resample(result.filled, matrix, shape, threads=threads)
    factor = np.float32(result.nanojansky_per_electron / scale)
    return Image(image.pixels * factor, image.variance * factor**2, image.mask)


def grid_matrix(target: Wcs, source: Wcs, shape: tuple[int, int]) -> np.ndarray:
    """Linear map from pixels of one grid to pixels of another, fitted over the frame."""
    y, x = (
        a.ravel().astype(np.float64)
        for a in np.meshgrid(np.linspace(0, shape[0] - 1, 9), np.linspace(0, shape[1] - 1, 9), indexing="ij")
    )
    u, v = source.sky_to_pixel(*target.pixel_to_sky(x, y))
    design = np.column_stack([x, y, np.ones_like(x)])
    return np.stack([np.linalg.lstsq(design, a, rcond=None)[0] for a in (u, v)])


def _measure(image: Image, results: Sequence[ScienceResult], threads: int | None) -> tuple[Psf, Table]:
    guess = results[0].psf
    stars = detect(image, guess, 10.0, threads=threads)
    psf = fit_psf(image, choose_stars(stars), size=guess.size) or guess
    return psf, detect(image, psf, 10.0, threads=threads)


def weight_of(image: Image) -> Floats:
    """Inverse variance, 0 where unusable."""
    good = (image.mask & UNUSABLE.value == 0) & (image.variance > 0)
    return np.where(good, 1 / np.where(good, image.variance, 1), 0).astype(np.float32)
