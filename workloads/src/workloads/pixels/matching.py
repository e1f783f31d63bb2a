"""The kernel that turns one PSF into another: a spatially varying sum of separable functions, fitted on stars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from workloads.pixels import parallel
from workloads.pixels.images import Doubles, Floats, Image
from workloads.pixels.kernels.matching import solve_positive
from workloads.pixels.masks import UNUSABLE
from workloads.pixels.maxima import box_maximum

FEW_STAMPS = 20
"""With fewer, the background under them is determined only if the wings of the stamps count as well."""

_NEW = 4.0
"""Signal to noise from which light in a stamp's wings counts as a source that only one image has."""
_SMALL = 180
"""Pixels in one product of matrices (see `basis_stamps`)."""


@dataclass(frozen=True)
class Basis:
    """Separable functions: Gaussians times powers of x and y.

    Parameters
    ----------
    filters
        ``float32[n_filters, taps]``, one-dimensional.
    columns, rows
        Which filter each function uses along x and along y.
    sums
        Sum of each function; all but the first are used with ``sums * first`` taken off, so that only the first carries flux.
    """

    filters: Floats
    columns: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    sums: Floats

    @property
    def images(self) -> Floats:
        """Every function as an image, flux in the first alone."""
        images: Floats = np.einsum("ni,nj->nij", self.filters[self.rows], self.filters[self.columns])
        images[1:] -= self.sums[1:, None, None] * images[0]
        return images


@dataclass(frozen=True)
class MatchingKernel:
    """A fitted kernel.

    Parameters
    ----------
    terms
        ``float32[n_terms, size, size]``: kernels that multiply 1, u, v, u², uv, v².
    background
        ``float64[3]``: constant and slopes that the convolved image lacks.
    total
        Its sum: the ratio of fluxes.
    condition
        Of the normal equations (base-10 logarithm).
    stamps
        Stars that the fit rests on.
    """

    terms: Floats
    background: Doubles
    total: float
    condition: float
    stamps: int

    @property
    def central(self) -> Floats:
        """Kernel averaged over the detector."""
        weights = np.array([1, 0, 0, 1 / 3, 0, 1 / 3][: len(self.terms)], np.float32)
        return np.tensordot(weights, self.terms, 1)


def make_basis(sharp_fwhm: float, broad_fwhm: float, half: int = 15, degrees: tuple[int, ...] = (4, 3, 2, 0)) -> Basis:
    """Choose widths by what the match needs (the quadratic difference of the seeings), and one for the wings."""
    needed = max(np.sqrt(max(broad_fwhm**2 - sharp_fwhm**2, 0.0)) / 2.3548, 0.25 * sharp_fwhm / 2.3548, 0.6)
    sigmas = [max(needed * 0.75, 0.6), max(needed * 1.3, 1.2), max(needed * 2.4, 2.4), max(needed * 4.5, 4.8)][
        : len(degrees)
    ]
    axis = np.arange(-half, half + 1, dtype=np.float64)
    filters: list[npt.NDArray[np.float64]] = []
    columns: list[int] = []
    rows: list[int] = []
    for sigma, degree in zip(sigmas, degrees, strict=True):
        start = len(filters)
        for power in range(degree + 1):
            line = (axis / sigma) ** power * np.exp(-(axis**2) / (2 * sigma**2))
            filters.append(line / np.abs(line).sum())
        for i in range(degree + 1):
            for j in range(degree + 1 - i):
                columns.append(start + i)
                rows.append(start + j)
    lines = np.array(filters, np.float32)
    sums = lines.sum(axis=1)
    which, along = np.array(columns), np.array(rows)
    return Basis(lines, which, along, (sums[which] * sums[along]).astype(np.float32))


def fit_kernel(
    sharp: Image,
    broad: Image,
    x: Doubles,
    y: Doubles,
    basis: Basis,
    *,
    half: int = 14,
    order: int = 2,
    fwhm: float = 4.0,
    threads: int | None = None,
) -> MatchingKernel | None:
    """Fit ``broad = kernel (x) sharp + background`` on stars at ``(x, y)``, dropping those that do not agree.

    Both images must have their unusable pixels filled. ``fwhm`` is the width of ``broad``'s PSF (pixels). Returns None if
    fewer than three stars can be used.
    """
    cx, cy = np.rint(x).astype(np.int64), np.rint(y).astype(np.int64)
    reach = half + basis.filters.shape[1] // 2
    rows, columns = sharp.shape
    usable = (cx >= reach) & (cy >= reach) & (cx < columns - reach) & (cy < rows - reach)
    cx, cy = cx[usable], cy[usable]
    if len(cx) < 3:
        return None
    target, weight = _cut(sharp, broad, cx, cy, half, fwhm if len(cx) >= FEW_STAMPS else None)
    clean = (weight > 0).mean(axis=1) > 0.9
    cx, cy, target, weight = cx[clean], cy[clean], target[clean], weight[clean]
    if len(cx) < 3:
        return None
    stamps = basis_stamps(sharp.pixels, cx, cy, half, basis, threads)
    stamps[:, 1:] -= basis.sums[None, 1:, None] * stamps[:, :1]
    if len(cx) < FEW_STAMPS:
        first = _solve(stamps, target, weight, cx, cy, basis, sharp.shape, order, half)
        if first is None:
            return None
        weight = weight * ~new_light(first[1], weight, half, fwhm)
    solved = _solve(stamps, target, weight, cx, cy, basis, sharp.shape, order, half)
    return None if solved is None else solved[0]


def new_light(residual: Floats, weight: Floats, half: int, fwhm: float) -> npt.NDArray[np.bool_]:
    """Find pixels of stamps on which one image has a source that the other lacks; the stars themselves are not judged.

    Where the wings of stamps count, its light would become part of the kernel and of the background, and be missing in the
    difference.
    """
    side = 2 * half + 1
    sigma = fwhm / 2.3548
    blur = {"sigma": (0, sigma, sigma), "mode": "constant"}
    planes = (residual * weight).reshape(-1, side, side), weight.reshape(-1, side, side)
    signal = scipy.ndimage.gaussian_filter(planes[0], **blur)
    # The square of a Gaussian is a narrower one.
    noise2 = scipy.ndimage.gaussian_filter(planes[1], sigma / np.sqrt(2) * np.array([0, 1, 1]), mode="constant")
    noise2 /= 4 * np.pi * sigma**2
    v, u = np.mgrid[-half : half + 1, -half : half + 1]
    found = (np.abs(signal) > _NEW * np.sqrt(np.maximum(noise2, 1e-30))) & (np.hypot(u, v) > 2 * fwhm)
    grown = box_maximum(found, round(fwhm)) & (np.hypot(u, v) > fwhm)
    return np.asarray(grown.reshape(residual.shape), bool)


def basis_stamps(
    pixels: Floats,
    cx: npt.NDArray[np.int64],
    cy: npt.NDArray[np.int64],
    half: int,
    basis: Basis,
    threads: int | None = None,
) -> Floats:
    """Squares of ``2 half + 1`` pixels around stars, convolved with every function: ``[star, function, pixel]``.

    Each one-dimensional filter is a banded matrix; products of dense ones are faster than loops over the bands. They are
    small enough that the linear algebra library starts no threads of its own, which would only wait for each other.
    """
    size, taps = 2 * half + 1, basis.filters.shape[1]
    side = size + taps - 1
    reach = side // 2
    bands = np.zeros((len(basis.filters), side, size), np.float32)
    for i in range(size):
        bands[:, i : i + taps, i] = basis.filters[:, ::-1]
    uses = [np.flatnonzero(basis.columns == column) for column in range(len(basis.filters))]
    along = [np.ascontiguousarray(bands[basis.rows[used]].transpose(0, 2, 1)).reshape(-1, side) for used in uses]
    result = np.empty((len(cx), len(basis.columns), size, size), np.float32)

    def one(first: int, last: int) -> None:
        for i in range(first, last):
            patch = pixels[cy[i] - reach : cy[i] + reach + 1, cx[i] - reach : cx[i] + reach + 1]
            for column, used in enumerate(uses):
                result[i, used] = (along[column] @ (patch @ bands[column])).reshape(len(used), size, size)

    parallel.run(one, parallel.bands(len(cx), threads, 4), threads)
    return result.reshape(len(cx), len(basis.columns), size * size)


def _cut(
    sharp: Image, broad: Image, cx: npt.NDArray[np.int64], cy: npt.NDArray[np.int64], half: int, fwhm: float | None
) -> tuple[Floats, Floats]:
    """Cut the stamps and weigh their pixels by noise and the light expected; without `fwhm` by noise alone."""
    side = 2 * half + 1
    v, u = np.mgrid[-half : half + 1, -half : half + 1]
    profile = (1 + (u * u + v * v) / (0.98 * fwhm) ** 2) ** -3 if fwhm else np.ones_like(u, float)
    target, weight = (np.empty((len(cx), side * side), np.float32) for _ in range(2))
    for i, (x, y) in enumerate(zip(cx, cy, strict=True)):
        window = np.s_[y - half : y + half + 1, x - half : x + half + 1]
        good = (sharp.mask[window] | broad.mask[window]) & UNUSABLE.value == 0
        signal = broad.pixels[window]
        # Half a percent of the signal counts as noise, lest a few giants decide alone.
        noise2 = np.maximum(broad.variance[window] + sharp.variance[window] + (0.005 * signal) ** 2, 1e-6)
        # Where a faint star has no light its pixels add noise to the convolved image and say nothing.
        expected2 = (max(float(signal[half, half]), 0.0) * profile) ** 2 + 1e-6
        target[i] = signal.ravel()
        says = expected2 / (expected2 + noise2) if fwhm else 1.0
        weight[i] = (good * says / noise2).ravel()
    return target, weight


def spatial_terms(x: Doubles, y: Doubles, shape: tuple[int, int], count: int) -> Doubles:
    """Polynomial terms 1, u, v, u², uv, v² with coordinates from -1 to 1."""
    u, v = 2 * x / shape[1] - 1, 2 * y / shape[0] - 1
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v][:count], axis=1)


def _solve(
    stamps: Floats,
    target: Floats,
    weight: Floats,
    cx: Doubles,
    cy: Doubles,
    basis: Basis,
    shape: tuple[int, int],
    order: int,
    half: int,
) -> tuple[MatchingKernel, Floats] | None:
    """Fit, drop stars that do not agree, fit again; the kernel and what it leaves of every stamp."""
    n, functions, _ = stamps.shape
    gram, right = _normal_equations(stamps, target, weight, cx, cy, shape, half)
    alive = np.ones(n, bool)
    result = None
    for _ in range(4):
        if alive.sum() < 3:
            return None
        terms = 6 if order >= 2 and alive.sum() >= 40 else 3 if order >= 1 and alive.sum() >= 12 else 1
        spatial = spatial_terms(cx.astype(float), cy.astype(float), shape, terms)
        try:
            solution, condition = _solve_once(gram[alive], right[alive], spatial[alive], functions)
        except np.linalg.LinAlgError:
            # Stars that have nothing in common with the other image do not determine a kernel.
            return None
        local = _local_solutions(solution, spatial, functions)
        residual = target - np.einsum("nb,nbp->np", local[:, :functions].astype(np.float32), stamps)
        residual -= _background_design(cx, cy, shape, half, target.shape[1]) @ solution[-3:].astype(np.float32)
        chi2 = (residual**2 * weight).sum(axis=1) / np.maximum((weight > 0).sum(axis=1), 1)
        kernels = _assemble(solution, basis, functions, terms)
        result = MatchingKernel(kernels, solution[-3:], float(solution[0]), condition, int(alive.sum())), residual
        keep = chi2 < np.median(chi2[alive]) + 4 * max(
            1.4826 * float(np.median(np.abs(chi2[alive] - np.median(chi2[alive])))), 0.05
        )
        if (keep == alive).all():
            break
        alive = keep
    return result


def _background_design(cx: Doubles, cy: Doubles, shape: tuple[int, int], half: int, pixels: int) -> Floats:
    """``[star, pixel, 3]``: constant and slopes across the detector at each stamp's pixels."""
    side = 2 * half + 1
    offset = np.arange(-half, half + 1)
    u = 2 * (cx[:, None, None] + offset[None, None, :]) / shape[1] - 1
    v = 2 * (cy[:, None, None] + offset[None, :, None]) / shape[0] - 1
    full = (len(cx), side, side)
    parts = [np.ones(full), np.broadcast_to(u, full), np.broadcast_to(v, full)]
    return np.stack(parts, axis=-1).reshape(len(cx), pixels, 3).astype(np.float32)


def _normal_equations(
    stamps: Floats, target: Floats, weight: Floats, cx: Doubles, cy: Doubles, shape: tuple[int, int], half: int
) -> tuple[Doubles, Doubles]:
    """Per star: products of basis functions, background terms and data, weighted."""
    n, functions, pixels = stamps.shape
    design = np.empty((n, functions + 3, pixels), np.float32)
    design[:, :functions] = stamps
    design[:, functions:] = _background_design(cx, cy, shape, half, pixels).transpose(0, 2, 1)
    weighted = design * weight[:, None, :]
    gram = np.zeros((n, functions + 3, functions + 3))
    for first in range(0, pixels, _SMALL):
        part = np.s_[:, :, first : first + _SMALL]
        gram += np.matmul(weighted[part], design[part].transpose(0, 2, 1))
    right = np.einsum("nbp,np->nb", weighted, target).astype(np.float64)
    return gram, right


def _solve_once(gram: Doubles, right: Doubles, spatial: Doubles, functions: int) -> tuple[Doubles, float]:
    """Amplitudes: the flux once, every other function times every spatial term, three of the background."""
    n, terms = spatial.shape
    products = (spatial[:, :, None] * spatial[:, None, :]).reshape(n, -1)
    size = functions + 3
    rows = gram.reshape(n, -1)
    parts = [products.T @ rows[:, first : first + 48] for first in range(0, rows.shape[1], 48)]
    blocks = np.concatenate(parts, axis=1).reshape(terms, terms, size, size)
    matrix = blocks.transpose(2, 0, 3, 1).reshape(size * terms, size * terms)
    vector = (right.T @ spatial).ravel()
    # Flux and background do not vary with place (the background's slopes are functions of their own).
    index = np.arange(size * terms).reshape(size, terms)
    used = np.concatenate([index[0, :1], index[1:functions].ravel(), index[functions:, 0]])
    matrix, vector = matrix[np.ix_(used, used)], vector[used]
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-30))
    # A touch of ridge keeps nearly dependent functions from cancelling each other with huge amplitudes.
    system = matrix / np.outer(scale, scale) + 1e-7 * np.eye(len(scale))
    solution = vector / scale
    least, most = solve_positive(system, solution)
    if least <= 0:
        raise np.linalg.LinAlgError("the stars do not determine a kernel")
    return solution / scale, 2 * float(np.log10(most / least))


def _local_solutions(solution: Doubles, spatial: Doubles, functions: int) -> Doubles:
    """Amplitude of every function at every star."""
    terms = spatial.shape[1]
    local = np.empty((len(spatial), functions))
    local[:, 0] = solution[0]
    local[:, 1:] = spatial @ solution[1:-3].reshape(functions - 1, terms).T
    return local


def _assemble(solution: Doubles, basis: Basis, functions: int, terms: int) -> Floats:
    images = basis.images
    kernels = np.einsum("ft,fij->tij", solution[1:-3].reshape(functions - 1, terms), images[1:])
    kernels[0] += solution[0] * images[0]
    return np.ascontiguousarray(kernels, np.float32)
