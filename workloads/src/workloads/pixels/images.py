"""The image container (pixels, variance, mask), its checks and cutouts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.pixels import parallel
from workloads.pixels.errors import ShapeError, TypeMismatchError
from workloads.pixels.masks import Mask

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Planes = npt.NDArray[np.uint16]
Table = npt.NDArray[np.void]


@dataclass(frozen=True)
class Image:
    """A calibrated image.

    Parameters
    ----------
    pixels
        ``float32[ny, nx]``, electrons.
    variance
        ``float32[ny, nx]``, electrons squared.
    mask
        ``uint16[ny, nx]`` of `masks.Mask` planes.
    """

    pixels: Floats
    variance: Floats
    mask: Planes

    def __post_init__(self) -> None:
        require(self.pixels, np.float32, 2, "image pixels")
        require(self.variance, np.float32, 2, "image variance", self.pixels.shape)
        require(self.mask, np.uint16, 2, "image mask", self.pixels.shape)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def has(self, planes: Mask, threads: int | None = None) -> npt.NDArray[np.bool_]:
        """Tell which pixels carry any of some planes."""
        result = np.empty(self.shape, np.bool_)

        def look(first: int, last: int) -> None:
            np.not_equal(self.mask[first:last] & np.uint16(planes.value), 0, out=result[first:last])

        parallel.run(look, parallel.bands(len(result), threads), threads)
        return result

    def marked(self, where: npt.NDArray[np.bool_], planes: Mask, threads: int | None = None) -> Image:
        """Return the image with planes set on some pixels."""
        mask = np.empty_like(self.mask)

        def mark(first: int, last: int) -> None:
            np.multiply(where[first:last], np.uint16(planes.value), out=mask[first:last])
            np.bitwise_or(mask[first:last], self.mask[first:last], out=mask[first:last])

        parallel.run(mark, parallel.bands(len(mask), threads), threads)
        return Image(self.pixels, self.variance, mask)

    def less(self, level: Floats, threads: int | None = None) -> Image:
        """Return the image with a level taken off its pixels."""
        pixels = np.empty_like(self.pixels)
        jobs = [
            (self.pixels[first:last], level[first:last], pixels[first:last])
            for first, last in parallel.bands(len(pixels), threads)
        ]
        parallel.run(np.subtract, jobs, threads)
        return Image(pixels, self.variance, self.mask)


def sampled(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Take rows and columns of an image at even steps, fewer than a million pixels: enough for a median."""
    step = max(1, math.isqrt(array.size // 250_000))
    return array[::step, ::step]


def require(
    array: npt.NDArray[Any], dtype: npt.DTypeLike, ndim: int, name: str, shape: tuple[int, ...] | None = None
) -> None:
    """Refuse an array that a kernel would misread.

    Raises
    ------
    TypeMismatchError
        The element type or memory order is wrong.
    ShapeError
        The number of dimensions or the shape is wrong, or the array is empty.
    """
    if not isinstance(array, np.ndarray):
        raise TypeMismatchError(name, f"a {type(array).__name__}", "a numpy array")
    if array.dtype != np.dtype(dtype):
        raise TypeMismatchError(name, f"elements of {array.dtype}", str(np.dtype(dtype)))
    if array.ndim != ndim or 0 in array.shape or (shape is not None and array.shape != shape):
        raise ShapeError(name, f"shape {array.shape}", str(shape) if shape else f"{ndim} dimensions, none empty")
    if not array.flags.c_contiguous:
        raise TypeMismatchError(name, "a strided view", "a C-contiguous array")
    if not array.flags.writeable:
        raise TypeMismatchError(name, "a read-only array", "one that owns its memory (numpy.array copies)")


def cutout(image: Floats, x: float, y: float, size: int = 31) -> Floats:
    """Cut a square around a position (pixels); beyond the edge it is NaN."""
    half = size // 2
    left, bottom = round(x) - half, round(y) - half
    result = np.full((size, size), np.nan, np.float32)
    y0, y1 = max(bottom, 0), min(bottom + size, image.shape[0])
    x0, x1 = max(left, 0), min(left + size, image.shape[1])
    if y0 < y1 and x0 < x1:
        result[y0 - bottom : y1 - bottom, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return result
