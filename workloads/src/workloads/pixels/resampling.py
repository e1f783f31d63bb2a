"""Images on another pixel grid."""

from __future__ import annotations

import numpy as np

from workloads.pixels import parallel
from workloads.pixels.images import Doubles, Image
from workloads.pixels.kernels.resampling import resample_rows, weights_table
from workloads.pixels.masks import Mask

_TABLES = {order: weights_table(order) for order in (3, 4, 5)}


def resample(
    image: Image, matrix: Doubles, shape: tuple[int, int], order: int = 4, threads: int | None = None
) -> Image:
    """Evaluate an image at ``matrix @ (x, y, 1)`` for every pixel of a new grid.

    Parameters
    ----------
    matrix
        ``(2, 3)`` from output to input pixels.
    shape
        Rows and columns of the result; what lies outside the input is NO_DATA and EDGE.
    order
        Half width of the Lanczos kernel: 3, 4 or 5.
    """
    if image.shape == shape and np.abs(matrix - np.eye(2, 3)).max() < 1e-6:
        return image
    result = Image(np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint16))
    planes = np.uint16(Mask.EDGE.value), np.uint16(Mask.NO_DATA.value)
    jobs = [
        (image.pixels, image.variance, image.mask, np.ascontiguousarray(matrix, np.float64), _TABLES[order], *planes,
         result.pixels, result.variance, result.mask, *band)
        for band in parallel.bands(shape[0], threads)
    ]  # fmt: skip
    parallel.run(resample_rows, jobs, threads)
    return result
