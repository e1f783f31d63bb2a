"""Distortion of the plane as headers carry it: polynomials of the TPV and SIP conventions, and their inverses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workloads.pixels.images import Doubles

Terms = tuple[float, ...]
Map = Callable[[Doubles, Doubles], tuple[Doubles, Doubles]]


def homogeneous(order: int) -> list[tuple[int, int]]:
    """Powers of both coordinates up to an order: 1, x, y, x², xy, y², ..."""
    return [(degree - k, k) for degree in range(order + 1) for k in range(degree + 1)]


def _tpv_powers(order: int) -> list[tuple[int, int, int]]:
    """Powers of (xi, eta, r) of the terms PV1_0, PV1_1, ...; odd degrees have one of the radius alone."""
    powers: list[tuple[int, int, int]] = []
    for degree in range(order + 1):
        powers += [(degree - k, k, 0) for k in range(degree + 1)]
        powers += [(0, 0, degree)] if degree % 2 else []
    return powers


TPV_POWERS = _tpv_powers(7)
"""Of axis 1; for axis 2 xi and eta change places."""
IDENTITY: Terms = (0.0, 1.0)
"""TPV terms without distortion."""


def tpv(terms: Terms, first: Doubles, second: Doubles) -> Doubles:
    """TPV polynomial of standard coordinates (degrees)."""
    radius = np.hypot(first, second)
    total = np.zeros_like(radius)
    for value, (i, j, k) in zip(terms, TPV_POWERS, strict=False):
        if value:
            total = total + value * first**i * second**j * radius**k
    return total


def sip(terms: Terms, u: Doubles, v: Doubles) -> Doubles:
    """SIP polynomial of pixels from the reference pixel; the terms are ordered as `homogeneous`."""
    total = np.zeros_like(u)
    for value, (p, q) in zip(terms, homogeneous(sip_order(terms)), strict=True):
        if value:
            total = total + value * u**p * v**q
    return total


def sip_order(terms: Terms) -> int:
    """Order of a polynomial by how many terms it has; -1 with none.

    Raises
    ------
    ValueError
        No order has so many.
    """
    order = round((8 * len(terms) + 1) ** 0.5 - 3) // 2 if terms else -1
    if len(terms) != (order + 1) * (order + 2) // 2:
        raise ValueError(f"{len(terms)} terms")
    return order


def inverse(function: Map, x: Doubles, y: Doubles, step: float, rounds: int = 20) -> tuple[Doubles, Doubles]:
    """Find where a map near the identity is ``(x, y)``, by Newton's method; NaN where it finds nothing.

    Parameters
    ----------
    step
        Distance over which derivatives are taken; results are good to a millionth of it.
    """
    a, b = np.array(x, np.float64), np.array(y, np.float64)
    da = db = np.zeros_like(a)
    with np.errstate(all="ignore"):  # what runs away becomes NaN below
        for _ in range(rounds):
            f, g = function(a, b)
            (fa, ga), (fb, gb) = function(a + step, b), function(a, b + step)
            j11, j21, j12, j22 = (fa - f) / step, (ga - g) / step, (fb - f) / step, (gb - g) / step
            determinant = j11 * j22 - j12 * j21
            da = (j22 * (x - f) - j12 * (y - g)) / determinant
            db = (j11 * (y - g) - j21 * (x - f)) / determinant
            a, b = a + da, b + db
            if np.nanmax(np.abs(np.stack([da, db])), initial=0.0) < 1e-9 * step:
                break
        good = np.hypot(da, db) < 1e-6 * step
    return np.where(good, a, np.nan), np.where(good, b, np.nan)


def fit_sip(u: Doubles, v: Doubles, change: Doubles, order: int) -> Terms:
    """Fit the SIP polynomial that takes the value ``change`` at ``(u, v)``."""
    # Powers of coordinates near 1 keep the equations regular.
    scale = max(float(np.abs(np.stack([u, v])).max()), 1.0)
    powers = homogeneous(order)
    design = np.stack([(u / scale) ** p * (v / scale) ** q for p, q in powers], axis=-1)
    found = np.linalg.lstsq(design, change, rcond=None)[0]
    return tuple(float(value) / scale ** (p + q) for value, (p, q) in zip(found, powers, strict=True))


def linear_sip(a: Terms, b: Terms, matrix: Doubles) -> tuple[Terms, Terms]:
    """SIP polynomials of a pixel grid that ``matrix`` (2, 2) takes to the grid of ``a`` and ``b``: exact, of the same order."""
    order = max(sip_order(a), sip_order(b))
    if order < 0:
        return a, b
    u, v = (part.ravel() for part in np.meshgrid(*[np.linspace(-2048, 2048, order + 3)] * 2))
    there_u, there_v = matrix @ np.stack([u, v])
    change = np.linalg.solve(matrix, np.stack([sip(a, there_u, there_v), sip(b, there_u, there_v)]))
    return fit_sip(u, v, change[0], order), fit_sip(u, v, change[1], order)
