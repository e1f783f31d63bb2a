"""Combination of stacks."""

from __future__ import annotations

import numpy as np

from workloads.pixels.kernels import helper, kernel

_BLOCK = 256
"""Pixels of a row that are sorted side by side."""


def sorting_network(count: int) -> np.ndarray:
    """Pairs whose comparison in turn sorts ``count`` values (Batcher's odd-even merge sort)."""
    size, p = 1 << max(count - 1, 1).bit_length(), 1
    pairs: list[tuple[int, int]] = []
    while p < size:
        k = p
        while k >= 1:
            for j in range(k % p, size - k, 2 * k):
                # What lies beyond the end counts as infinite and stays there.
                ends = range(j, j + min(k, size - j - k, count - j - k))
                pairs += [(i, i + k) for i in ends if i // (2 * p) == (i + k) // (2 * p)]
            k //= 2
        p *= 2
    return np.array(pairs, np.int64).reshape(-1, 2)


@helper
def _sort_rows(values, pairs, width):
    for p in range(pairs.shape[0]):
        low, high = values[pairs[p, 0]], values[pairs[p, 1]]
        for i in range(width):
            a, b = low[i], high[i]
            low[i], high[i] = min(a, b), max(a, b)


@helper
def _mean_of_some(stack, column, clip, values, mean, used):
    """One pixel with values missing."""
    n = stack.shape[0]
    count = 0
    for k in range(n):
        value = stack[k, column]
        if not np.isnan(value):
            j = count - 1
            while j >= 0 and values[j] > value:
                values[j + 1] = values[j]
                j -= 1
            values[j + 1] = value
            count += 1
    if count == 0:
        mean[column] = np.nan
        used[column] = 0
        return
    middle = np.float32(0.5) * (values[count // 2] + values[(count - 1) // 2])
    # Two walkers from the ends find the median absolute deviation of the sorted values.
    low, high, deviation = 0, count - 1, np.float32(0.0)
    for _ in range(count - (count - 1) // 2):
        if middle - values[low] > values[high] - middle:
            deviation = middle - values[low]
            low += 1
        else:
            deviation = values[high] - middle
            high -= 1
    limit = clip * max(np.float32(1.4826) * deviation, np.float32(1e-12))
    total, kept = np.float32(0.0), 0
    for k in range(count):
        if abs(values[k] - middle) <= limit:
            total += values[k]
            kept += 1
    mean[column] = total / kept
    used[column] = kept


@kernel("void(f4[:,:,::1], f4, i8[:,::1], f4[:,::1], u2[:,::1])")
def clipped_mean(stack, clip, pairs, mean, used):
    """Mean of each pixel's values within ``clip`` robust deviations of their median; NaN is left out.

    Pixels beside each other go through the same comparisons (``pairs``, of `sorting_network`), which the processor does
    for many at once; those where a value is missing are done one by one.
    """
    n, rows, columns = stack.shape
    values, off = np.empty((n, _BLOCK), np.float32), np.empty((n, _BLOCK), np.float32)
    middle, limit = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    total, kept, few = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32), np.empty(n, np.float32)
    for row in range(rows):
        for begin in range(0, columns, _BLOCK):
            width = min(_BLOCK, columns - begin)
            missing = 0
            for k in range(n):
                line = stack[k, row, begin : begin + width]
                for i in range(width):
                    values[k, i] = line[i]
                    missing += line[i] != line[i]
            if missing:
                for i in range(width):
                    _mean_of_some(stack[:, row], begin + i, clip, few, mean[row], used[row])
                continue
            _sort_rows(values, pairs, width)
            low, high = values[(n - 1) // 2], values[n // 2]
            for i in range(width):
                middle[i] = np.float32(0.5) * (low[i] + high[i])
                total[i], kept[i] = np.float32(0.0), np.float32(0.0)
            for k in range(n):
                for i in range(width):
                    off[k, i] = abs(values[k, i] - middle[i])
            _sort_rows(off, pairs, width)
            for i in range(width):
                limit[i] = clip * max(np.float32(1.4826) * off[(n - 1) // 2, i], np.float32(1e-12))
            for k in range(n):
                for i in range(width):
                    inside = abs(values[k, i] - middle[i]) <= limit[i]
                    total[i] += values[k, i] if inside else np.float32(0.0)
                    kept[i] += np.float32(1.0) if inside else np.float32(0.0)
            for i in range(width):
                mean[row, begin + i] = total[i] / kept[i]
                used[row, begin + i] = np.uint16(kept[i])


@kernel("void(f4[:,:,::1], f4[:,:,::1], u2[:,:,::1], f4[::1], u2, u2, u2, u2, f4[:,::1], f4[:,::1], u2[:,::1])")
def coadd_rows(pixels, variance, mask, weights, unusable, saturated, outside, bad, out_pixels, out_variance, out_mask):
    """Weighted mean of aligned epochs.

    Weights are one per epoch: per-pixel weights would follow each star's own noise and change the PSF with brightness.
    A value is rejected if it is off the median by five deviations and by a third of it (the PSFs differ).
    A pixel that any epoch has ``saturated`` stays so: without that epoch the PSF there is another than elsewhere. One that
    no epoch has is ``outside`` if all say so, else ``bad``.
    """
    n, rows, columns = pixels.shape
    values = np.empty(n, np.float32)
    for y in range(rows):
        for x in range(columns):
            count, lost, away = 0, np.uint16(0), outside
            for k in range(n):
                lost |= mask[k, y, x] & saturated
                away &= mask[k, y, x]
                if mask[k, y, x] & unusable == 0:
                    value, j = pixels[k, y, x], count - 1
                    while j >= 0 and values[j] > value:
                        values[j + 1] = values[j]
                        j -= 1
                    values[j + 1] = value
                    count += 1
            if count == 0:
                out_pixels[y, x], out_variance[y, x] = np.float32(0.0), np.float32(0.0)
                out_mask[y, x] = lost | (away or bad)
                continue
            middle = np.float32(0.5) * (values[count // 2] + values[(count - 1) // 2])
            total, noise, norm, bits = np.float32(0.0), np.float32(0.0), np.float32(0.0), lost
            for k in range(n):
                if mask[k, y, x] & unusable:
                    continue
                off = abs(pixels[k, y, x] - middle)
                if (
                    count > 2
                    and off > np.float32(5.0) * np.sqrt(variance[k, y, x])
                    and off > np.float32(0.33) * abs(middle)
                ):
                    continue
                total += weights[k] * pixels[k, y, x]
                noise += weights[k] * weights[k] * variance[k, y, x]
                norm += weights[k]
                bits |= mask[k, y, x]
            if norm > 0:
                out_pixels[y, x], out_variance[y, x], out_mask[y, x] = total / norm, noise / (norm * norm), bits
            else:
                out_pixels[y, x], out_variance[y, x], out_mask[y, x] = middle, np.float32(0.0), bits | bad
