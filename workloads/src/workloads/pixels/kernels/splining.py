"""A spline on a mesh, at every pixel: sums of the few cells that count."""

from __future__ import annotations

import numpy as np

from workloads.pixels.kernels import kernel


@kernel("void(f4[:,::1], f4[:,::1], i8[::1], i8[::1], i8, i8, f4[:,::1])")
def spline_rows(along, weights, begin, end, first, last, result):
    """Fill rows ``first`` to ``last``: of the rows ``along`` (one a cell), row ``y`` takes ``begin[y]`` to ``end[y]``."""
    zero = np.float32(0.0)
    for y in range(first, last):
        target, weight, source = result[y], weights[y, begin[y]], along[begin[y]]
        for x in range(target.size):
            target[x] = weight * source[x]
        # Four at once, so that what is summed is not stored and loaded for each.
        for cell in range(begin[y] + 1, end[y], 4):
            a, b, c, d = weights[y, cell], zero, zero, zero
            p, q, r, s = along[cell], along[cell], along[cell], along[cell]
            if cell + 1 < end[y]:
                b, q = weights[y, cell + 1], along[cell + 1]
            if cell + 2 < end[y]:
                c, r = weights[y, cell + 2], along[cell + 2]
            if cell + 3 < end[y]:
                d, s = weights[y, cell + 3], along[cell + 3]
            for x in range(target.size):
                target[x] += a * p[x] + b * q[x] + c * r[x] + d * s[x]
