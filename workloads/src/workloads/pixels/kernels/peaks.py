"""Peaks of a significance map, told apart by their prominence."""

from __future__ import annotations

import numpy as np

from workloads.pixels.kernels import helper, kernel


@helper
def _root(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@kernel("i8(f4[:,::1], f4, i8[::1], f4, f4, i4[:,::1], i4[::1], i4[::1], i4[::1], f4[::1], u1[::1])", fast=False)
def find_peaks(snr, sign, where, prominence, contrast, labels, peak_y, peak_x, area, height, blended):
    """Flood the map of ``sign * snr`` from its summits down to the threshold.

    ``where`` are the flat indices of what stands above the threshold, ``labels`` is -1 everywhere and holds scratch
    numbers of flooded pixels after. Where two floods meet, the lower summit stays a source of its own if it stands out
    by ``prominence`` and by ``contrast`` of the higher one; else it joins. Returns how many sources there are (at most
    the output's length).
    """
    rows, columns = snr.shape
    total = where.size
    value = np.empty(total, np.float32)
    for k in range(total):
        value[k] = -sign * snr[where[k] // columns, where[k] % columns]
    order = np.argsort(value, kind="mergesort")
    parent = np.arange(total)
    summit, size = np.empty(total, np.float32), np.ones(total, np.int64)
    final, touched = np.zeros(total, np.uint8), np.zeros(total, np.uint8)
    for k in range(total):
        i = order[k]
        y, x = where[i] // columns, where[i] % columns
        level = -value[i]
        summit[i] = level
        labels[y, x] = i
        best = i
        for v in range(max(y - 1, 0), min(y + 2, rows)):
            for u in range(max(x - 1, 0), min(x + 2, columns)):
                if labels[v, u] < 0 or (v == y and u == x):
                    continue
                other = _root(parent, labels[v, u])
                if other == best:
                    continue
                high, low = (other, best) if summit[other] >= summit[best] else (best, other)
                stands = summit[low] - level >= prominence and summit[low] - level >= contrast * summit[high]
                if low != i and stands:
                    final[low] = 1
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
    count = 0
    for k in range(total):
        i = order[k]
        if parent[i] == i and count < peak_y.size:
            peak_y[count], peak_x[count] = where[i] // columns, where[i] % columns
            area[count], height[count], blended[count] = size[i], -value[i], touched[i]
            count += 1
    return count
