"""Peaks of a significance map, told apart by their prominence.

Pixels above the threshold are numbered in reading order; islands are what of them touches. One island knows nothing of
another, so islands are flooded side by side.
"""

from __future__ import annotations

import numpy as np

from workloads.pixels.kernels import helper, kernel


@helper
def _root(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@helper
def _join(parent, i, j):
    a, b = _root(parent, i), _root(parent, j)
    parent[max(a, b)] = min(a, b)


@kernel("void(i4[:,::1], i8[::1], i8, i8, i8[::1])", fast=False)
def join_pixels(numbers, where, first, last, parent):
    """Join each of the pixels ``first`` to ``last`` of ``where`` (flat indices, ascending) to those of them that it touches.

    These are all pixels of a band of rows; ``numbers`` is -1 on the band and tells each of them its number after.
    """
    columns = numbers.shape[1]
    for k in range(first, last):
        y, x = where[k] // columns, where[k] % columns
        numbers[y, x], parent[k] = k, k
        # The row above the band's first pixel is empty, or another band's.
        top = max(y - 1, where[first] // columns)
        for v, u in ((y, x - 1), (y - 1, x - 1), (y - 1, x), (y - 1, x + 1)):
            if v >= top and u >= 0 and u < columns and numbers[v, u] >= 0:
                _join(parent, numbers[v, u], k)


@kernel("i8(i4[:,::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1])", fast=False)
def find_islands(numbers, where, bands, parent, members, starts):
    """Join bands of pixels (`join_pixels`; ``bands`` has the number of the first of each) to islands; returns how many.

    Numbers of the pixels of island ``i`` are ``members[starts[i] : starts[i + 1]]``, ascending; both are as long as
    ``where``, ``starts`` by one more.
    """
    columns = numbers.shape[1]
    total = where.size
    for first in bands:
        k = first
        while 0 < k < total and where[k] // columns == where[first] // columns:
            y, x = where[k] // columns - 1, where[k] % columns
            for u in range(max(x - 1, 0), min(x + 2, columns)):
                if y >= 0 and numbers[y, u] >= 0:
                    _join(parent, numbers[y, u], k)
            k += 1
    island = np.empty(total, np.int64)
    count = 0
    starts[:] = 0
    for k in range(total):
        root = _root(parent, k)
        if root == k:
            island[k] = count
            count += 1
        else:
            island[k] = island[root]
        starts[island[k] + 1] += 1
    for i in range(count):
        starts[i + 1] += starts[i]
    filled = starts[:count].copy()
    for k in range(total):
        members[filled[island[k]]] = k
        filled[island[k]] += 1
    return count


@kernel(
    "void(f4[::1], i8[::1], i4[:,::1], i8[::1], i8[::1], i8, i8, f4, f4, i8[::1], i8[::1], u1[::1], u1[::1])",
    fast=False,
)
def flood_islands(
    height, where, numbers, members, starts, first, last, prominence, contrast, parent, size, touched, flooded
):
    """Flood islands ``first`` to ``last`` from their summits down to the threshold.

    ``height`` is the significance of each pixel ``where``. Where two floods meet, the lower summit stays a source of its
    own if it stands out by ``prominence`` and by ``contrast`` of the higher one; else it joins. Arrays by pixel number:
    ``parent`` (its own number at first, and after for sources only), ``size`` (1 at first), ``touched`` and ``flooded``
    (0 at first).
    """
    rows, columns = numbers.shape
    for island in range(first, last):
        inside = members[starts[island] : starts[island + 1]]
        order = np.argsort(-height[inside], kind="mergesort")
        for k in range(order.size):
            i = inside[order[k]]
            y, x = where[i] // columns, where[i] % columns
            level = height[i]
            flooded[i] = 1
            best = i
            for v in range(max(y - 1, 0), min(y + 2, rows)):
                for u in range(max(x - 1, 0), min(x + 2, columns)):
                    neighbour = np.int64(numbers[v, u])
                    if neighbour < 0 or not flooded[neighbour] or neighbour == i:
                        continue
                    other = _root(parent, neighbour)
                    if other == best:
                        continue
                    high, low = (other, best) if height[other] >= height[best] else (best, other)
                    stands = height[low] - level >= prominence and height[low] - level >= contrast * height[high]
                    if low != i and stands:
                        touched[low] = 1
                        touched[high] = 1
                        # The separate source stays its own root: only its flood is closed.
                        best = high
                        continue
                    parent[low] = high
                    size[high] += size[low]
                    touched[high] |= touched[low]
                    best = high
            if best != i and parent[i] == i:
                parent[i] = best
                size[best] += 1
