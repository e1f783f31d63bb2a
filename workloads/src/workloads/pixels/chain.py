"""The chain of a night: a raw detector to calibrated image, difference and sources."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.spatial

from workloads.pixels.astrometry import register
from workloads.pixels.background import estimate_background
from workloads.pixels.coadd import Template, grid_matrix
from workloads.pixels.convolution import matched_filter
from workloads.pixels.cosmic_rays import CosmicRayConfig, find_cosmic_rays, protect
from workloads.pixels.detection import SOURCE_DTYPE, Flag, detect
from workloads.pixels.difference import DifferenceConfig, detect_differences, fill, subtract
from workloads.pixels.errors import WcsError
from workloads.pixels.images import Floats, Image, Table, require
from workloads.pixels.isr import Calibration, Raw, remove_signature
from workloads.pixels.layout import DetectorLayout
from workloads.pixels.masks import Mask
from workloads.pixels.matching import FEW_STAMPS
from workloads.pixels.photometry import zero_point
from workloads.pixels.psf import Psf, choose_stars, fit_psf, gaussian_psf
from workloads.pixels.readout import require_exposed, require_readout
from workloads.pixels.resampling import noise_power, resample
from workloads.pixels.streaks import mark_streaks
from workloads.pixels.wcs import Wcs

__all__ = ["Config", "DifferenceResult", "ScienceResult", "process_difference", "process_science"]

_SCALE_TOLERANCE = 0.05


@dataclass(frozen=True)
class Config:
    """Parameters of the chain.

    Parameters
    ----------
    mesh
        Background cell, pixels.
    threshold
        Signal to noise of sources on the science image.
    guess_fwhm
        PSF width to begin with, pixels.
    search
        Largest pointing error, pixels.
    """

    mesh: int = 128
    threshold: float = 8.0
    guess_fwhm: float = 4.0
    search: float = 60.0
    cosmic_rays: CosmicRayConfig = field(default_factory=CosmicRayConfig)
    difference: DifferenceConfig = field(default_factory=DifferenceConfig)


@dataclass(frozen=True)
class ScienceResult:
    """One calibrated detector.

    Parameters
    ----------
    image
        Background subtracted; cosmic rays and defects interpolated, their planes set.
    background
        ``float32[ny, nx]``, electrons.
    psf, stars
        PSF and sources.
    wcs
        Solved if there was a reference, else the header's.
    nanojansky_per_electron
        Solved likewise, else NaN.
    """

    image: Image
    background: Floats
    psf: Psf
    stars: Table
    wcs: Wcs
    nanojansky_per_electron: float
    quality: dict[str, float]

    @property
    def filled(self) -> Image:
        """The image with unusable pixels interpolated."""
        return fill(self.image)


@dataclass(frozen=True)
class DifferenceResult:
    """One detector's difference; fields as the README says."""

    science: Image
    background: Floats
    difference: Image
    template: Image
    sources: Table
    stars: Table
    psf: Psf
    difference_psf: Psf
    wcs: Wcs
    nanojansky_per_electron: float
    quality: dict[str, float]


def process_science(
    raw: Raw,
    layout: DetectorLayout,
    calibration: Calibration,
    wcs: Wcs,
    exposure_time: float,
    config: Config | None = None,
    *,
    reference: Table | None = None,
    threads: int | None = None,
) -> ScienceResult:
    """Calibrate a raw detector and measure its sources.

    Parameters
    ----------
    wcs
        The header's; a pointing error of up to ``config.search`` pixels is found with a reference.
    exposure_time
        Seconds.
    reference
        Table with ``ra``, ``dec`` (degrees) and ``flux_njy`` of known stars; ``color`` (magnitudes) for a colour term.

    Raises
    ------
    InvalidValueError
        An amplifier was not read out, or the exposure time is none of an exposure of the sky.
    """
    config = config or Config()
    require(raw, np.uint16, 3, f"raw exposure of {layout.name}", layout.raw_shape)
    require_exposed(exposure_time)
    require_readout(raw, layout, calibration)
    image = remove_signature(raw, layout, calibration, exposure_time, threads=threads)
    image, hits = _clean(image, layout, config, threads)
    sky = estimate_background(image, config.mesh, threads=threads)
    image = image.less(sky.level, threads)
    psf, stars = _find_psf(image, config, threads)
    quality = {
        "cosmic_ray_pixels": float(hits),
        "background_e": float(np.median(sky.mesh_level)),
        "background_cells": sky.usable,
        "psf_stars": float(psf.stars),
        "psf_residual": psf.residual,
        "seeing_px": psf.fwhm,
        "sources": float(len(stars)),
    }
    scale = float("nan")
    if reference is not None:
        wcs, scale, figures = _calibrate(stars, wcs, reference, image.shape, config)
        quality |= figures
    return ScienceResult(image, sky.level, psf, stars, wcs, scale, quality)


def process_difference(
    raw: Raw,
    layout: DetectorLayout,
    calibration: Calibration,
    template: Template,
    wcs: Wcs,
    exposure_time: float,
    config: Config | None = None,
    *,
    threads: int | None = None,
) -> DifferenceResult:
    """Calibrate a raw detector, subtract its template and measure what changed.

    Failure to register or to match leaves ``quality["ok"]`` at 0 and says where in the other figures.

    Raises
    ------
    InvalidValueError
        As `process_science`.
    WcsError
        The header looks at another place of the sky than the template, or with another scale.
    """
    config = config or Config()
    science = process_science(raw, layout, calibration, wcs, exposure_time, config, threads=threads)
    return difference_of(science, template, config, threads=threads)


def difference_of(
    science: ScienceResult, template: Template, config: Config | None = None, *, threads: int | None = None
) -> DifferenceResult:
    """Subtract a template from a calibrated detector and measure what changed."""
    config = config or Config()
    known = template.stars[template.stars["flags"] & Flag.EDGE.value == 0]
    px, py = science.wcs.sky_to_pixel(*template.wcs.pixel_to_sky(known["x"], known["y"]))
    _require_same_place(science, template, config.search)
    found = register(px, py, science.stars["x"], science.stars["y"], config.search)
    matrix = _onto_template(found.matrix, grid_matrix(template.wcs, science.wcs, template.image.shape))
    solved = template.wcs.mapped(matrix)
    aligned = resample(template.image, matrix, science.image.shape, threads=threads)
    stars = _to_match_on(science.stars, known, matrix)
    noise = template.noise * noise_power(matrix, aligned.shape)
    result = subtract(
        science.image, science.psf, aligned, template.psf, stars["x"], stars["y"], config.difference,
        template_noise=noise, threads=threads,
    )  # fmt: skip
    sources = detect_differences(result, science.image, science.psf, config.difference, threads=threads)
    if len(sources):
        sources["ra"], sources["dec"] = solved.pixel_to_sky(sources["x"], sources["y"])
    quality = {
        **science.quality,
        **result.quality,
        "template_seeing_px": template.psf.fwhm,
        "registration_rms_px": found.rms,
        "registration_matches": float(found.matches),
    }
    quality["ok"] = float(bool(result.quality["ok"]) and found.ok)
    matched = Image(result.matched, aligned.variance, aligned.mask)
    scale = template.nanojansky_per_electron / result.flux_ratio
    return DifferenceResult(
        science.image,
        science.background,
        result.image,
        matched,
        sources,
        science.stars,
        science.psf,
        result.psf,
        solved,
        scale,
        quality,
    )


def _require_same_place(science: ScienceResult, template: Template, search: float) -> None:
    """Refuse a pointing from which no accepted error leads to the template's place."""
    scale = science.wcs.pixel_scale / template.wcs.pixel_scale
    if abs(scale - 1) > _SCALE_TOLERANCE:
        raise WcsError("science WCS", f"pixels of {scale:.4g} times the template's", "the template's scale")
    rows, columns = template.image.shape
    height, width = science.image.shape
    grid = np.meshgrid(np.linspace(0, columns - 1, 9), np.linspace(0, rows - 1, 9))
    x, y = science.wcs.sky_to_pixel(*template.wcs.pixel_to_sky(*(axis.ravel() for axis in grid)))
    near = (x > -search) & (x < width + search) & (y > -search) & (y < height + search)
    if not near.any():
        raise WcsError(
            "science WCS",
            f"a detector about ({science.wcs.crval[0]:.4f}, {science.wcs.crval[1]:.4f}) degrees, which is not on the template",
            f"one about ({template.wcs.crval[0]:.4f}, {template.wcs.crval[1]:.4f})",
        )


def _clean(image: Image, layout: DetectorLayout, config: Config, threads: int | None) -> tuple[Image, int]:
    # Without defects filled, every dead column makes sharp edges on its neighbours.
    image = fill(image, threads, Mask.BAD.value)
    bad = image.has(Mask.BAD | Mask.SAT, threads)
    saturation = min(a.gain * a.saturation for a in layout.amplifiers)
    # A star blended with a saturated one looks like a hit once the median takes the blend for sky.
    guarded = protect(image.pixels, bad, saturation, 10, threads)
    found = find_cosmic_rays(image.pixels, image.variance, guarded, config.cosmic_rays, threads=threads)
    image = Image(found.cleaned, image.variance, image.mask).marked(found.mask, Mask.CR | Mask.INTRP, threads)
    return image, int(found.mask.sum())


def _find_psf(image: Image, config: Config, threads: int | None) -> tuple[Psf, Table]:
    """PSF by two rounds: a Gaussian finds stars, their PSF finds them better; trails are marked (in place)."""
    height, width = image.shape
    psf = gaussian_psf(config.guess_fwhm, width, height)
    sources = detect(image, psf, 15.0, threads=threads)
    fitted = fit_psf(image, choose_stars(sources)) if len(sources) else None
    if fitted is not None:
        psf = fitted
    snr = matched_filter(image, psf, threads=threads).significance(threads)
    mark_streaks(snr, image.mask, psf.fwhm)
    sources = detect(image, psf, config.threshold, snr=snr, threads=threads)
    return psf, sources if len(sources) else np.zeros(0, SOURCE_DTYPE)


def _calibrate(
    stars: Table, wcs: Wcs, reference: Table, shape: tuple[int, int], config: Config
) -> tuple[Wcs, float, dict[str, float]]:
    x, y = wcs.sky_to_pixel(reference["ra"], reference["dec"])
    margin = config.search
    near = (x > -margin) & (y > -margin) & (x < shape[1] + margin) & (y < shape[0] + margin)
    near[near] = np.isfinite(reference["flux_njy"][near])
    order = np.argsort(-reference["flux_njy"][near])
    x, y, flux = x[near][order], y[near][order], reference["flux_njy"][near][order]
    color = reference["color"][near][order] if "color" in (reference.dtype.names or ()) else None
    found = register(x, y, stars["x"], stars["y"], config.search)
    figures = {"astrometry_rms_px": found.rms, "astrometry_matches": float(found.matches)}
    if not found.ok:
        return wcs, float("nan"), {**figures, "zero_point_scatter": float("nan")}
    solved = wcs.mapped(_invert(found.matrix))
    there = np.column_stack([x, y]) @ found.matrix[:, :2].T + found.matrix[:, 2]
    zero = zero_point(stars, there[:, 0], there[:, 1], flux, color=color)
    figures |= {"zero_point_scatter": zero.scatter, "zero_point_stars": float(zero.stars)}
    if np.isfinite(zero.color):
        figures |= {"color_term": zero.color_term, "zero_point_color": zero.color}
    return solved, zero.scale, figures


def _to_match_on(sources: Table, known: Table, matrix: np.ndarray, radius: float = 1.5) -> Table:
    """Choose sources that the template has too, for what is new is nothing to match on: stars, or all if they are few."""
    clean = sources[sources["flags"] & (Flag.SATURATED | Flag.EDGE | Flag.BAD).value == 0]
    tree = scipy.spatial.cKDTree(np.column_stack([known["x"], known["y"]]))
    for chosen in (choose_stars(sources), clean[np.argsort(-clean["snr"])]):
        there = np.column_stack([chosen["x"], chosen["y"]]) @ matrix[:, :2].T + matrix[:, 2]
        both = np.asarray(chosen[tree.query(there)[0] < radius])
        if len(both) >= FEW_STAMPS:
            break
    return both


def _invert(matrix: np.ndarray) -> np.ndarray:
    inverse = np.linalg.inv(matrix[:, :2])
    return np.column_stack([inverse, -inverse @ matrix[:, 2]])


def _onto_template(registration: np.ndarray, template_to_science: np.ndarray) -> np.ndarray:
    """From science pixels to template pixels: undo the registration, then the header's map."""
    measured = (
        registration[:, :2] @ template_to_science[:, :2],
        registration[:, :2] @ template_to_science[:, 2] + registration[:, 2],
    )
    return _invert(np.column_stack(measured))
