"""Calibration frames from stacks of exposures: robust combination, tile by tile, each file read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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


class Sections(Protocol):
    """A raw exposure that is read one amplifier at a time: an array, a memory map, a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Amplifiers, rows, columns."""
        ...

    def __getitem__(self, amplifier: int, /) -> Any:
        """Read ``uint16[rows, columns]`` of one amplifier."""
        ...


def build_calibration(
    biases: Sequence[Sections],
    darks: Sequence[Sections],
    flats: Sequence[Sections],
    layout: DetectorLayout,
    dark_time: float,
    *,
    linearity: npt.ArrayLike | None = None,
    crosstalk: npt.ArrayLike | None = None,
    threads: int | None = None,
) -> Calibration:
    """Combine raw exposures of one detector into its calibration, one amplifier after the other.

    Every amplifier of every exposure is read once; memory is needed for the result and for one amplifier of all exposures
    of one kind. Amplifiers without light in the flats are BAD.

    Parameters
    ----------
    biases, darks, flats
        Raw exposures ``uint16[n_amps, rows, columns]``.
    dark_time
        Exposure time of the darks, seconds.
    linearity, crosstalk
        Known terms of the electronics (`Calibration`), default none.

    Raises
    ------
    InvalidValueError
        Fewer than three exposures of a kind, a dark time that is not positive, or no light in the flats.
    ShapeError
        An exposure does not have the layout's shape.
    """
    for kind, stack in (("bias", biases), ("dark", darks), ("flat", flats)):
        _check(stack, kind, layout)
    if not dark_time > 0:
        raise InvalidValueError("exposure time of the darks", f"{dark_time} s", "more than 0 s")
    n = len(layout.amplifiers)
    curve = np.zeros(n, np.float32) if linearity is None else np.asarray(linearity, np.float32)
    ghosts = np.zeros((n, n), np.float32) if crosstalk is None else np.asarray(crosstalk, np.float32)
    bias, dark, flat = (np.empty((layout.height, layout.width), np.float32) for _ in range(3))
    noise, levels = np.empty((n, 2)), np.empty((n, len(flats)))
    for i, amplifier in enumerate(layout.amplifiers):
        zeros = [_Section.read(raw, layout, i) for raw in biases]
        zero = combine(zeros, threads=threads)[0]
        counts = {"bias": zero, "curvature": float(curve[i])}
        seconds = [_Section.read(raw, layout, i, **counts, scale=amplifier.gain / dark_time) for raw in darks]
        lit = [_Section.read(raw, layout, i, **counts).of_level_one() for raw in flats]
        levels[i] = [1 / section.scale for section in lit]
        noise[i] = mean_variance(zeros), mean_variance(lit)
        # The first pixel that is read out lies at the section's corner where the amplifier is.
        readout = np.s_[:: -1 if amplifier.flip_y else 1, :: -1 if amplifier.flip_x else 1]
        for plane, found in (
            (bias, zero),
            (dark, combine(seconds, threads=threads)[0]),
            (flat, combine(lit, threads=threads)[0]),
        ):
            plane[layout.section(i)][readout] = found
    for i, share in enumerate(_shares(levels * [[a.gain] for a in layout.amplifiers])):
        flat[layout.section(i)] *= np.float32(share)
    flat /= np.float32(np.nanmedian(flat))
    bias_variance, flat_variance = np.nanmean(noise, axis=0)
    return Calibration(
        bias, dark, flat, find_defects(flat, dark), curve, ghosts, float(bias_variance), float(flat_variance)
    )


@dataclass(frozen=True)
class _Section:
    """One amplifier of one exposure in readout order; corrected as its rows are asked for.

    Parameters
    ----------
    counts
        ``uint16[rows, columns]`` of the pixels that see light.
    level
        Pedestal of each row, ADU.
    bias
        ``float32[rows, columns]`` to take off, ADU; None for a bias.
    curvature
        True counts are ``n + curvature n**2``.
    scale
        What the result is multiplied with.
    """

    counts: Raw
    level: Floats
    bias: Floats | None = None
    curvature: float = 0.0
    scale: float = 1.0

    @classmethod
    def read(cls, raw: Sections, layout: DetectorLayout, index: int, **correction: Any) -> _Section:
        """Read an amplifier with its overscan."""
        section = np.array(raw[index], np.uint16)
        columns = np.s_[:, layout.prescan : layout.prescan + layout.amp_width]
        return cls(section[columns], overscan_level(section, layout), **correction)

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return self.counts.shape

    def rows(self, first: int, last: int) -> Floats:
        """Compute rows ``first`` to ``last``."""
        signal = self.counts[first:last] - self.level[first:last, None]
        if self.bias is not None:
            signal -= self.bias[first:last]
        if self.curvature:
            signal += np.float32(self.curvature) * signal**2
        return np.asarray(signal * np.float32(self.scale), np.float32)

    def of_level_one(self) -> _Section:
        """Scale to a median of 1; what got no light becomes NaN."""
        level = float(np.median(self.rows(0, len(self.counts))))
        return replace(self, scale=1 / level if level > 1 else float("nan"))


def _shares(levels: Doubles) -> Doubles:
    """Response of each amplifier by its share of the light of each exposure: ``levels[amplifier, exposure]``, electrons.

    The lamp is not steady, so an exposure's light is what all of its amplifiers saw. NaN where there never was any.
    """
    seen = np.isfinite(levels)
    if not seen.any():
        raise InvalidValueError("flat stack", "no light on any amplifier", "exposures of an evenly lit screen")
    light = np.where(seen, levels, 0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    parts = np.where(seen, levels / np.where(light > 0, light, 1), 0).sum(axis=1)
    return np.where(seen.any(axis=1), parts / np.maximum(seen.sum(axis=1), 1), np.nan)


def mean_variance(frames: Sequence[npt.NDArray[Any] | Rows]) -> float:
    """Variance of the mean of frames that differ by noise alone, by the differences of two of them; NaN without values."""
    first, second = (_part(frame, 0, frame.shape[0])[::3, ::3] for frame in frames[:2])
    apart = first - second
    apart = apart[np.isfinite(apart)]
    if apart.size == 0:
        return float("nan")
    low, high = np.quantile(apart, [0.25, 0.75])
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
            tile[k] = _part(frame, first, last)
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


def _part(frame: npt.NDArray[Any] | Rows, first: int, last: int) -> npt.NDArray[Any]:
    return frame[first:last] if isinstance(frame, np.ndarray) else frame.rows(first, last)


def _check(stack: Sequence[Sections], kind: str, layout: DetectorLayout) -> None:
    if len(stack) < 3:
        raise InvalidValueError(f"{kind} stack", f"{len(stack)} exposures", "at least 3")
    for raw in stack:
        if tuple(raw.shape) != layout.raw_shape:
            raise ShapeError(f"{kind} exposure of {layout.name}", str(tuple(raw.shape)), str(layout.raw_shape))
