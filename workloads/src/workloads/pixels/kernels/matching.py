"""Sums of images with weights that vary over the detector; small systems of equations."""

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


@kernel("UniTuple(f8, 2)(f8[:,::1], f8[::1])")
def solve_positive(matrix, vector):
    """Solve a symmetric positive definite system in place (Cholesky); returns least and largest pivot, least 0 if it is none."""
    n = vector.size
    least, most = np.inf, 0.0
    for j in range(n):
        row = matrix[j]
        for i in range(j, n):
            other, total = matrix[i], 0.0
            for k in range(j):
                total += row[k] * other[k]
            other[j] -= total
        if not row[j] > 0.0:
            return 0.0, most
        pivot = np.sqrt(row[j])
        least, most = min(least, pivot), max(most, pivot)
        for i in range(j, n):
            matrix[i, j] /= pivot
    for i in range(n):
        total = vector[i]
        for k in range(i):
            total -= matrix[i, k] * vector[k]
        vector[i] = total / matrix[i, i]
    for i in range(n - 1, -1, -1):
        total = vector[i]
        for k in range(i + 1, n):
            total -= matrix[k, i] * vector[k]
        vector[i] = total / matrix[i, i]
    return least, most
