"""Calibration frames from stacks of exposures: robust combination, tile by tile, each file read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from workloads.pixels import parallel
from workloads.pixels.errors import InvalidValueError, ShapeError
from workloads.pixels.images import Doubles, Floats, Planes
from workloads.pixels.isr import Calibration, overscan_level
from workloads.pixels.kernels.stacking import clipped_mean, sorting_network
from workloads.pixels.layout import DetectorLayout
from workloads.pixels.masks import Mask

_TILE = 16
"""Rows that are combined at once."""
Raw = npt.NDArray[np.uint16]
Stack = Sequence[Raw] | Sequence[Callable[[], Raw]]


def build_calibration(
    biases: Stack,
    darks: Stack,
    flats: Stack,
    layout: DetectorLayout,
    dark_time: float,
    *,
    linearity: npt.ArrayLike | None = None,
    crosstalk: npt.ArrayLike | None = None,
) -> Calibration:
    """Combine raw exposures of one detector into its calibration.

    Parameters
    ----------
    biases, darks, flats
        Raw exposures ``uint16[n_amps, rows, columns]``, or functions that read one.
    dark_time
        Exposure time of the darks, seconds.
    linearity, crosstalk
        Known terms of the electronics (`Calibration`), default none.

    Raises
    ------
    InvalidValueError
        Fewer than three exposures of a kind.
    """
    n = len(layout.amplifiers)
    curve = np.zeros(n, np.float32) if linearity is None else np.asarray(linearity, np.float32)
    ghosts = np.zeros((n, n), np.float32) if crosstalk is None else np.asarray(crosstalk, np.float32)
    bias_frames = [_assemble(raw, layout) for raw in _read(biases, "bias")]
    bias, bias_variance = combine(bias_frames)[0], mean_variance(bias_frames)
    gain = _per_pixel(layout, [a.gain for a in layout.amplifiers])
    dark_frames = [(_assemble(raw, layout) - bias) * gain / np.float32(dark_time) for raw in _read(darks, "dark")]
    dark = combine(dark_frames)[0]
    curvature = _per_pixel(layout, list(curve))
    flat_frames = []
    for raw in _read(flats, "flat"):
        counts = _assemble(raw, layout) - bias
        frame = (counts + curvature * counts**2) * gain
        flat_frames.append(frame / np.float32(np.median(frame)))
    flat = combine(flat_frames)[0]
    defects = find_defects(flat, dark)
    return Calibration(bias, dark, flat, defects, curve, ghosts, bias_variance, mean_variance(flat_frames))


def mean_variance(frames: Sequence[Floats]) -> float:
    """Variance of the mean of frames that differ by noise alone, by the differences of two of them."""
    apart = (frames[0] - frames[1])[::3, ::3]
    low, high = np.nanquantile(apart, [0.25, 0.75])
    return float(((high - low) / 1.34898) ** 2) / 2 / len(frames)


class Rows(Protocol):
    """A frame that is read in parts (`fits_io.RowReader`)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        ...

    def rows(self, first: int, last: int) -> npt.NDArray[Any]:
        """Read rows ``first`` to ``last``."""
        ...


def combine(
    frames: Sequence[npt.NDArray[Any] | Rows], clip: float = 4.0, threads: int | None = None
) -> tuple[Floats, Planes]:
    """Average a stack with outliers clipped about the median.

    Frames that are read in parts are read once, a few rows of all at a time: memory is needed for the result and for
    those rows alone. Returns the mean and the number of values used, per pixel. NaN pixels are left out; where nothing is
    left the mean is NaN.
    """
    if not frames:
        raise InvalidValueError("stack", "no frames", "at least one")
    if len({frame.shape for frame in frames}) != 1:
        raise ShapeError("stack", "frames of different shapes", str(frames[0].shape))
    mean = np.empty(frames[0].shape, np.float32)
    used = np.empty(frames[0].shape, np.uint16)
    pairs = sorting_network(len(frames))

    def one(first: int, last: int) -> None:
        tile = np.empty((len(frames), last - first, mean.shape[1]), np.float32)
        for k, frame in enumerate(frames):
            tile[k] = frame[first:last] if isinstance(frame, np.ndarray) else frame.rows(first, last)
        clipped_mean(tile, np.float32(clip), pairs, mean[first:last], used[first:last])

    # Few rows at a time stay in the cache between the steps.
    jobs = [(first, min(first + _TILE, len(mean))) for first in range(0, len(mean), _TILE)]
    parallel.run(one, jobs, threads)
    return mean, used


def find_defects(flat: Floats, dark: Floats, threshold: float = 8.0, hot: float = 1.0) -> Planes:
    """Mark pixels of odd response (``threshold`` sigma of the flat's spread and 20 %) or dark current (``hot`` e-/s)."""
    level = float(np.nanmedian(flat))
    spread = 1.4826 * float(np.nanmedian(np.abs(flat - level)))
    odd = np.abs(flat - level) > max(threshold * spread, 0.2 * level)
    bad = odd | ~np.isfinite(flat) | ~np.isfinite(dark) | (np.abs(dark) > hot)
    return np.where(bad, np.uint16(Mask.BAD.value), np.uint16(0))


def _read(stack: Stack, kind: str) -> list[Raw]:
    if len(stack) < 3:
        raise InvalidValueError(f"{kind} stack", f"{len(stack)} exposures", "at least 3")
    return [item() if callable(item) else item for item in stack]


def _assemble(raw: Raw, layout: DetectorLayout) -> Floats:
    """Overscan-corrected counts in detector axes."""
    if raw.shape != layout.raw_shape:
        raise ShapeError(f"raw exposure of {layout.name}", str(raw.shape), str(layout.raw_shape))
    image = np.empty((layout.height, layout.width), np.float32)
    for i, a in enumerate(layout.amplifiers):
        level = overscan_level(raw[i], layout)
        data = raw[i][:, layout.prescan : layout.prescan + layout.amp_width] - level[:, None]
        image[a.y0 : a.y0 + layout.amp_height, a.x0 : a.x0 + layout.amp_width] = data[
            :: -1 if a.flip_y else 1, :: -1 if a.flip_x else 1
        ]
    return image


def _per_pixel(layout: DetectorLayout, values: Sequence[float] | Doubles) -> Floats:
    image = np.empty((layout.height, layout.width), np.float32)
    for amplifier, value in zip(layout.amplifiers, values, strict=True):
        image[amplifier.y0 : amplifier.y0 + layout.amp_height, amplifier.x0 : amplifier.x0 + layout.amp_width] = value
    return image
