"""Resampling by Lanczos interpolation."""

from __future__ import annotations

import math

import numpy as np

from workloads.pixels.kernels import kernel

STEPS = 1024
"""Pixel phases of the table of weights."""


def weights_table(order: int = 3) -> np.ndarray:
    """Lanczos weights of 2 * order samples for each pixel phase, normalised."""
    phase = np.arange(STEPS + 1)[:, None] / STEPS
    distance = np.arange(1 - order, order + 1)[None, :] - phase
    weights = np.sinc(distance) * np.sinc(distance / order) * (np.abs(distance) < order)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@kernel(
    "void(f4[:,::1], f4[:,::1], u2[:,::1], f8[:,::1], f4[:,::1], u2, u2, u2, f4[:,::1], f4[:,::1], u2[:,::1], i8, i8)"
)
def resample_rows(
    pixels, variance, mask, matrix, table, edge, empty, filled, out_pixels, out_variance, out_mask, first, last
):
    """Evaluate an image at ``matrix @ (x, y, 1)`` for output rows ``first`` to ``last``.

    The variance is interpolated with the absolute weights' share, not their squares: neighbouring output pixels are
    correlated, and fluxes summed over a PSF then keep their true noise. Planes go wherever their pixels have a weight of
    0.02, those of ``filled`` (where a neighbour's mean stands in for the value) only where it is 0.15.
    """
    rows, columns = pixels.shape
    taps = table.shape[1]
    order = taps // 2
    for y in range(first, last):
        for x in range(out_pixels.shape[1]):
            sx = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
            sy = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
            left, bottom = int(math.floor(sx)), int(math.floor(sy))
            if left < order - 1 or bottom < order - 1 or left + order >= columns or bottom + order >= rows:
                out_pixels[y, x], out_variance[y, x], out_mask[y, x] = 0.0, np.float32(0.0), empty | edge
                continue
            wx, wy = table[int((sx - left) * 1024 + 0.5)], table[int((sy - bottom) * 1024 + 0.5)]
            total, noise, scale, bits = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.uint16(0)
            for j in range(taps):
                row = bottom - order + 1 + j
                line, vline, share = np.float32(0.0), np.float32(0.0), np.float32(0.0)
                for i in range(taps):
                    column = left - order + 1 + i
                    line += wx[i] * pixels[row, column]
                    weight = wx[i] * wx[i]
                    vline += weight * variance[row, column]
                    share += weight
                    if mask[row, column] and abs(wx[i] * wy[j]) > 0.02:
                        bits |= mask[row, column] if abs(wx[i] * wy[j]) > 0.15 else mask[row, column] & ~filled
                total += wy[j] * line
                noise += wy[j] * wy[j] * vline
                scale += wy[j] * wy[j] * share
            out_pixels[y, x], out_variance[y, x], out_mask[y, x] = total, noise / scale, bits
