"""Combination of stacks."""

from __future__ import annotations

import numpy as np

from workloads.pixels.kernels import kernel


@kernel("void(f4[:,:,::1], f4, f4[:,::1], u2[:,::1])")
def clipped_mean(stack, clip, mean, used):
    """Mean of each pixel's values within ``clip`` robust deviations of their median; NaN is left out."""
    n, rows, columns = stack.shape
    values = np.empty(n, np.float32)
    for row in range(rows):
        for column in range(columns):
            count = 0
            for k in range(n):
                value = stack[k, row, column]
                if not np.isnan(value):
                    j = count - 1
                    while j >= 0 and values[j] > value:
                        values[j + 1] = values[j]
                        j -= 1
                    values[j + 1] = value
                    count += 1
            if count == 0:
                mean[row, column] = np.nan
                used[row, column] = 0
                continue
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
            mean[row, column] = total / kept
            used[row, column] = kept


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
