"""Laplacian cosmic-ray detection (van Dokkum 2001) where it can matter, and nowhere else.

Only pixels whose Laplacian exceeds the threshold times a lower bound of the noise are looked at closely; medians,
noise and fine structure are computed for those alone, and remembered within a band of rows.
"""

from __future__ import annotations

import math

import numpy as np

from workloads.pixels.kernels import helper, kernel

BLOCK = 16
"""Pixels along a side of the blocks that bound the noise from below."""


@kernel("void(f4[:,::1], u1[:,::1], f4[:,::1], i8, i8)")
def block_minima(variance, active, minima, first, last):
    """Smallest variance of each ``active`` block, block rows ``first`` to ``last``."""
    rows, columns = variance.shape
    for block in range(first, last):
        for j in range(minima.shape[1]):
            if active[block, j]:
                minima[block, j] = np.inf
        for row in range(block * BLOCK, min((block + 1) * BLOCK, rows)):
            for j in range(minima.shape[1]):
                if not active[block, j]:
                    continue
                smallest = np.float32(np.inf)
                for column in range(j * BLOCK, min((j + 1) * BLOCK, columns)):
                    smallest = min(smallest, variance[row, column])
                minima[block, j] = min(minima[block, j], smallest)


@helper
def _median(values, count):
    for i in range(1, count):
        value, j = values[i], i - 1
        while j >= 0 and values[j] > value:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = value
    return values[count // 2]


@helper
def _separable_median(image, y, x, half, inner, outer):
    """Median of the medians of the rows around a pixel; the border is left as it is."""
    rows, columns = image.shape
    if y < half or x < half or y >= rows - half or x >= columns - half:
        return image[y, x]
    size = 2 * half + 1
    for j in range(size):
        for i in range(size):
            inner[i] = image[y + j - half, x + i - half]
        outer[j] = _median(inner, size)
    return _median(outer, size)


@helper
def _laplacian(image, y, x):
    """Positive part of the Laplacian on the twice finer grid, averaged back; beyond the edge lies 0."""
    rows, columns = image.shape
    zero = np.float32(0.0)
    twice = np.float32(2.0) * image[y, x]
    left = image[y, x - 1] if x > 0 else zero
    right = image[y, x + 1] if x < columns - 1 else zero
    up = image[y - 1, x] if y > 0 else zero
    down = image[y + 1, x] if y < rows - 1 else zero
    total = max(twice - left - up, zero) + max(twice - right - up, zero)
    total += max(twice - left - down, zero) + max(twice - right - down, zero)
    return np.float32(0.25) * total


@helper
def _significance(image, variance, y, x, memory, known, top, inner, outer):
    """Laplacian over noise (``s`` of the paper), remembered."""
    if known[y - top, x] & 1 == 0:
        noise2 = max(_separable_median(variance, y, x, 3, inner, outer), np.float32(1e-5))
        memory[0, y - top, x] = _laplacian(image, y, x) / (np.float32(2.0) * np.float32(math.sqrt(noise2)))
        known[y - top, x] |= 1
    return memory[0, y - top, x]


@helper
def _excess(image, variance, y, x, memory, known, top, inner, outer, rows_of):
    """Significance less its local median (``s'``), remembered; 0 in the border of 3 pixels."""
    rows, columns = image.shape
    if y < 3 or x < 3 or y >= rows - 3 or x >= columns - 3:
        return np.float32(0.0)
    if known[y - top, x] & 2 == 0:
        for j in range(7):
            for i in range(7):
                rows_of[i] = _significance(image, variance, y + j - 3, x + i - 3, memory, known, top, inner, outer)
            rows_of[9 + j] = _median(rows_of, 7)
        middle = _median(rows_of[9:], 7)
        own = _significance(image, variance, y, x, memory, known, top, inner, outer)
        memory[1, y - top, x] = own - middle
        known[y - top, x] |= 2
    return memory[1, y - top, x]


@helper
def _fine_structure(image, variance, y, x, inner, outer, window, lines):
    """Small median less large median, over noise, at least 0.01."""
    rows, columns = image.shape
    low = np.float32(0.01)
    if y < 4 or x < 4 or y >= rows - 4 or x >= columns - 4:
        return low
    for j in range(9):
        for i in range(9):
            window[j, i] = _separable_median(image, y + j - 4, x + i - 4, 2, inner, outer)
    middle = window[4, 4]
    for j in range(9):
        for i in range(9):
            inner[i] = window[j, i]
        lines[j] = _median(inner, 9)
    large = _median(lines, 9)
    noise2 = max(_separable_median(variance, y, x, 3, inner, outer), np.float32(1e-5))
    return max((middle - large) / np.float32(math.sqrt(noise2)), low)


@kernel("i8(f4[:,::1], f4[:,::1], f4[:,::1], u1[:,::1], u1[:,::1], u1[:,::1], i8, i8, f4, f4, f4)", fast=False)
def find_hits(image, variance, minima, masked, active, hits, first, last, clip, low, contrast):
    """Mark cosmic-ray pixels seeded in rows ``first`` to ``last`` of ``active`` blocks; returns the number of seeds."""
    rows, columns = image.shape
    margin = 8
    top, bottom = max(first - margin, 0), min(last + margin, rows)
    memory = np.empty((2, bottom - top, columns), np.float32)
    known = np.zeros((bottom - top, columns), np.uint8)
    inner, outer, rows_of = np.empty(9, np.float32), np.empty(9, np.float32), np.empty(18, np.float32)
    window, lines = np.empty((9, 9), np.float32), np.empty(9, np.float32)
    bound = np.empty(minima.shape[1], np.float32)
    strength = np.zeros(columns, np.float32)
    zero, half = np.float32(0.0), np.float32(0.125)
    seeds = 0
    for y in range(max(first, 3), min(last, rows - 3)):
        if y % BLOCK == 0 or y == max(first, 3):
            block = y // BLOCK
            for j in range(minima.shape[1]):
                smallest = np.float32(np.inf)
                for b in range(max(block - 1, 0), min(block + 2, minima.shape[0])):
                    for i in range(max(j - 1, 0), min(j + 2, minima.shape[1])):
                        smallest = min(smallest, minima[b, i])
                bound[j] = clip * np.float32(math.sqrt(max(smallest, np.float32(1e-5))))
        above, here, below, awake = image[y - 1], image[y], image[y + 1], active[y // BLOCK]
        j = 0
        while j < awake.size:
            opened = j
            while j < awake.size and awake[j]:
                j += 1
            for x in range(max(opened * BLOCK, 1), min(j * BLOCK, columns - 1)):
                twice = here[x] + here[x]
                a, b, c, d = twice - here[x - 1], twice - here[x + 1], above[x], below[x]
                strength[x] = half * (max(a - c, zero) + max(b - c, zero) + max(a - d, zero) + max(b - d, zero))
            j += 1
        for j in range(awake.size):
            if not awake[j]:
                continue
            start, stop = max(j * BLOCK, 3), min((j + 1) * BLOCK, columns - 3)
            highest = zero
            for x in range(start, stop):
                highest = max(highest, strength[x])
            if highest <= bound[j]:
                continue
            for x in range(start, stop):
                if strength[x] <= bound[j] or masked[y, x]:
                    continue
                if _significance(image, variance, y, x, memory, known, top, inner, outer) <= clip:
                    continue
                excess = _excess(image, variance, y, x, memory, known, top, inner, outer, rows_of)
                if excess <= clip:
                    continue
                if not excess / _fine_structure(image, variance, y, x, inner, outer, window, lines) > contrast:
                    continue
                seeds += 1
                for v in range(max(y - 1, 3), min(y + 2, rows - 3)):
                    for u in range(max(x - 1, 3), min(x + 2, columns - 3)):
                        if (
                            masked[v, u]
                            or not _excess(image, variance, v, u, memory, known, top, inner, outer, rows_of) > clip
                        ):
                            continue
                        for t in range(max(v - 1, 3), min(v + 2, rows - 3)):
                            for s in range(max(u - 1, 3), min(u + 2, columns - 3)):
                                if (
                                    masked[t, s] == 0
                                    and _excess(image, variance, t, s, memory, known, top, inner, outer, rows_of) > low
                                ):
                                    hits[t, s] = 1
    return seeds


@kernel("i8[::1](u1[:,::1], u1[:,::1], i8, i8)", fast=False)
def note_hits(hits, fresh, first, last):
    """Take what is ``fresh`` in rows ``first`` to ``last`` into ``hits``; returns the flat indices of what was none before.

    ``fresh`` is cleared.
    """
    columns = hits.shape[1]
    found = np.zeros(last - first, np.int64)
    for y in range(first, last):
        for x in range(columns):
            found[y - first] += fresh[y, x]
    where, count = np.empty(found.sum(), np.int64), 0
    for y in range(first, last):
        if found[y - first] == 0:
            continue
        for x in range(columns):
            if fresh[y, x] and not hits[y, x]:
                hits[y, x] = 1
                where[count] = y * columns + x
                count += 1
            fresh[y, x] = 0
    return where[:count].copy()


@kernel("void(f4[:,::1], f4[:,::1], u1[:,::1], u1[:,::1], u1[:,::1], i8[::1], f4, f4)", fast=False)
def clean_hits(image, variance, masked, hits, active, where, level, variance_level):
    """Fill hits (flat indices ``where``) with the mean of good neighbours (5 x 5); mark blocks to be looked at again.

    Calls for parts of ``where`` may run side by side: what two of them write to one pixel is the same.
    """
    rows, columns = image.shape
    for k in range(where.size):
        y, x = where[k] // columns, where[k] % columns
        for v in range(max(y - 2, 2), min(y + 3, rows - 2)):
            for u in range(max(x - 2, 2), min(x + 3, columns - 2)):
                if hits[v, u]:
                    total, total_variance, used = np.float32(0.0), np.float32(0.0), 0
                    for t in range(v - 2, v + 3):
                        for s in range(u - 2, u + 3):
                            if not (hits[t, s] or masked[t, s]):
                                total += image[t, s]
                                total_variance += variance[t, s]
                                used += 1
                    image[v, u] = total / used if used else level
                    variance[v, u] = total_variance / used if used else variance_level
        for v in range(max(y - 9, 0) // BLOCK, min(y + 9, rows - 1) // BLOCK + 1):
            for u in range(max(x - 9, 0) // BLOCK, min(x + 9, columns - 1) // BLOCK + 1):
                active[v, u] = 1


@kernel("void(f4[:,::1], u1[:,::1], f4, i8, i8, i8, u1[:,::1])")
def guard_rows(image, masked, saturation, reach, first, last, guarded):
    """Grow the mask by one pixel and the cores of saturated stars by ``reach``, from rows ``first`` to ``last``.

    A saturated pixel belongs to a star, not to a hit, if the medians around it are above a tenth of saturation.
    """
    rows, columns = image.shape
    inner, outer = np.empty(9, np.float32), np.empty(9, np.float32)
    for y in range(first, last):
        for x in range(columns):
            if masked[y, x]:
                for v in range(max(y - 1, 0), min(y + 2, rows)):
                    for u in range(max(x - 1, 0), min(x + 2, columns)):
                        guarded[v, u] = 1
            if image[y, x] >= saturation and _separable_median(image, y, x, 3, inner, outer) > saturation / 10:
                for v in range(max(y - reach, 0), min(y + reach + 1, rows)):
                    for u in range(max(x - reach, 0), min(x + reach + 1, columns)):
                        # With a reach of 4: twice a 5 x 5 square without its corners.
                        if 2 * (abs(v - y) + abs(u - x)) <= 3 * reach:
                            guarded[v, u] = 1
