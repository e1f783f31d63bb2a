"""Cosmic rays by their sharp edges: the Laplacian method, sparse and on all cores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workloads.pixels import parallel
from workloads.pixels.errors import InvalidValueError
from workloads.pixels.images import Floats, require, sampled
from workloads.pixels.kernels.laplacian import BLOCK, block_minima, clean_hits, find_hits, guard_rows, note_hits

Bits = npt.NDArray[np.bool_]
_BAND = 128
"""Rows looked at in one go: what is remembered of them stays in the processor's caches."""


@dataclass(frozen=True)
class CosmicRays:
    """What was found.

    Parameters
    ----------
    mask
        ``bool[ny, nx]``, hit pixels.
    cleaned
        ``float32[ny, nx]``, the image with hits replaced by the mean of their good neighbours.
    """

    mask: Bits
    cleaned: Floats


@dataclass(frozen=True)
class CosmicRayConfig:
    """Parameters of the method, under the names and with the defaults that its other implementations use.

    Parameters
    ----------
    sigclip
        Laplacian-to-noise limit of a hit.
    sigfrac
        Fraction of it that suffices next to a hit.
    objlim
        Contrast between Laplacian and fine structure that tells a hit from a star.
    niter
        Passes at most.
    """

    sigclip: float = 4.5
    sigfrac: float = 0.3
    objlim: float = 5.0
    niter: int = 4

    def __post_init__(self) -> None:
        if not (self.sigclip > 0 and 0 < self.sigfrac <= 1 and self.objlim > 0 and self.niter >= 1):
            raise InvalidValueError("cosmic-ray parameters", str(self), "positive limits, sigfrac at most 1")


def find_cosmic_rays(
    pixels: Floats,
    variance: Floats,
    mask: Bits | None = None,
    config: CosmicRayConfig | None = None,
    *,
    threads: int | None = None,
) -> CosmicRays:
    """Find cosmic rays.

    Parameters
    ----------
    pixels
        ``float32[ny, nx]`` electrons, finite, sky included.
    variance
        ``float32[ny, nx]``, its noise squared, hits included (the median is taken here).
    mask
        Pixels that are never hits (saturated stars, defects; see `protect`).

    Raises
    ------
    ShapeError, TypeMismatchError
        Arrays do not fit.
    """
    config = config or CosmicRayConfig()
    require(pixels, np.float32, 2, "pixels")
    require(variance, np.float32, 2, "variance", pixels.shape)
    masked = np.zeros(pixels.shape, np.uint8) if mask is None else _bytes(mask)
    require(masked, np.uint8, 2, "mask", pixels.shape)
    image, noise2 = parallel.copied(pixels, threads), parallel.copied(variance, threads)
    levels = parallel.run(_level, [(pixels, masked), (variance, masked)], threads)
    hits, fresh = np.zeros(pixels.shape, np.uint8), np.zeros(pixels.shape, np.uint8)
    minima = np.empty([-(-n // BLOCK) for n in pixels.shape], np.float32)
    active = np.ones(minima.shape, np.uint8)
    block_rows = parallel.bands(len(minima), threads, 4)
    bands = [(first, min(first + _BAND, len(pixels))) for first in range(0, len(pixels), _BAND)]
    limits = np.float32(config.sigclip), np.float32(config.sigfrac * config.sigclip), np.float32(config.objlim)
    for _ in range(config.niter):
        parallel.run(block_minima, [(noise2, active, minima, *band) for band in block_rows], threads)
        jobs = [(image, noise2, minima, masked, active, fresh, *band, *limits) for band in bands]
        parallel.run(find_hits, jobs, threads)
        found = parallel.run(note_hits, [(hits, fresh, *band) for band in bands], threads)
        if not any(map(len, found)):
            break
        active = np.zeros(minima.shape, np.uint8)
        parallel.run(clean_hits, [(image, noise2, masked, hits, active, part, *levels) for part in found], threads)
    return CosmicRays(hits.view(bool), image)


def protect(pixels: Floats, mask: Bits, saturation: float, reach: int = 4, threads: int | None = None) -> Bits:
    """Pixels where the method must not look: the mask grown by one, cores of saturated stars grown by ``reach``."""
    require(pixels, np.float32, 2, "pixels")
    masked = _bytes(mask)
    require(masked, np.uint8, 2, "mask", pixels.shape)
    guarded = np.zeros(pixels.shape, np.uint8)
    jobs = [
        (pixels, masked, np.float32(saturation), reach, *band, guarded)
        for band in parallel.bands(pixels.shape[0], threads)
    ]
    parallel.run(guard_rows, jobs, threads)
    return guarded.view(bool)


def _bytes(mask: Bits) -> npt.NDArray[np.uint8]:
    """Return a mask as kernels take it, without a copy if it can be."""
    whole = np.ascontiguousarray(mask)
    return whole.view(np.uint8) if whole.dtype == np.bool_ else whole.astype(np.uint8)


def _level(image: Floats, masked: npt.NDArray[np.uint8]) -> np.float32:
    """Median of a sample of the good pixels, to fill where no neighbour is good."""
    good = sampled(image)[sampled(masked) == 0]
    return np.float32(np.median(good)) if good.size else np.float32(0.0)
