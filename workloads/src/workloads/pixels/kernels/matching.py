"""Convolution of star stamps with separable basis functions."""

from __future__ import annotations

import numpy as np

from workloads.pixels.kernels import kernel


@kernel("void(f4[:,::1], i8[::1], i8[::1], i8, f4[:,::1], i8[::1], i8[::1], f4[:,:,::1], i8, i8)")
def basis_stamps(image, x, y, half, filters, column_filter, row_filter, stamps, first, last):
    """Stamps ``first`` to ``last`` convolved with every basis function ``filters[column] (x) filters[row]``.

    ``stamps[star, basis, pixel]`` receives squares of ``2 half + 1`` around ``(x, y)``; the image must reach far enough.
    """
    size, taps = 2 * half + 1, filters.shape[1]
    reach = taps // 2
    lines = np.empty((filters.shape[0], size + 2 * reach, size), np.float32)
    for star in range(first, last):
        left, bottom = x[star] - half, y[star] - half
        for f in range(filters.shape[0]):
            for j in range(size + 2 * reach):
                row = image[bottom - reach + j]
                out = lines[f, j]
                for i in range(size):
                    out[i] = np.float32(0.0)
                for t in range(taps):
                    weight, offset = filters[f, taps - 1 - t], left - reach + t
                    for i in range(size):
                        out[i] += weight * row[offset + i]
        for b in range(column_filter.size):
            source = lines[column_filter[b]]
            weights = filters[row_filter[b]]
            for j in range(size):
                start = j * size
                for i in range(size):
                    stamps[star, b, start + i] = np.float32(0.0)
                for t in range(taps):
                    weight = weights[taps - 1 - t]
                    for i in range(size):
                        stamps[star, b, start + i] += weight * source[j + t, i]


@kernel("void(f4[:,::1], f4[:,:,::1], f8, f8, i8, i8, f4[:,::1])")
def blend_rows(base, terms, width, height, first, last, result):
    """Compute ``base - sum of P_j(x, y) terms[j]``, P the polynomial terms 1, u, v, u2, uv, v2; rows ``first`` to ``last``."""
    for y in range(first, last):
        v = np.float32(2.0 * y / height - 1.0)
        for x in range(base.shape[1]):
            u = np.float32(2.0 * x / width - 1.0)
            total = terms[0, y, x]
            if terms.shape[0] >= 3:
                total += u * terms[1, y, x] + v * terms[2, y, x]
            if terms.shape[0] >= 6:
                total += u * u * terms[3, y, x] + u * v * terms[4, y, x] + v * v * terms[5, y, x]
            result[y, x] = base[y, x] - total
