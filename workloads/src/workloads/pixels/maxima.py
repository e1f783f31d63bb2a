"""The largest value in a box round every pixel."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

Values = TypeVar("Values", bound=np.ndarray[Any, Any])


def box_maximum(values: Values, reach: int) -> Values:
    """Largest value within `reach` rows and columns of each pixel, of numbers or truths ``[..., ny, nx]``.

    Windows double from step to step, so the work grows with the logarithm of the reach.
    """
    return _line_maximum(_line_maximum(values, reach, -1), reach, -2)


def _line_maximum(values: Values, reach: int, axis: int) -> Values:
    """Largest value within `reach` places along an axis."""
    count, width, span = values.shape[axis], 2 * reach + 1, 1
    margins = [(0, 0)] * values.ndim
    margins[axis] = (reach, reach)
    found: np.ndarray[Any, Any] = np.pad(values, margins, mode="edge")
    while 2 * span <= width:
        found = np.maximum(_part(found, 0, found.shape[axis] - span, axis), _part(found, span, None, axis))
        span *= 2
    result: Values = np.maximum(_part(found, 0, count, axis), _part(found, width - span, width - span + count, axis))
    return result


def _part(values: np.ndarray[Any, Any], first: int, last: int | None, axis: int) -> np.ndarray[Any, Any]:
    """Return a view of a range along the last axis or the one before it."""
    return values[..., first:last] if axis == -1 else values[..., first:last, :]
