"""Flux scale against a reference catalogue."""

from __future__ import annotations

import numpy as np
import scipy.spatial

from workloads.pixels.images import Doubles, Table


def zero_point(
    stars: Table, x: Doubles, y: Doubles, flux_njy: Doubles, radius: float = 1.5
) -> tuple[float, float, int]:
    """Nanojansky per electron, by stars of ``stars`` matched to reference positions (pixels).

    Returns the scale, the relative scatter of single stars about it, and how many were used; NaN with none.
    """
    good = (stars["flags"] == 0) & (stars["psf_flux"] > 0) & (stars["snr"] > 20)
    usable = stars[good]
    nothing = float("nan"), float("nan"), 0
    if len(usable) == 0 or len(x) == 0:
        return nothing
    tree = scipy.spatial.cKDTree(np.column_stack([x, y]))
    distance, index = tree.query(np.column_stack([usable["x"], usable["y"]]), distance_upper_bound=radius)
    hit = np.isfinite(distance)
    if not hit.any():
        return nothing
    ratio = flux_njy[index[hit]] / usable["psf_flux"][hit]
    keep = np.ones(len(ratio), bool)
    for _ in range(5):
        center = float(np.median(ratio[keep]))
        spread = max(1.4826 * float(np.median(np.abs(ratio[keep] - center))), 1e-4 * center)
        keep = np.abs(ratio - center) < 3 * spread
    error = usable["psf_flux_err"][hit][keep] / usable["psf_flux"][hit][keep]
    weight = 1 / (error.astype(float) ** 2 + (spread / center) ** 2)
    return float(np.average(ratio[keep], weights=weight)), spread / center, int(keep.sum())
