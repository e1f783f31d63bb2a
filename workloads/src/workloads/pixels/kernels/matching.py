"""Sums of images with weights that vary over the detector."""

from __future__ import annotations

import numpy as np

from workloads.pixels.kernels import kernel


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
