"""Registration: stars of one list found in another, and the linear map between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.spatial

from workloads.pixels.images import Doubles


@dataclass(frozen=True)
class Registration:
    """A linear map between pixel grids.

    Parameters
    ----------
    matrix
        ``(2, 3)``: position there = matrix[:, :2] @ position here + matrix[:, 2].
    rms
        Residual of the matched stars per axis, pixels; NaN without a match.
    matches
        Stars that agree.
    """

    matrix: Doubles
    rms: float
    matches: int

    @property
    def ok(self) -> bool:
        """Whether enough stars agree to trust the map."""
        return self.matches >= 3


def match_offset(
    x: Doubles, y: Doubles, x2: Doubles, y2: Doubles, search: float, bin_size: float = 2.0
) -> tuple[float, float, int]:
    """Shift that brings the most points of the first list onto points of the second, within ``search`` pixels."""
    dx, dy = (x2[None, :] - x[:, None]).ravel(), (y2[None, :] - y[:, None]).ravel()
    near = (np.abs(dx) < search) & (np.abs(dy) < search)
    dx, dy = dx[near], dy[near]
    if dx.size == 0:
        return 0.0, 0.0, 0
    cells = int(2 * search / bin_size)
    votes, _, _ = np.histogram2d(dx, dy, bins=cells, range=[[-search, search]] * 2)
    # A true shift may fall on the border of cells, so neighbours vote together.
    pooled = votes[:-1, :-1] + votes[1:, :-1] + votes[:-1, 1:] + votes[1:, 1:]
    i, j = np.unravel_index(int(np.argmax(pooled)), pooled.shape)
    cx, cy = (i + 1) * bin_size - search, (j + 1) * bin_size - search
    chosen = (np.abs(dx - cx) <= bin_size) & (np.abs(dy - cy) <= bin_size)
    return float(np.median(dx[chosen])), float(np.median(dy[chosen])), int(pooled[i, j])


def register(
    x: Doubles, y: Doubles, x2: Doubles, y2: Doubles, search: float = 40.0, brightest: int = 150
) -> Registration:
    """Fit the map from one list of stars (brightest first) to another that lies within ``search`` pixels of it.

    Without a credible match the map is the identity with ``matches`` 0.
    """
    identity = Registration(np.array([[1.0, 0, 0], [0, 1.0, 0]]), float("nan"), 0)
    if len(x) < 3 or len(x2) < 3:
        return identity
    dx, dy, votes = match_offset(x[:brightest], y[:brightest], x2[:brightest], y2[:brightest], search)
    pairs = min(len(x), brightest) * min(len(x2), brightest)
    # Votes that chance alone would give in the four pooled cells of the histogram.
    chance = pairs * (4.0 / max(np.ptp(x2) + 1, 50)) * (4.0 / max(np.ptp(y2) + 1, 50))
    if votes < max(3, chance + 4 * np.sqrt(chance)):
        return identity
    matrix, radius = np.array([[1.0, 0, dx], [0, 1.0, dy]]), 2.5
    tree = scipy.spatial.cKDTree(np.column_stack([x2, y2]))
    result = identity
    for _ in range(5):
        mapped = np.column_stack([x, y]) @ matrix[:, :2].T + matrix[:, 2]
        distance, index = tree.query(mapped, distance_upper_bound=radius)
        hit = np.isfinite(distance)
        if hit.sum() < 3:
            return identity
        matrix = _fit(x[hit], y[hit], x2[index[hit]], y2[index[hit]])
        left = (
            np.column_stack([x[hit], y[hit]]) @ matrix[:, :2].T + matrix[:, 2] - np.column_stack([x2, y2])[index[hit]]
        )
        rms = 1.4826 * float(np.median(np.abs(left - np.median(left, axis=0))))
        radius = max(4 * rms, 0.1)
        result = Registration(matrix, rms, int(hit.sum()))
    return result


def _fit(x: Doubles, y: Doubles, x2: Doubles, y2: Doubles) -> Doubles:
    """Linear map by least squares: a shift alone with few stars, all six terms with ten or more."""
    if len(x) < 10:
        return np.array([[1.0, 0, np.median(x2 - x)], [0, 1.0, np.median(y2 - y)]])
    design = np.column_stack([x, y, np.ones_like(x)])
    return np.stack([np.linalg.lstsq(design, target, rcond=None)[0] for target in (x2, y2)])
