"""Correlation with stamps that are sums of a few products of a column and a row: short loops in place of transforms."""

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
            slot = (row + size) % size
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
                    for i in range(1, size, 2):
                        a, b = weights[i], weights[i + 1]
                        for x in range(width):
                            result[x] += a * source[x + i] + b * source[x + i + 1]
            y = row - half
            if y < first:
                continue
            for k in range(terms + noise_terms):
                target = signal[y, left : left + width] if k < terms else noise2[y, left : left + width]
                weights = down[k] if k < terms else noise_down[k - terms]
                fresh = k in (0, terms)
                a, above = weights[0], ring[k, (y - half + size) % size]
                for x in range(width):
                    target[x] = a * above[x] + (zero if fresh else target[x])
                for j in range(1, size, 2):
                    a, b = weights[j], weights[j + 1]
                    upper, lower = ring[k, (y - half + j + size) % size], ring[k, (y - half + j + 1 + size) % size]
                    for x in range(width):
                        target[x] += a * upper[x] + b * lower[x]
    return strange
