"""Floats as whole numbers of steps, with the dither of FITS tile compression (SUBTRACTIVE_DITHER_1)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.pixels.errors import InvalidValueError
from workloads.pixels.images import Doubles, Floats
from workloads.pixels.kernels.rice import BLANK, dequantize_rows, quantize_rows

Steps = npt.NDArray[np.int32]
SEED = 1
"""Of the dither (ZDITHER0): tile ``n`` (from 1) takes place ``n + SEED - 2`` of the convention's random numbers."""


@cache
def dither() -> Floats:
    """Return the 10,000 numbers from 0 to 1 that the standard prescribes (its appendix I)."""
    numbers, seed, modulus = np.empty(10_000, np.float32), 1, 2147483647
    for i in range(numbers.size):
        seed = 16807 * seed % modulus
        numbers[i] = seed / modulus
    return numbers


def quantize(data: Floats, levels: float, name: str) -> tuple[Steps, Doubles, Doubles]:
    """Round each row to steps of its background noise.

    Parameters
    ----------
    data
        ``float32[ny, nx]``; NaN becomes the convention's blank.
    levels
        Steps per standard deviation of the row's noise. No step is finer than the last bit of the row's largest value.

    Returns
    -------
    steps, scale, zero
        ``int32[ny, nx]``; of each row the step and the value of step 0.

    Raises
    ------
    InvalidValueError
        A value is infinite, or ``levels`` is not positive.
    """
    if not (np.isfinite(levels) and levels > 0):
        raise InvalidValueError(f"levels of {name}", str(levels), "more than 0")
    if np.isinf(data).any():
        raise InvalidValueError(name, "infinite values", "numbers or NaN")
    steps = np.empty(data.shape, np.int32)
    scale, zero = np.empty(data.shape[0]), np.empty(data.shape[0])
    quantize_rows(np.ascontiguousarray(data), levels, SEED - 1, dither(), steps, scale, zero)
    return steps, scale, zero


def restore(steps: Steps, scale: Doubles, zero: Doubles, first: int, cards: dict[str, Any]) -> Floats:
    """Undo `quantize` for rows from ``first`` on."""
    data = np.empty(steps.shape, np.float32)
    dequantize_rows(steps, scale, zero, first + int(cards.get("ZDITHER0", SEED)) - 1, dither(), data)
    return data


def cards() -> dict[str, Any]:
    """Keywords that say how to undo it."""
    return {
        "ZQUANTIZ": ("SUBTRACTIVE_DITHER_1", "floats as whole steps"),
        "ZDITHER0": (SEED, "seed of the dither"),
        "ZBLANK": (BLANK, "steps of a value that is not known"),
    }
