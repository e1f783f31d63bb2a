"""Images on another pixel grid."""

from __future__ import annotations

import numpy as np

from workloads.pixels import parallel
from workloads.pixels.images import Doubles, Floats, Image
from workloads.pixels.kernels.resampling import STEPS, resample_rows, weights_table
from workloads.pixels.masks import Mask

_TABLE = weights_table()
SPECTRUM = 64
"""Samples along a side of a noise spectrum."""


def resample(image: Image, matrix: Doubles, shape: tuple[int, int], threads: int | None = None) -> Image:
    """Evaluate an image at ``matrix @ (x, y, 1)`` for every pixel of a new grid.

    Parameters
    ----------
    matrix
        ``(2, 3)`` from output to input pixels.
    shape
        Rows and columns of the result; what lies outside the input is NO_DATA and EDGE.
    """
    if image.shape == shape and np.abs(matrix - np.eye(2, 3)).max() < 1e-6:
        return image
    result = Image(np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint16))
    filled = Mask.BAD | Mask.CR | Mask.INTRP
    planes = np.uint16(Mask.EDGE.value), np.uint16(Mask.NO_DATA.value), np.uint16(filled.value)
    jobs = [
        (image.pixels, image.variance, image.mask, np.ascontiguousarray(matrix, np.float64), _TABLE, *planes,
         result.pixels, result.variance, result.mask, *band)
        for band in parallel.bands(shape[0], threads)
    ]  # fmt: skip
    parallel.run(resample_rows, jobs, threads)
    return result


def noise_power(matrix: Doubles, shape: tuple[int, int]) -> Floats:
    """Power spectrum of white noise after `resample`, averaged over the pixel phases that occur on the frame.

    ``float32[64, 64]`` in the order of `numpy.fft`, 1 at frequency zero: there the variance plane holds; between pixels
    interpolation takes noise out of the high frequencies and correlates neighbours.
    """
    if np.abs(matrix - np.eye(2, 3)).max() < 1e-6:
        return np.ones((SPECTRUM, SPECTRUM), np.float32)
    y, x = (a.ravel() for a in np.meshgrid(*(np.rint(np.linspace(0, n - 1, 23)) for n in shape), indexing="ij"))
    phase = np.mod(np.stack([x, y, np.ones_like(x)], axis=1) @ matrix.T, 1.0)
    lines = np.fft.fft(_TABLE[np.rint(phase * STEPS).astype(int)], SPECTRUM, axis=2)
    power = np.abs(lines) ** 2
    return np.asarray(power[:, 1].T @ power[:, 0] / len(x), np.float32)
