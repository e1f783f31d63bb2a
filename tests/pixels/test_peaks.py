"""Islands of a significance map, found band by band."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st

from workloads.pixels.kernels.peaks import find_islands, join_pixels


def _islands(above: np.ndarray, bands: int) -> list[list[int]]:
    where = np.flatnonzero(above)
    rows = np.linspace(0, len(above), bands + 1).astype(np.int64)
    edges = np.searchsorted(where, rows * above.shape[1])
    numbers = np.full(above.shape, -1, np.int32)
    joined, members, starts = (np.empty(len(where) + more, np.int64) for more in (0, 0, 1))
    for first, last in pairwise(edges):
        join_pixels(numbers, where, first, last, joined)
    count = find_islands(numbers, where, edges[:-1].copy(), joined, members, starts)
    return [where[members[starts[i] : starts[i + 1]]].tolist() for i in range(count)]


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.floats(0.05, 0.6))
def test_islands_are_those_of_scipy_in_any_number_of_bands(seed: int, bands: int, share: float) -> None:
    """Islands with corners that touch, across any bands, empty ones among them."""
    above = np.random.default_rng(seed).random((17, 13)) < share
    labels, count = scipy.ndimage.label(above, np.ones((3, 3)))
    assert _islands(above, bands) == [np.flatnonzero(labels == i + 1).tolist() for i in range(count)]


@pytest.mark.parametrize("above", [np.zeros((8, 8), bool), np.ones((8, 8), bool)], ids=["nothing", "everything"])
def test_nothing_and_everything(above: np.ndarray) -> None:
    """No pixel above the threshold, and all of them."""
    assert [len(island) for island in _islands(above, 4)] == [above.size] * bool(above.any())
