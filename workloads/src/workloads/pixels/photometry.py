"""Flux scale against a reference catalogue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.spatial

from workloads.pixels.images import Doubles, Table

_COLOR_STARS = 10
"""Fewer do not tell a colour term from their scatter."""
_COLOR_SPREAD = 0.1
"""Robust deviation of the stars' colours (magnitudes) below which they are all alike."""


@dataclass(frozen=True)
class ZeroPoint:
    """A flux scale.

    Parameters
    ----------
    scale
        Nanojansky per electron, of a source of colour ``color``; NaN without a star.
    scatter
        Relative, of single stars about it; NaN without a star.
    stars
        How many it rests on.
    color_term
        Magnitudes that a source is brighter in the reference than by ``scale``, per magnitude of colour; 0 if not fitted.
    color
        Median colour of the stars, magnitudes; NaN where the reference has none.
    """

    scale: float
    scatter: float
    stars: int
    color_term: float = 0.0
    color: float = float("nan")


def zero_point(
    stars: Table, x: Doubles, y: Doubles, flux_njy: Doubles, *, color: Doubles | None = None, radius: float = 1.5
) -> ZeroPoint:
    """Fit the scale by stars of ``stars`` matched to reference positions (pixels).

    With ten stars or more of known and different colours the term by which the bands differ is fitted too.

    Parameters
    ----------
    flux_njy, color
        Of the reference; NaN colours are not known.
    radius
        Of the match, pixels.
    """
    usable = stars[(stars["flags"] == 0) & (stars["psf_flux"] > 0) & (stars["snr"] > 20)]
    if len(usable) == 0 or len(x) == 0:
        return ZeroPoint(float("nan"), float("nan"), 0)
    tree = scipy.spatial.cKDTree(np.column_stack([x, y]))
    distance, index = tree.query(np.column_stack([usable["x"], usable["y"]]), distance_upper_bound=radius)
    hit = np.isfinite(distance)
    if not hit.any():
        return ZeroPoint(float("nan"), float("nan"), 0)
    matched, index = usable[hit], index[hit]
    ratio = flux_njy[index] / matched["psf_flux"]
    error = np.asarray(matched["psf_flux_err"] / matched["psf_flux"], np.float64)
    colors = np.full(len(ratio), np.nan) if color is None else np.asarray(color, np.float64)[index]
    known = np.isfinite(colors)
    middle = float(np.median(colors[known])) if known.any() else float("nan")
    if known.sum() >= _COLOR_STARS and _deviation(colors[known]) > _COLOR_SPREAD:
        return _with_color(ratio[known], error[known], colors[known], middle)
    scale, scatter, keep = _clipped_mean(ratio, error)
    return ZeroPoint(scale, scatter, int(keep.sum()), 0.0, middle)


def _clipped_mean(ratio: Doubles, error: Doubles) -> tuple[float, float, np.ndarray]:
    """Weighted mean of ratios, those off their median left out; its relative scatter, and what is in it."""
    keep = np.ones(len(ratio), bool)
    for _ in range(5):
        center = float(np.median(ratio[keep]))
        spread = max(_deviation(ratio[keep]), 1e-4 * center)
        keep = np.abs(ratio - center) < 3 * spread
    weight = 1 / (error[keep] ** 2 + (spread / center) ** 2)
    return float(np.average(ratio[keep], weights=weight)), spread / center, keep


def _with_color(ratio: Doubles, error: Doubles, colors: Doubles, middle: float) -> ZeroPoint:
    """Fit scale and colour term in turn, until the stars that are left out stay the same."""
    design = np.column_stack([np.ones_like(colors), colors - middle])
    magnitude, term = 2.5 * np.log10(ratio), 0.0
    scale, scatter, keep = _clipped_mean(ratio, error)
    for _ in range(5):
        weight = 1 / np.hypot(error[keep], scatter)
        found = np.linalg.lstsq(design[keep] * weight[:, None], magnitude[keep] * weight, rcond=None)[0]
        term = float(found[1])
        scale, scatter, keep = _clipped_mean(ratio * 10 ** (-0.4 * term * (colors - middle)), error)
    return ZeroPoint(scale, scatter, int(keep.sum()), term, middle)


def _deviation(values: Doubles) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
