"""Difference imaging: match the PSFs, subtract, take the correlation out of the noise, measure what is left."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from workloads.pixels import parallel
from workloads.pixels.background import estimate_background
from workloads.pixels.convolution import Transformer, matched_filter
from workloads.pixels.deblending import deblend
from workloads.pixels.detection import SOURCE_FIELDS, Flag, detect, forced_photometry
from workloads.pixels.errors import ShapeError
from workloads.pixels.halos import find_bright, match_errors, match_noise, ring_scatter, subtract_halos
from workloads.pixels.images import Doubles, Floats, Image, Planes, Table
from workloads.pixels.kernels.filling import fill_rows
from workloads.pixels.kernels.matching import blend_rows
from workloads.pixels.kernels.signature import grow_plane
from workloads.pixels.masks import UNUSABLE, Mask
from workloads.pixels.matching import MatchingKernel, fit_kernel, make_basis
from workloads.pixels.maxima import box_maximum
from workloads.pixels.psf import Psf
from workloads.pixels.resampling import SPECTRUM
from workloads.pixels.streaks import mark_streaks
from workloads.pixels.whitening import Noise, compose, convolved_psf, delta, make_whitener, whiten

FEWEST, MISMATCH, NOISE = 3, 0.1, (0.5, 2.0)
"""Stars that a match rests on at least, share of a star's light that it leaves at most, and variance over its prediction."""
_SOURCE = 3.0
"""Signal to noise (either sign) from which pixels of a difference do not count as its background."""
DIA_SOURCE_DTYPE = np.dtype(
    [
        *SOURCE_FIELDS,
        ("ra", "f8"),
        ("dec", "f8"),
        ("science_flux", "f4"),
        ("science_flux_err", "f4"),
        ("template_flux", "f4"),
    ]
)


@dataclass(frozen=True)
class DifferenceConfig:
    """Parameters of differencing.

    Parameters
    ----------
    threshold
        Signal to noise of a detection.
    order
        Highest power of the kernel's variation over the detector (0 to 2).
    decorrelate
        Whether to whiten the noise.
    stamps
        Stars used for the match at most.
    mesh
        Cell of the background that is left, pixels.
    """

    threshold: float = 5.0
    order: int = 2
    decorrelate: bool = True
    stamps: int = 120
    mesh: int = 96


@dataclass(frozen=True)
class Difference:
    """A difference image.

    Parameters
    ----------
    image
        Science minus matched template, electrons of the science image.
    matched
        What was subtracted, same units.
    psf
        Of a new point source in it.
    snr
        Significance of a point source at each pixel; the PSF match's error counts as noise.
    signal
        The same without the match's error: its summits are where sources are.
    flux_ratio
        Science electrons per template electron.
    quality
        Figures (README); ``ok`` is 0 where the difference should not be used.
    """

    image: Image
    matched: Floats
    psf: Psf
    snr: Floats
    signal: Floats
    flux_ratio: float
    quality: dict[str, float] = field(default_factory=dict)


def subtract(
    science: Image,
    science_psf: Psf,
    template: Image,
    template_psf: Psf,
    x: Doubles,
    y: Doubles,
    config: DifferenceConfig | None = None,
    *,
    template_noise: Floats | None = None,
    threads: int | None = None,
) -> Difference:
    """Subtract a template on the same pixel grid, the sharper image being convolved to the other's PSF.

    Parameters
    ----------
    x, y
        Positions of stars to match on, best first.
    template_noise
        Power spectrum of the template's noise (`resampling.noise_power`), default white.

    Raises
    ------
    ShapeError
        The images differ in shape.
    """
    config = config or DifferenceConfig()
    done = match(
        science, science_psf, template, template_psf, x, y, config, template_noise=template_noise, threads=threads
    )
    if done is None:
        return _failed(science, science_psf, template_psf.fwhm <= science_psf.fwhm)
    image, kernel = done.image, done.kernel
    image.pixels[...] -= _sky_left(image, done.psf, config.mesh, threads)
    snr, signal, mismatch = _significance(image, done.psf, done.matched, x, y, threads)
    streaks = mark_streaks(snr, image.mask, done.psf.fwhm)
    quality = {
        "direction": 0.0 if done.forward else 1.0,
        "kernel_sum": kernel.total,
        "kernel_condition": kernel.condition,
        "stamps_used": float(kernel.stamps),
        "kernel_mismatch": mismatch,
        "residual_over_predicted_variance": variance_ratio(image),
        "significance_scatter": _scatter(signal, image.mask),
        "streaks": float(streaks),
    }
    quality["ok"] = _usable(quality)
    ratio = kernel.total if done.forward else 1.0 / kernel.total
    return Difference(image, done.matched, done.psf, snr, signal, ratio, quality)


@dataclass(frozen=True)
class Match:
    """A subtraction before its sources are looked for.

    Parameters
    ----------
    image, matched, psf
        As in `Difference`.
    kernel
        What the sharper image was convolved with.
    forward
        Whether that was the template.
    """

    image: Image
    matched: Floats
    psf: Psf
    kernel: MatchingKernel
    forward: bool


def match(
    science: Image,
    science_psf: Psf,
    template: Image,
    template_psf: Psf,
    x: Doubles,
    y: Doubles,
    config: DifferenceConfig,
    *,
    template_noise: Floats | None = None,
    threads: int | None = None,
) -> Match | None:
    """Match, subtract and whiten (parameters as `subtract`); None where no kernel can be found."""
    if science.shape != template.shape:
        raise ShapeError("template", str(template.shape), str(science.shape))
    forward = template_psf.fwhm <= science_psf.fwhm
    sharp, broad = (template, science) if forward else (science, template)
    sharp_psf, broad_psf = (template_psf, science_psf) if forward else (science_psf, template_psf)
    sharp, broad = fill(sharp, threads), fill(broad, threads)
    basis = make_basis(sharp_psf.fwhm, broad_psf.fwhm)
    stars = x[: config.stamps], y[: config.stamps]
    kernel = fit_kernel(sharp, broad, *stars, basis, order=config.order, fwhm=broad_psf.fwhm, threads=threads)
    if kernel is None or not 1e-3 < kernel.total < 1e3:
        return None
    residual, matched = _apply(sharp, broad, kernel, threads)
    noises = Noise.of(template, template_noise), Noise.of(science)
    noises = noises if forward else noises[::-1]
    whitener = make_whitener(kernel, *noises) if config.decorrelate else delta(SPECTRUM)
    pixels, variance = whiten(residual, sharp, broad, kernel, whitener, noises, threads)
    sign = np.float32(1.0 if forward else -1.0 / kernel.total)
    image = Image(sign * pixels, sign**2 * variance, _combine_masks(sharp.mask, broad.mask, kernel))
    psf = convolved_psf(science_psf, whitener if forward else compose(whitener, kernel))
    return Match(image, np.abs(sign) * matched, psf, kernel, forward)


def _sky_left(image: Image, psf: Psf, mesh: int, threads: int | None) -> Floats:
    """Background of a difference: with the stars gone it is seen better than on either image, and without sources best.

    Even the clipped mode of a cell is pulled by the light of a source on it, of which a part would then be missing.
    """
    first = estimate_background(image, mesh, threads=threads).level
    snr = matched_filter(image.less(first, threads), psf, threads=threads).significance(threads)
    sources = box_maximum(np.abs(snr) > _SOURCE, round(psf.fwhm))
    without = image.marked(sources, Mask.DETECTED, threads)
    second = estimate_background(without, mesh, exclude=(UNUSABLE | Mask.DETECTED).value, threads=threads)
    return second.level if second.usable > 0 else first


def _significance(
    image: Image, psf: Psf, matched: Floats, x: Doubles, y: Doubles, threads: int | None
) -> tuple[Floats, Floats, float]:
    """Significance of a point source with and without the match's errors; halos of bright stars are taken off (in place)."""
    light = matched_filter(Image(matched, image.variance, image.mask), psf, threads=threads)
    bright = find_bright(light.signal, light.noise2, image.mask)
    subtract_halos(image.pixels, image.mask, bright)
    seen = matched_filter(image, psf, threads=threads)
    errors = match_errors(seen.signal, seen.noise2, light.signal, image.mask, x, y)
    snr = seen.signal / np.sqrt(seen.noise2 + match_noise(light.signal, errors) ** 2)
    return snr / ring_scatter(snr, image.mask, bright), seen.significance(threads), errors[2]


def _usable(quality: dict[str, float]) -> float:
    """1 if noise is about what was predicted and the match rests on enough stars."""
    return float(
        NOISE[0] < quality["residual_over_predicted_variance"] < NOISE[1]
        and quality["stamps_used"] >= FEWEST
        and quality["kernel_mismatch"] < MISMATCH
    )


def _failed(science: Image, psf: Psf, forward: bool) -> Difference:
    """No match was possible: the mask says so everywhere and so does the quality."""
    nothing = Image(np.zeros_like(science.pixels), science.variance, science.mask | np.uint16(Mask.NO_DATA.value))
    quality = {"direction": 0.0 if forward else 1.0, "kernel_sum": float("nan"), "kernel_condition": float("nan"), "stamps_used": 0.0,
               "kernel_mismatch": float("nan"), "residual_over_predicted_variance": float("nan"), "ok": 0.0}  # fmt: skip
    blank = np.zeros_like(science.pixels)
    return Difference(nothing, blank, psf, blank, blank, float("nan"), quality)


def fill(image: Image, threads: int | None = None, planes: int = UNUSABLE.value) -> Image:
    """Interpolate over unusable pixels (INTRP is set); variances there become the image's median."""
    bad = image.mask & planes != 0
    if not bad.any():
        return image
    pixels, mask = image.pixels.copy(), image.mask.copy()
    jobs = [
        (image.pixels, mask, np.uint16(planes), np.uint16(Mask.INTRP.value), np.float32(0), *band, pixels)
        for band in parallel.bands(image.shape[0], threads)
    ]
    parallel.run(fill_rows, jobs, threads)
    good = image.variance[~bad]
    typical = np.float32(np.median(good[:: max(1, good.size // 100_000)])) if good.size else np.float32(1)
    return Image(pixels, np.where(bad, typical, image.variance), mask)


def variance_ratio(image: Image) -> float:
    """Variance of usable pixels over its prediction, robust against the sources on them."""
    usable = (image.mask & (UNUSABLE | Mask.EDGE | Mask.INTRP).value == 0) & (image.variance > 0)
    if usable.sum() < 100:
        return float("nan")
    pull = image.pixels[usable] / np.sqrt(image.variance[usable])
    quartiles = np.quantile(pull[:: max(1, pull.size // 400_000)], [0.25, 0.75])
    return float(((quartiles[1] - quartiles[0]) / 1.34898) ** 2)


def _apply(sharp: Image, broad: Image, kernel: MatchingKernel, threads: int | None) -> tuple[Floats, Floats]:
    """``broad - kernel (x) sharp - background`` and the part of ``broad`` that it explains."""
    transform = Transformer(sharp.shape, kernel.terms.shape[1] // 2, parallel.available(threads))
    spectrum = transform.image(sharp.pixels)
    rows, columns = sharp.shape
    terms = np.empty((max(len(kernel.terms), 3), rows, columns), np.float32)
    terms[len(kernel.terms) :] = 0
    for j, stamp in enumerate(kernel.terms):
        terms[j] = transform.back(spectrum * transform.stamp(stamp))
    for j, level in enumerate(kernel.background):
        terms[j] += np.float32(level)
    residual = np.empty(sharp.shape, np.float32)
    jobs = [(broad.pixels, terms, columns, rows, *band, residual) for band in parallel.bands(rows, threads)]
    parallel.run(blend_rows, jobs, threads)
    return residual, broad.pixels - residual


def _scatter(snr: Floats, mask: Planes) -> float:
    """Robust deviation of the significance map; 1 if noise is understood."""
    usable = mask[::3, ::3] & (UNUSABLE | Mask.EDGE).value == 0
    if not usable.any():
        return float("nan")
    low, high = np.quantile(snr[::3, ::3][usable], [0.25, 0.75])
    return float(high - low) / 1.34898


def _combine_masks(sharp: Planes, broad: Planes, kernel: MatchingKernel) -> Planes:
    """Planes of both images; unusable pixels of the convolved one reach as far as the kernel carries weight."""
    mask = sharp | broad
    central = np.abs(kernel.central)
    half = central.shape[0] // 2
    weight = np.array([central[half - r : half + r + 1, half - r : half + r + 1].sum() for r in range(half + 1)])
    radius = int(np.argmax(weight > 0.9 * weight[-1]))
    for plane, reach in (
        (Mask.SAT, max(radius, 2)),
        (Mask.NO_DATA, max(radius, 2)),
        (Mask.BAD, min(radius, 1)),
        (Mask.CR, min(radius, 1)),
    ):
        grow_plane(sharp, 0, sharp.shape[0], reach, plane.value, plane.value, mask)
    border = 3
    for edge in (np.s_[:border], np.s_[-border:], np.s_[:, :border], np.s_[:, -border:]):
        mask[edge] |= np.uint16(Mask.EDGE.value)
    return mask


def detect_differences(
    difference: Difference,
    science: Image,
    science_psf: Psf,
    config: DifferenceConfig | None = None,
    *,
    threads: int | None = None,
) -> Table:
    """Find and judge sources of either sign in a difference (`DIA_SOURCE_DTYPE`, without coordinates on the sky)."""
    config = config or DifferenceConfig()
    if not np.isfinite(difference.flux_ratio):
        return np.zeros(0, DIA_SOURCE_DTYPE)
    found = detect(
        difference.image,
        difference.psf,
        config.threshold,
        negative=True,
        snr=difference.snr,
        place=difference.signal,
        contrast=0.03,
        threads=threads,
    )
    found = deblend(difference.image, difference.psf, found, config.threshold)
    table = np.zeros(len(found), DIA_SOURCE_DTYPE)
    for name in found.dtype.names or ():
        table[name] = found[name]
    if len(table) == 0:
        return table
    flux, flux_error, _, _ = forced_photometry(science, science_psf, table["x"], table["y"], threads)
    table["science_flux"], table["science_flux_err"] = flux, flux_error
    table["template_flux"] = flux - table["psf_flux"]
    _flag_dipoles(table, difference)
    _flag_shapes(table, difference)
    return table


def _flag_dipoles(table: Table, difference: Difference) -> None:
    """Flag sources with another of the opposite sign beside them: a bad subtraction."""
    snr = difference.snr
    reach = max(round(1.5 * difference.psf.fwhm), 3)
    for i, source in enumerate(table):
        x, y = round(float(source["x"])), round(float(source["y"]))
        window = snr[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
        opposite = -window.min() if source["snr"] > 0 else window.max()
        if opposite > max(5.0, 0.5 * abs(source["snr"])):
            table["flags"][i] |= Flag.DIPOLE.value


def _flag_shapes(table: Table, difference: Difference) -> None:
    """Flag what is no point: the PSF does not fit, the moments are not the PSF's, a hit was there and left a rest."""
    expected = np.sqrt(2.0) * difference.psf.fwhm / 2.3548 / 2
    size = np.sqrt(np.maximum((table["ixx"] + table["iyy"]) / 2, 0))
    limit = 4.0 + (0.03 * table["snr"]) ** 2
    misfit = (table["psf_chi2"] > limit) | ~np.isfinite(table["psf_flux"])
    odd = np.isfinite(size) & (np.abs(table["snr"]) > 10) & ((size < 0.5 * expected) | (size > 2.5 * expected))
    rest = (table["flags"] & Flag.CR.value > 0) & (np.abs(table["snr"]) < 50)
    table["flags"] |= np.where(misfit | odd | rest, Flag.BAD_SHAPE.value, 0).astype(np.uint32)
