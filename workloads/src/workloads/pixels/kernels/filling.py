"""Interpolation over unusable pixels."""

from __future__ import annotations

import numpy as np

from workloads.pixels.kernels import kernel


@kernel("void(f4[:,::1], u2[:,::1], u2, u2, f4, i8, i8, f4[:,::1])")
def fill_rows(pixels, mask, unusable, interpolated, default, first, last, filled):
    """Replace unusable pixels by a distance-weighted mean of usable ones within four pixels, else by ``default``."""
    rows, columns = pixels.shape
    for y in range(first, last):
        for x in range(columns):
            if mask[y, x] & unusable == 0:
                continue
            total, weights = np.float32(0.0), np.float32(0.0)
            for v in range(max(y - 4, 0), min(y + 5, rows)):
                for u in range(max(x - 4, 0), min(x + 5, columns)):
                    if mask[v, u] & unusable == 0:
                        distance2 = np.float32((u - x) * (u - x) + (v - y) * (v - y))
                        weight = np.float32(1.0) / (distance2 * distance2)
                        total += weight * pixels[v, u]
                        weights += weight
            filled[y, x] = total / weights if weights > 0 else default
            mask[y, x] |= interpolated
