"""Clipped statistics of mesh cells."""

from __future__ import annotations

import math

import numpy as np

from workloads.pixels.kernels import kernel

_BINS = 512


@kernel("void(f4[:,::1], u2[:,::1], u2, i8, i8, i8, f4[:,::1], f4[:,::1])")
def cell_statistics(pixels, mask, unusable, mesh, first, last, level, spread):
    """Background level and deviation of mesh cells, mesh rows ``first`` to ``last``; NaN where under a tenth is usable.

    Values are clipped at 3 deviations until that changes nothing; the level is 2.5 median - 1.5 mean (an estimate of
    the mode) unless the cell is crowded, then the median.
    """
    rows, columns = pixels.shape
    buffer = np.empty(mesh * mesh, np.float32)
    counts = np.empty(_BINS, np.int64)
    for j in range(first, last):
        for i in range(level.shape[1]):
            n, area = 0, 0
            for row in range(j * rows // level.shape[0], (j + 1) * rows // level.shape[0]):
                for column in range(i * columns // level.shape[1], (i + 1) * columns // level.shape[1]):
                    area += 1
                    if mask[row, column] & unusable == 0 and n < buffer.size:
                        buffer[n] = pixels[row, column]
                        n += 1
            if n * 10 < area or n < 8:
                level[j, i] = np.nan
                spread[j, i] = np.nan
                continue
            step = max(n // 129, 1)
            sample = np.sort(buffer[:n:step].copy())
            m = sample.size
            mean = np.float64(sample[m // 2])
            sigma = max(np.float64(sample[int(0.84 * m)] - sample[int(0.16 * m)]) * 0.5, 1e-6)
            first_sigma, used = 0.0, 0
            for _ in range(12):
                low, high = np.float32(mean - 3.0 * sigma), np.float32(mean + 3.0 * sigma)
                total, square, kept, origin = 0.0, 0.0, 0, np.float32(mean)
                for k in range(n):
                    if low <= buffer[k] <= high:
                        value = buffer[k] - origin
                        total += value
                        square += value * value
                        kept += 1
                if kept == 0:
                    break
                shift = total / kept
                # The cut at three deviations takes 1.3 % off a Gaussian's own; undo that.
                fresh = 1.0135 * math.sqrt(max(square / kept - shift * shift, 1e-12))
                mean += shift
                settled = kept == used
                sigma, used = fresh, kept
                if first_sigma == 0.0:
                    first_sigma = fresh
                if settled:
                    break
            low, width = mean - 3.0 * sigma, 6.0 * sigma / _BINS
            counts[:] = 0
            for k in range(n):
                b = int(math.floor((buffer[k] - low) / width)) if width > 0 else 0
                if 0 <= b < _BINS:
                    counts[b] += 1
            wanted, running, median = 0.5 * counts.sum(), 0.0, mean
            for b in range(_BINS):
                if running + counts[b] >= wanted:
                    median = low + width * (b + (wanted - running) / max(counts[b], 1))
                    break
                running += counts[b]
            crowded = abs(mean - median) > 0.3 * sigma
            level[j, i] = median if crowded else 2.5 * median - 1.5 * mean
            spread[j, i] = sigma
