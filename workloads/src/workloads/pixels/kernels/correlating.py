"""Correlation with stamps that are sums of a few products of a column and a row: short loops in place of transforms.

Loops along a row index views that begin where they do: of an index like ``x + i`` the compiler cannot tell that it is not
negative, which counts from the end, and it gathers element by element.
"""

from __future__ import annotations

import numpy as np

from workloads.pixels.kernels import kernel

TILE = 1024
"""Columns worked on at once: the rows that a stamp spans stay in the processor's caches."""


@kernel(
    "i8(f4[:,::1], f4[:,::1], u2[:,::1], u2, f4[:,::1], f4[:,::1], f4[:,::1], f4[:,::1], i8, i8, f4[:,::1], f4[:,::1])"
)
def correlate_rows(
    pixels, variance, mask, unusable, down, across, noise_down, noise_across, first, last, signal, noise2
):
    """Correlate rows ``first`` to ``last`` of an image and of its variance, each with a stamp of its own.

    Stamps are ``sum over k of outer(down[k], across[k])``, of one odd size. Unusable pixels and what lies beyond the
    edge count for nothing; a variance that is not finite counts for nothing. Returns how many usable pixels of these
    rows are not finite.
    """
    rows, columns = pixels.shape
    size, terms, noise_terms = down.shape[1], down.shape[0], noise_down.shape[0]
    half = size // 2
    zero = np.float32(0.0)
    line, noise_line = np.zeros(TILE + size - 1, np.float32), np.zeros(TILE + size - 1, np.float32)
    ring = np.empty((terms + noise_terms, size, TILE), np.float32)
    strange = 0
    for left in range(0, columns, TILE):
        width = min(TILE, columns - left)
        for row in range(first - half, last + half):
            slot = row % size
            if row < 0 or row >= rows:
                ring[:, slot, :] = zero
            else:
                for i in range(width + size - 1):
                    column = left + i - half
                    value, noise = zero, zero
                    if column >= 0 and column < columns and mask[row, column] & unusable == 0:
                        value, noise = pixels[row, column], variance[row, column]
                        if not np.isfinite(noise):
                            noise = zero
                    line[i], noise_line[i] = value, noise
                if row >= first and row < last:
                    total = zero
                    for i in range(half, half + width):
                        total += line[i] * zero  # 0 unless something is not finite
                    if total != zero:
                        for i in range(half, half + width):
                            strange += not np.isfinite(line[i])
                for k in range(terms + noise_terms):
                    source = line if k < terms else noise_line
                    weights = across[k] if k < terms else noise_across[k - terms]
                    result = ring[k, slot]
                    a = weights[0]
                    for x in range(width):
                        result[x] = a * source[x]
                    for i in range(1, size - 3, 4):
                        a, b, c, d = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
                        one, two = source[i : i + width], source[i + 1 : i + 1 + width]
                        three, four = source[i + 2 : i + 2 + width], source[i + 3 : i + 3 + width]
                        for x in range(width):
                            result[x] += a * one[x] + b * two[x] + c * three[x] + d * four[x]
                    if size % 4 == 3:
                        a, b = weights[size - 2], weights[size - 1]
                        one, two = source[size - 2 : size - 2 + width], source[size - 1 : size - 1 + width]
                        for x in range(width):
                            result[x] += a * one[x] + b * two[x]
            y = row - half
            if y < first:
                continue
            for k in range(terms + noise_terms):
                target = signal[y, left : left + width] if k < terms else noise2[y, left : left + width]
                weights = down[k] if k < terms else noise_down[k - terms]
                fresh = k in (0, terms)
                a, above = weights[0], ring[k, (y - half) % size]
                for x in range(width):
                    target[x] = a * above[x] + (zero if fresh else target[x])
                for j in range(1, size - 3, 4):
                    a, b, c, d = weights[j], weights[j + 1], weights[j + 2], weights[j + 3]
                    one, two = ring[k, (y - half + j) % size], ring[k, (y - half + j + 1) % size]
                    three, four = ring[k, (y - half + j + 2) % size], ring[k, (y - half + j + 3) % size]
                    for x in range(width):
                        target[x] += a * one[x] + b * two[x] + c * three[x] + d * four[x]
                if size % 4 == 3:
                    a, b = weights[size - 2], weights[size - 1]
                    one, two = ring[k, (y + half - 1) % size], ring[k, (y + half) % size]
                    for x in range(width):
                        target[x] += a * one[x] + b * two[x]
    return strange
