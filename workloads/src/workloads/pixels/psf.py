"""The point spread function: pixels whose values are polynomials of the place, from stars chosen by their size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workloads.pixels.images import Doubles, Floats, Image, Table, require
from workloads.pixels.kernels.measuring import psf_stamps, shift_stamps
from workloads.pixels.masks import UNUSABLE

TERMS_BY_STARS = ((6, 40), (3, 15), (1, 1))
"""Polynomial terms that a number of stars supports: quadratic, linear, constant."""


@dataclass(frozen=True)
class Psf:
    """A spatially varying PSF.

    Parameters
    ----------
    coefficients
        ``float32[n_terms, size, size]``: factors of 1, u, v, u², uv, v² with u, v from -1 to 1 across the detector;
        centred on the middle pixel, sum 1 everywhere.
    width, height
        Detector size, pixels.
    stars
        How many stars it rests on; 0 means a default of the stated width.
    residual
        Mean relative residual of those stars (a quality figure: 0.02 is good).
    """

    coefficients: Floats
    width: int
    height: int
    stars: int = 0
    residual: float = float("nan")

    def __post_init__(self) -> None:
        require(self.coefficients, np.float32, 3, "PSF coefficients")

    @property
    def size(self) -> int:
        """Pixels along a side of the stamp."""
        return int(self.coefficients.shape[1])

    def at(self, x: float, y: float) -> Floats:
        """Stamp at a position, centred on its middle pixel."""
        u, v = 2 * x / self.width - 1, 2 * y / self.height - 1
        weights = np.array([1, u, v, u * u, u * v, v * v][: len(self.coefficients)], np.float32)
        return np.tensordot(weights, self.coefficients, 1)

    def stamps(self, x: Doubles, y: Doubles) -> Floats:
        """Stamps at positions, at their pixel phase."""
        result = np.empty((len(x), self.size, self.size), np.float32)
        psf_stamps(
            self.coefficients,
            self.width,
            self.height,
            np.ascontiguousarray(x, np.float64),
            np.ascontiguousarray(y, np.float64),
            result,
        )
        return result

    @property
    def mean(self) -> Floats:
        """Stamp averaged over the detector."""
        weights = np.array([1, 0, 0, 1 / 3, 0, 1 / 3][: len(self.coefficients)], np.float32)
        return np.tensordot(weights, self.coefficients, 1)

    @property
    def fwhm(self) -> float:
        """Full width at half maximum (pixels) at the centre, from the equivalent area of the upper half."""
        stamp = self.at(self.width / 2, self.height / 2)
        return fwhm_of(stamp)


def fwhm_of(stamp: Floats) -> float:
    """Full width at half maximum of a centred stamp, by its azimuthal profile."""
    half = stamp.shape[0] // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    radius = np.hypot(x, y)
    order = np.argsort(radius, axis=None)
    r, value = radius.ravel()[order], stamp.ravel()[order]
    peak = _parabola_peak(stamp)
    near = (r > 0.3) & (r < half * 0.8) & (value > 0.15 * peak) & (value < 0.9 * peak)
    if near.sum() < 3:
        return 2.0
    # Moffat profiles are straight in this plane: (value / peak)**(-1 / beta) against r**2.
    slope, start = np.polyfit(r[near] ** 2, (value[near] / peak) ** (-1 / 3.0), 1)
    return float(2 * np.sqrt(max((2 ** (1 / 3.0) - start) / slope, 0.25)))


def _parabola_peak(stamp: Floats) -> float:
    half = stamp.shape[0] // 2
    return float(stamp[half, half])


def gaussian_psf(fwhm: float, width: int, height: int, size: int = 25) -> Psf:
    """Make a round Gaussian, for where there is nothing better."""
    half = size // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    stamp = np.exp(-(x**2 + y**2) / (2 * (fwhm / 2.3548) ** 2))
    return Psf((stamp / stamp.sum()).astype(np.float32)[None], width, height)


def choose_stars(sources: Table, limit: int = 200) -> Table:
    """Bright, clean, isolated sources of the commonest size, brightest first."""
    good = (sources["flags"] == 0) & (sources["snr"] > 30) & np.isfinite(sources["ixx"]) & (sources["psf_flux"] > 0)
    candidates = sources[good]
    if len(candidates) < 3:
        return np.asarray(candidates)
    size = np.sqrt(np.maximum((candidates["ixx"] + candidates["iyy"]) / 2, 0.01))
    center, width = _mode(size, candidates["snr"])
    stars = candidates[np.abs(size - center) < max(2.5 * width, 0.02 * center)]
    stars = stars[np.argsort(-stars["snr"])]
    return np.asarray(stars[_isolated(stars, sources)][:limit])


def _mode(size: Floats, snr: Floats) -> tuple[float, float]:
    """Place and width of the densest group of sizes, stars being alike and galaxies not."""
    bright = np.sort(size[np.argsort(-snr)][: max(len(size) // 2, min(len(size), 30))])
    k = max(len(bright) // 4, 2)
    spans = bright[k:] - bright[:-k]
    first = int(np.argmin(spans))
    group = bright[first : first + k + 1]
    return float(np.median(group)), float(max(np.std(group), 0.005 * np.median(group)))


def _isolated(stars: Table, sources: Table, radius: float = 14.0) -> np.ndarray:
    """Stars whose neighbours within ``radius`` pixels have under 2 % of their flux."""
    alone = np.ones(len(stars), bool)
    for i, star in enumerate(stars):
        near = np.hypot(sources["x"] - star["x"], sources["y"] - star["y"]) < radius
        alone[i] = sources["psf_flux"][near].clip(0).sum() - star["psf_flux"] < 0.02 * star["psf_flux"]
    return alone


def fit_psf(image: Image, stars: Table, size: int = 31, rounds: int = 3) -> Psf | None:
    """Fit a PSF to stars of a background-subtracted image; None with no usable star.

    Each round shifts the stars' stamps to the pixel centre, scales them, fits every pixel's polynomial, drops stars
    that do not fit, and improves positions and fluxes by the model.
    """
    height, width = image.shape
    half = size // 2
    x, y = stars["x"].astype(np.float64), stars["y"].astype(np.float64)
    inside = (x > half + 1) & (x < width - half - 2) & (y > half + 1) & (y < height - half - 2)
    x, y, flux = x[inside], y[inside], stars["psf_flux"][inside].astype(np.float64)
    if len(x) == 0:
        return None
    data, weight = _cut_stars(image, x, y, size)
    clean = (weight[:, half - 3 : half + 4, half - 3 : half + 4] > 0).all(axis=(1, 2))
    x, y, flux, data, weight = x[clean], y[clean], flux[clean], data[clean], weight[clean]
    origin_x, origin_y = np.rint(x), np.rint(y)
    psf = None
    for _ in range(rounds):
        if len(x) == 0:
            return None
        psf = _fit_pixels(data, weight, x, y, origin_x, origin_y, flux, width, height)
        x, y, flux, residual = _refine(psf, data, weight, x, y, origin_x, origin_y)
        keep = (
            (residual < max(4 * float(np.median(residual)), 0.01))
            & (np.abs(x - origin_x) < 1)
            & (np.abs(y - origin_y) < 1)
        )
        if keep.sum() >= 3:
            x, y, flux, data, weight, residual = x[keep], y[keep], flux[keep], data[keep], weight[keep], residual[keep]
            origin_x, origin_y = origin_x[keep], origin_y[keep]
        psf = Psf(psf.coefficients, width, height, len(x), float(np.median(residual)))
    return psf


def _cut_stars(image: Image, x: Doubles, y: Doubles, size: int) -> tuple[Floats, Floats]:
    half = size // 2
    data = np.empty((len(x), size, size), np.float32)
    weight = np.empty_like(data)
    for i, (cx, cy) in enumerate(zip(np.rint(x).astype(int), np.rint(y).astype(int), strict=True)):
        window = np.s_[cy - half : cy + half + 1, cx - half : cx + half + 1]
        usable = image.mask[window] & UNUSABLE.value == 0
        data[i] = np.where(usable, image.pixels[window], 0)
        weight[i] = np.where(usable, 1 / np.maximum(image.variance[window], 1e-6), 0)
    return data, weight


def _terms(x: Doubles, y: Doubles, width: int, height: int, count: int) -> Doubles:
    u, v = 2 * x / width - 1, 2 * y / height - 1
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v][:count], axis=1)


def _fit_pixels(
    data: Floats,
    weight: Floats,
    x: Doubles,
    y: Doubles,
    ox: Doubles,
    oy: Doubles,
    flux: Doubles,
    width: int,
    height: int,
) -> Psf:
    n, size, _ = data.shape
    terms = next(t for t, stars in TERMS_BY_STARS if n >= stars)
    centered = np.empty_like(data)
    shift_stamps(data, (ox - x).astype(np.float32), (oy - y).astype(np.float32), centered)
    centered /= flux[:, None, None].astype(np.float32)
    # A star's weight is its signal to noise, levelled off so that a few giants do not decide alone.
    noise2 = 1 / np.maximum(np.median(weight.reshape(n, -1), axis=1), 1e-12)
    star_weight = 1 / (noise2 * 30 / flux**2 + 2e-4)
    design = _terms(x, y, width, height, terms)
    good = (weight > 0).reshape(n, -1)
    target = centered.reshape(n, -1).astype(np.float64)
    rough = np.median(target, axis=0)
    outlier = np.abs(target - rough) > 8 * (1.4826 * np.median(np.abs(target - rough), axis=0) + 1e-5)
    w = star_weight[:, None] * (good & ~outlier)
    normal = np.einsum("np,ni,nj->pij", w, design, design)
    normal += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(terms) + 1e-30 * np.eye(terms)
    right = np.einsum("np,np,ni->pi", w, target, design)
    solution = np.linalg.solve(normal, right[..., None])[..., 0]
    coefficients = solution.T.reshape(terms, size, size)
    return Psf(_normalise(coefficients), width, height)


def _normalise(coefficients: Doubles) -> Floats:
    """Fade the rim to zero and make the sum 1 everywhere."""
    size = coefficients.shape[1]
    half = size // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    fade = np.clip((half + 0.5 - np.hypot(x, y)) / 3.0, 0, 1)
    coefficients = coefficients * (fade * fade * (3 - 2 * fade))
    total = coefficients[0].sum()
    coefficients[0] /= total
    for k in range(1, len(coefficients)):
        coefficients[k] = coefficients[k] / total - coefficients[0] * (coefficients[k].sum() / total)
    return np.ascontiguousarray(coefficients, np.float32)


def _refine(
    psf: Psf, data: Floats, weight: Floats, x: Doubles, y: Doubles, ox: Doubles, oy: Doubles
) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """Improve positions and fluxes of stars by one linear step about the model; relative residuals in the core."""
    model = psf.stamps(x, y).astype(np.float64)
    # The phase of the stamp is taken about the nearest pixel; the data's origin is where they were cut.
    drift = (np.rint(x) != ox) | (np.rint(y) != oy)
    gx, gy = np.gradient(model, axis=2), np.gradient(model, axis=1)
    half = psf.size // 2
    core = np.s_[:, half - 7 : half + 8, half - 7 : half + 8]
    d, w = data[core].reshape(len(x), -1), (weight[core] > 0).reshape(len(x), -1)
    basis = np.stack([a[core].reshape(len(x), -1) for a in (model, -gx, -gy)], axis=1)
    normal = np.einsum("nip,njp,np->nij", basis, basis, w) + 1e-18 * np.eye(3)
    right = np.einsum("nip,np->ni", basis, w * d)
    solution = np.linalg.solve(normal, right[..., None])[..., 0]
    flux = np.maximum(solution[:, 0], 1e-3)
    step = np.clip(solution[:, 1:] / flux[:, None], -0.3, 0.3)
    residual = np.abs(d - np.einsum("ni,nip->np", solution, basis)) * w
    relative = residual.sum(axis=1) / flux
    noise = np.sqrt(1 / np.maximum(weight[core].reshape(len(x), -1), 1e-12)) * w
    excess = np.maximum(relative - 0.8 * noise.sum(axis=1) / flux, 0.0)
    step[drift] = 0
    return x + step[:, 0], y + step[:, 1], flux, np.where(drift, np.inf, excess)
