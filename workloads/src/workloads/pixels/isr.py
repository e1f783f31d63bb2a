"""Instrument signature removal: raw counts of a detector to electrons, variance and mask."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from workloads.pixels import parallel
from workloads.pixels.errors import InvalidValueError, ShapeError
from workloads.pixels.images import Floats, Image, Integers, Planes, require
from workloads.pixels.kernels.signature import calibrate_rows, overscan_rows, smooth_rows, spread_saturation
from workloads.pixels.layout import DetectorLayout
from workloads.pixels.masks import Mask

Raw = npt.NDArray[np.uint16]
_GHOST_ADU = 0.2
"""Crosstalk fainter than this is left in place."""
_NOTABLE_VARIANCE = 0.01
"""Share of the noise in the dark above which a pixel's own dark current counts in its variance."""


@dataclass(frozen=True)
class Marks:
    """Pixels that are not as the others, ordered by amplifier and row of its section.

    Parameters
    ----------
    starts
        ``int64[n_amps, amp_height + 1]``: first of each row, then the end.
    columns
        ``int32[n]``, of the detector.
    planes
        ``uint16[n]`` of mask planes.
    variance
        ``float32[n]``, electrons squared beside the others'.
    """

    starts: Integers
    columns: npt.NDArray[np.int32]
    planes: Planes
    variance: Floats


@dataclass(frozen=True)
class Prepared:
    """A calibration for one exposure time, in as few planes as one pass needs.

    Parameters
    ----------
    zero
        ``float32[ny, nx]``, bias and dark, ADU above the overscan.
    response
        ``float32[ny, nx]``, ``1 / flat``; 0 where the calibration says nothing.
    marks
        Defects, and pixels of notable dark current.
    dark
        ``float32[n_amps]``, median dark charge, electrons.
    """

    zero: Floats
    response: Floats
    marks: Marks
    dark: Floats


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
    def planes(self) -> Planes:
        """Defects, with BAD where flat, bias or dark say nothing."""
        known = np.isfinite(self.flat) & (self.flat > 0.01) & np.isfinite(self.bias) & np.isfinite(self.dark)
        return self.defects | np.where(known, np.uint16(0), np.uint16(Mask.BAD.value))

    def prepare(self, layout: DetectorLayout, exposure_time: float, threads: int | None = None) -> Prepared:
        """Merge the planes for an exposure time (seconds); the last result is kept, for most exposures are alike."""
        key = layout, exposure_time
        if key not in self._prepared:
            made = _prepare(self, layout, exposure_time, threads)
            self._prepared.clear()
            self._prepared[key] = made
            return made
        return self._prepared[key]

    @cached_property
    def _prepared(self) -> dict[tuple[DetectorLayout, float], Prepared]:
        return {}


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
    levels = np.stack(parallel.run(overscan_level, [(frame, layout, smoothing) for frame in raw], threads))
    _spread_saturation(raw, layout, _calibrate(raw, layout, calibration, exposure_time, levels, image, threads), image)
    return image


def overscan_level(raw: npt.NDArray[np.uint16], layout: DetectorLayout, smoothing: float = 30.0) -> Floats:
    """Pedestal (ADU) of each row of one amplifier, by its overscan."""
    level = np.empty(raw.shape[0], np.float32)
    # The first two overscan columns still hold trailing charge of the last pixels.
    overscan_rows(raw, layout.prescan + layout.amp_width + 2, level)
    if smoothing > 0:
        smooth_rows(level, smoothing**4)
    return level


def _prepare(calibration: Calibration, layout: DetectorLayout, exposure_time: float, threads: int | None) -> Prepared:
    shape = calibration.bias.shape
    zero, response = np.empty(shape, np.float32), np.empty(shape, np.float32)
    planes = calibration.planes
    jobs = [(calibration, planes, layout, i, exposure_time, zero, response) for i in range(len(layout.amplifiers))]
    marks, darks = zip(*parallel.run(_prepare_amplifier, jobs, threads), strict=True)
    before = np.cumsum([0, *(part.columns.size for part in marks)])
    return Prepared(
        zero,
        response,
        Marks(
            np.stack([part.starts[0] + first for part, first in zip(marks, before[:-1], strict=True)]),
            np.concatenate([part.columns for part in marks]),
            np.concatenate([part.planes for part in marks]),
            np.concatenate([part.variance for part in marks]),
        ),
        np.array(darks, np.float32),
    )


def _prepare_amplifier(
    calibration: Calibration,
    planes: Planes,
    layout: DetectorLayout,
    index: int,
    exposure_time: float,
    zero: Floats,
    response: Floats,
) -> tuple[Marks, float]:
    """Fill an amplifier's part of the planes; its marks and median dark charge.

    The dark's charge is subtracted after the linearity of its amplifier is undone. To first order in that term, and exactly
    enough for any dark that is no defect, this is the same as to subtract it before and to multiply by its slope.
    """
    amplifier = layout.amplifiers[index]
    section = layout.section(index)
    curve, planes = float(calibration.linearity[index]), planes[section]
    usable = planes & np.uint16(Mask.BAD.value) == 0
    known = np.isfinite(calibration.flat[section]) & (calibration.flat[section] > 0.01)
    dark = np.nan_to_num(calibration.dark[section] * exposure_time, nan=0.0, posinf=0.0, neginf=0.0)
    counts = dark / amplifier.gain
    bias = np.nan_to_num(calibration.bias[section], nan=0.0, posinf=0.0, neginf=0.0)
    zero[section] = bias + counts - curve * counts**2
    response[section] = np.where(known, (1 + 2 * curve * counts) / np.where(known, calibration.flat[section], 1.0), 0.0)
    middle = float(np.median(dark[usable])) if usable.any() else 0.0
    limit = _NOTABLE_VARIANCE * (_dark_noise2(calibration, layout, index) + middle)
    rows, columns = np.nonzero((planes != 0) | (np.abs(dark - middle) > limit))
    marks = Marks(
        np.searchsorted(rows, np.arange(layout.amp_height + 1)).reshape(1, -1),
        (columns + amplifier.x0).astype(np.int32),
        planes[rows, columns],
        (dark[rows, columns] - middle).astype(np.float32),
    )
    return marks, middle


def _dark_noise2(calibration: Calibration, layout: DetectorLayout, index: int) -> float:
    """Variance of an unexposed pixel, electrons squared: read noise and the bias's own."""
    amplifier = layout.amplifiers[index]
    return amplifier.read_noise**2 + calibration.bias_variance * amplifier.gain**2


def _geometry(layout: DetectorLayout) -> Integers:
    sizes = (layout.prescan, layout.amp_width, layout.amp_height)
    return np.array([(a.x0, a.y0, a.flip_x, a.flip_y, *sizes) for a in layout.amplifiers], np.int64)


def _calibrate(
    raw: Raw,
    layout: DetectorLayout,
    calibration: Calibration,
    exposure_time: float,
    levels: Floats,
    image: Image,
    threads: int | None,
) -> Planes:
    """Fill the image; the highest count of each amplifier's rows."""
    n = len(layout.amplifiers)
    ready = calibration.prepare(layout, exposure_time, threads)
    fractions = np.zeros((n, n), np.float32)
    if calibration.crosstalk.size:
        fractions[:] = calibration.crosstalk
    strongest = np.abs(fractions).max(axis=0)
    electronics = np.column_stack(
        [
            [a.gain for a in layout.amplifiers],
            [_dark_noise2(calibration, layout, i) + ready.dark[i] for i in range(n)],
            calibration.linearity,
            np.full(n, calibration.flat_variance),
            np.where(strongest > 0, _GHOST_ADU / np.maximum(strongest, 1e-9), np.inf),
        ]
    ).astype(np.float32)
    peaks = np.empty(raw.shape[:2], np.uint16)
    marks = ready.marks
    fixed = (
        levels, ready.zero, ready.response, electronics, fractions, _geometry(layout), np.array(layout.strips, np.int64),
        marks.starts, marks.columns, marks.planes, marks.variance, image.pixels, image.variance, image.mask, peaks,
    )  # fmt: skip
    parallel.run(calibrate_rows, [(raw, *band, *fixed) for band in parallel.bands(layout.amp_height, threads)], threads)
    return peaks


def _spread_saturation(raw: Raw, layout: DetectorLayout, peaks: Planes, image: Image) -> None:
    geometry = _geometry(layout)
    for i, amplifier in enumerate(layout.amplifiers):
        spread_saturation(raw[i], peaks[i], np.float32(amplifier.saturation), geometry[i], image.mask)
