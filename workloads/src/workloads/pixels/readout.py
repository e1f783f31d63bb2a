"""Whether a raw exposure was read out at all: what no electronics makes is refused before anything is measured on it."""

from __future__ import annotations

import numpy as np

from workloads.pixels.errors import InvalidValueError
from workloads.pixels.isr import Calibration, Raw
from workloads.pixels.layout import DetectorLayout
from workloads.pixels.masks import Mask

LONGEST_SECONDS = 86_400.0
"""No exposure of the sky is longer than a day."""
_STEP = 8
"""Rows of the overscan from one that is looked at to the next."""
_FACTOR = 10.0
"""How many times more or less than its electronics' an overscan's noise may be."""
_FEWEST_COLUMNS = 4
_COUNTED = 1.0
"""Noise (adu) below which whole numbers say little of it."""
_TRIMMED = 0.05
"""Share of the largest steps that do not count: the trails of saturated stars reach into the overscan."""


def require_readout(raw: Raw, layout: DetectorLayout, calibration: Calibration) -> None:
    """Refuse pixels of an amplifier that are all alike, or whose overscan is not the noise of its electronics.

    An amplifier that is known to be dead, for all of it is a defect, is passed over.

    Raises
    ------
    InvalidValueError
        Naming the amplifiers.
    """
    wrong: dict[str, str] = {}
    for index, (frame, amplifier) in enumerate(zip(raw, layout.amplifiers, strict=True)):
        if (calibration.defects[layout.section(index)] & np.uint16(Mask.BAD.value)).all():
            continue
        first = frame[0, 0]
        if (frame[::_STEP] == first).all() and (frame == first).all():
            wrong[amplifier.name] = f"all pixels are {first}"
            continue
        expected = amplifier.read_noise / amplifier.gain
        found = _noise(frame[::_STEP, -layout.overscan :]) if layout.overscan >= _FEWEST_COLUMNS else expected
        least = expected / _FACTOR if expected >= _COUNTED else 0.0
        if not least <= found <= max(expected, _COUNTED) * _FACTOR:
            wrong[amplifier.name] = f"its overscan has a noise of {found:.3g} adu, its electronics {expected:.3g}"
    if wrong:
        said = "; ".join(f"{name}: {what}" for name, what in wrong.items())
        raise InvalidValueError(f"raw exposure of {layout.name}", f"amplifiers that were not read out: {said}", "noise")


def require_exposed(exposure_time: float) -> None:
    """Refuse an exposure time (seconds) in which no light of the sky can have come.

    Raises
    ------
    InvalidValueError
        It is no number, not positive, or longer than a day.
    """
    if not 0 < exposure_time <= LONGEST_SECONDS:
        raise InvalidValueError(
            "exposure time", f"{exposure_time:g}", f"more than 0 and at most {LONGEST_SECONDS:g} seconds"
        )


def _noise(overscan: Raw) -> float:
    """Return the noise of an overscan, adu: from neighbours in a row, so that its level does not matter."""
    steps = np.sort(np.abs(np.diff(overscan.astype(np.float32), axis=1)).ravel())
    kept = steps[: max(1, round(len(steps) * (1 - _TRIMMED)))]
    return float(np.sqrt((kept**2).mean() / 2.0))
