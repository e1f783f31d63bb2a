"""Resampling by Lanczos interpolation."""

from __future__ import annotations

import math

import numpy as np

from workloads.pixels.kernels import helper, kernel

STEPS = 1024
"""Pixel phases of the table of weights."""
ORDER = 4
"""Half width of the Lanczos kernel."""
TAPS = 2 * ORDER
_BLOCK = 256
"""Columns worked on at once."""


def weights_table() -> np.ndarray:
    """Lanczos weights of `TAPS` samples for each pixel phase, normalised."""
    phase = np.arange(STEPS + 1)[:, None] / STEPS
    distance = np.arange(1 - ORDER, ORDER + 1)[None, :] - phase
    weights = np.sinc(distance) * np.sinc(distance / ORDER) * (np.abs(distance) < ORDER)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@helper
def _interpolate(pixels, variance, mask, bottom, left, width, across, down, work, seen):
    """Sum the taps of ``width`` output pixels whose input pixels follow each other, from ``bottom`` and ``left``.

    Weights are ``across[i, x]`` and ``down[j, x]``; results are the first two rows of ``work``, the variance's before it
    is divided by the squared weights' sum, and ``seen``, all planes that any tap touches.
    """
    total, noise, line, vline = work[0], work[1], work[2], work[3]
    total[:width], noise[:width], seen[:width] = 0.0, 0.0, 0
    for j in range(TAPS):
        row, vrow, bits = pixels[bottom + j], variance[bottom + j], mask[bottom + j]
        line[:width], vline[:width] = 0.0, 0.0
        for i in range(0, TAPS, 2):
            a, b = across[i], across[i + 1]
            one, two = row[left + i : left + i + width], row[left + i + 1 : left + i + 1 + width]
            vone, vtwo = vrow[left + i : left + i + width], vrow[left + i + 1 : left + i + 1 + width]
            for x in range(width):
                line[x] += a[x] * one[x] + b[x] * two[x]
                vline[x] += a[x] * a[x] * vone[x] + b[x] * b[x] * vtwo[x]
        for i in range(TAPS):
            plane = bits[left + i : left + i + width]
            for x in range(width):
                seen[x] |= plane[x]
        weights = down[j]
        for x in range(width):
            total[x] += weights[x] * line[x]
            noise[x] += weights[x] * weights[x] * vline[x]


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

    Grids are nearly parallel as a rule, so output pixels come in runs that read the same input rows one pixel further
    each; a run ends where that is not so, at worst after one pixel.
    """
    rows, columns = pixels.shape
    width = out_pixels.shape[1]
    across, down = np.empty((TAPS, _BLOCK), np.float32), np.empty((TAPS, _BLOCK), np.float32)
    work, seen = np.empty((4, _BLOCK), np.float32), np.empty(_BLOCK, np.uint16)
    scale = np.empty(_BLOCK, np.float32)
    for y in range(first, last):
        start = 0
        while start < width:
            run, shift, bottom = 0, 0, 0
            while run < _BLOCK and start + run < width:
                x = start + run
                sx = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
                sy = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
                left, low = int(math.floor(sx)), int(math.floor(sy))
                if left < ORDER - 1 or low < ORDER - 1 or left + ORDER >= columns or low + ORDER >= rows:
                    break
                if run == 0:
                    shift, bottom = left - x, low
                elif left - x != shift or low != bottom:
                    break
                wx, wy = table[int((sx - left) * STEPS + 0.5)], table[int((sy - low) * STEPS + 0.5)]
                share, height = np.float32(0.0), np.float32(0.0)
                for i in range(TAPS):
                    across[i, run], down[i, run] = wx[i], wy[i]
                    share += wx[i] * wx[i]
                    height += wy[i] * wy[i]
                scale[run] = share * height
                run += 1
            if run == 0:
                out_pixels[y, start], out_variance[y, start], out_mask[y, start] = 0.0, 0.0, empty | edge
                start += 1
                continue
            corner, base = start + shift - ORDER + 1, bottom - ORDER + 1
            _interpolate(pixels, variance, mask, base, corner, run, across, down, work, seen)
            for k in range(run):
                out_pixels[y, start + k], out_variance[y, start + k] = work[0, k], work[1, k] / scale[k]
                bits = np.uint16(0)
                if seen[k]:
                    for j in range(TAPS):
                        for i in range(TAPS):
                            found, weight = mask[base + j, corner + k + i], abs(across[i, k] * down[j, k])
                            if found and weight > 0.02:
                                bits |= found if weight > 0.15 else found & ~filled
                out_mask[y, start + k] = bits
            start += run
