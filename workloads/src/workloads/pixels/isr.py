"""Instrument signature removal: raw counts of a detector to electrons, variance and mask."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.linalg

from workloads.pixels import parallel
from workloads.pixels.errors import InvalidValueError, ShapeError
from workloads.pixels.images import Floats, Image, Planes, require
from workloads.pixels.kernels.signature import calibrate_rows, overscan_rows, spread_saturation, subtract_crosstalk
from workloads.pixels.layout import DetectorLayout
from workloads.pixels.masks import Mask

Raw = npt.NDArray[np.uint16]
_GHOST_ADU = 0.2
"""Crosstalk fainter than this is left in place."""


@dataclass(frozen=True)
class Calibration:
    """What turns raw counts into electrons, in detector axes.

    Parameters
    ----------
    bias
        ``float32[ny, nx]``, ADU above the overscan.
    dark
        ``float32[ny, nx]``, electrons per second.
    flat
        ``float32[ny, nx]``, relative response, about 1.
    defects
        ``uint16[ny, nx]`` of mask planes.
    linearity
        ``float32[n_amps]``: true counts are ``n + c n**2``.
    crosstalk
        ``float32[n_amps, n_amps]``, ``[victim, aggressor]`` fractions of counts.
    bias_variance
        Of the bias's own noise, ADU squared.
    flat_variance
        Of the flat's own noise, relative.
    """

    bias: Floats
    dark: Floats
    flat: Floats
    defects: Planes
    linearity: Floats
    crosstalk: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    bias_variance: float = 0.0
    flat_variance: float = 0.0

    def __post_init__(self) -> None:
        for name in ("bias", "dark", "flat"):
            require(getattr(self, name), np.float32, 2, f"calibration {name}", self.bias.shape)
        require(self.defects, np.uint16, 2, "calibration defects", self.bias.shape)

    @cached_property
    def response(self) -> Floats:
        """``1 / flat``; 0 where the flat says nothing."""
        good = np.isfinite(self.flat) & (self.flat > 0.01)
        return np.where(good, 1.0 / np.where(good, self.flat, 1.0), 0.0).astype(np.float32)

    @cached_property
    def planes(self) -> Planes:
        """Defects, with BAD where the flat or the bias says nothing."""
        bad = (self.response == 0) | ~np.isfinite(self.bias) | ~np.isfinite(self.dark)
        return self.defects | np.where(bad, np.uint16(Mask.BAD.value), np.uint16(0))

    @cached_property
    def clean_bias(self) -> Floats:
        """The bias with 0 where it is not finite (those pixels are BAD)."""
        return np.nan_to_num(self.bias, nan=0.0, posinf=0.0, neginf=0.0)

    @cached_property
    def clean_dark(self) -> Floats:
        """The dark with 0 where it is not finite (those pixels are BAD); a single element if there is none."""
        if not self.dark.any():
            return np.zeros((1, 1), np.float32)
        return np.nan_to_num(self.dark, nan=0.0, posinf=0.0, neginf=0.0)


def remove_signature(
    raw: Raw,
    layout: DetectorLayout,
    calibration: Calibration,
    exposure_time: float,
    *,
    smoothing: float = 30.0,
    out: Image | None = None,
    threads: int | None = None,
) -> Image:
    """Calibrate a raw detector: overscan, bias, linearity, gain, dark, flat, crosstalk, defects, saturation, variance.

    Parameters
    ----------
    raw
        ``uint16[n_amps, rows, columns]`` in readout order.
    exposure_time
        Seconds, for the dark current.
    smoothing
        Stiffness of the spline through the overscan rows, in rows; 0 takes each row's own level.
    out
        Image to overwrite, which spares the system finding fresh memory.
    threads
        Cores to use.

    Raises
    ------
    ShapeError
        ``raw`` or the calibration does not fit the layout.
    TypeMismatchError
        ``raw`` is no ``uint16``.
    InvalidValueError
        The exposure time is negative or no number.
    """
    require(raw, np.uint16, 3, f"raw exposure of {layout.name}", layout.raw_shape)
    if calibration.bias.shape != (layout.height, layout.width):
        raise ShapeError(
            f"calibration of {layout.name}", str(calibration.bias.shape), f"({layout.height}, {layout.width})"
        )
    if not (np.isfinite(exposure_time) and exposure_time >= 0):
        raise InvalidValueError("exposure time", str(exposure_time), "seconds, 0 or more")
    shape = (layout.height, layout.width)
    image = out or Image(np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint16))
    if image.shape != shape:
        raise ShapeError("output image", str(image.shape), str(shape))
    jobs = [(raw[i], layout, i, calibration, exposure_time, smoothing, image) for i in range(len(layout.amplifiers))]
    done = parallel.run(_calibrate_amplifier, jobs, threads)
    levels, peaks = np.stack([level for level, _ in done]), np.stack([peak for _, peak in done])
    if calibration.crosstalk.any():
        _remove_crosstalk(raw, layout, calibration, levels, peaks, image, threads)
    _spread_saturation(raw, layout, peaks, image)
    return image


def overscan_level(raw: npt.NDArray[np.uint16], layout: DetectorLayout, smoothing: float = 30.0) -> Floats:
    """Pedestal (ADU) of each row of one amplifier, by its overscan."""
    level = np.empty(raw.shape[0], np.float32)
    # The first two overscan columns still hold trailing charge of the last pixels.
    overscan_rows(raw, layout.prescan + layout.amp_width + 2, level)
    return smooth_rows(level, smoothing) if smoothing > 0 else level


def smooth_rows(level: Floats, stiffness: float) -> Floats:
    """Whittaker's smoothing spline: the curve of least bending through the rows, outliers clipped first."""
    middle = np.median(level)
    spread = 1.4826 * np.median(np.abs(level - middle)) + 1e-3
    weights = (np.abs(level - middle) < 8 * spread).astype(np.float64)
    n = level.size
    if n < 5 or weights.sum() < 3:
        return level
    penalty = stiffness**4
    bands = np.zeros((3, n))
    bands[2] = 6 * penalty
    bands[2, [0, -1]], bands[2, [1, -2]] = penalty, 5 * penalty
    bands[1, 1:] = -4 * penalty
    bands[1, [1, -1]] = -2 * penalty
    bands[0, 2:] = penalty
    bands[2] += weights
    return np.asarray(scipy.linalg.solveh_banded(bands, weights * level, overwrite_ab=True), np.float32)


def _geometry(layout: DetectorLayout) -> npt.NDArray[np.int64]:
    sizes = (layout.prescan, layout.amp_width, layout.amp_height)
    return np.array([(a.x0, a.y0, a.flip_x, a.flip_y, *sizes) for a in layout.amplifiers], np.int64)


def _calibrate_amplifier(
    raw: Raw,
    layout: DetectorLayout,
    index: int,
    calibration: Calibration,
    exposure_time: float,
    smoothing: float,
    image: Image,
) -> tuple[Floats, Planes]:
    amplifier = layout.amplifiers[index]
    level = overscan_level(raw, layout, smoothing)
    dark_noise2 = amplifier.read_noise**2 + calibration.bias_variance * amplifier.gain**2
    electronics = np.array(
        [
            amplifier.gain,
            dark_noise2,
            amplifier.saturation,
            calibration.linearity[index],
            exposure_time,
            calibration.flat_variance,
        ],
        np.float32,
    )
    peak = np.empty(raw.shape[0], np.uint16)
    calibrate_rows(
        raw, 0, raw.shape[0], level, calibration.clean_bias, calibration.clean_dark, calibration.response, calibration.planes, electronics,
        _geometry(layout)[index], image.pixels, image.variance, image.mask, peak,
    )  # fmt: skip
    return level, peak


def _remove_crosstalk(
    raw: Raw,
    layout: DetectorLayout,
    calibration: Calibration,
    levels: Floats,
    peaks: Planes,
    image: Image,
    threads: int | None,
) -> None:
    gains = np.array([a.gain for a in layout.amplifiers], np.float32)
    fractions = np.ascontiguousarray(calibration.crosstalk, np.float32)
    largest = np.abs(fractions).max(axis=0)
    threshold = np.where(largest > 0, _GHOST_ADU / np.maximum(largest, 1e-9), np.inf).astype(np.float32)
    fixed = (
        levels,
        peaks,
        threshold,
        fractions,
        _geometry(layout),
        gains,
        calibration.response,
        image.pixels,
        image.mask,
    )
    jobs = [(raw, *band, *fixed) for band in parallel.bands(layout.amp_height, threads)]
    parallel.run(subtract_crosstalk, jobs, threads)


def _spread_saturation(raw: Raw, layout: DetectorLayout, peaks: Planes, image: Image) -> None:
    geometry = _geometry(layout)
    for i, amplifier in enumerate(layout.amplifiers):
        spread_saturation(raw[i], peaks[i], np.float32(amplifier.saturation), geometry[i], image.mask)
