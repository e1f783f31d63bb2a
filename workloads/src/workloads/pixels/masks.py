"""Mask planes: names and bit numbers as Rubin's (BAD to NO_DATA are afw's defaults)."""

from __future__ import annotations

from enum import IntFlag


class Mask(IntFlag):
    """Bits of a mask pixel (``uint16``)."""

    BAD = 1 << 0
    SAT = 1 << 1
    INTRP = 1 << 2
    CR = 1 << 3
    EDGE = 1 << 4
    DETECTED = 1 << 5
    DETECTED_NEGATIVE = 1 << 6
    SUSPECT = 1 << 7
    NO_DATA = 1 << 8
    CROSSTALK = 1 << 9
    STREAK = 1 << 10
    INJECTED = 1 << 11


UNUSABLE = Mask.BAD | Mask.SAT | Mask.CR | Mask.NO_DATA
"""Pixels whose value says nothing about the sky."""


def planes() -> dict[str, int]:
    """Names and bit numbers, as FITS headers of Rubin spell them (``MP_BAD = 0``)."""
    return {f"MP_{plane.name}": plane.value.bit_length() - 1 for plane in Mask}
