"""Real exposures, one epoch against the other, with injected transients; ``DPP_SKY`` names their directory."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from workloads.pixels.background import estimate_background
from workloads.pixels.convolution import matched_filter
from workloads.pixels.detection import Flag, detect, forced_photometry
from workloads.pixels.difference import Difference, subtract
from workloads.pixels.images import Floats, Image, Table
from workloads.pixels.psf import Psf, choose_stars, fit_psf, gaussian_psf

from .differencing import sfft
from .harness import Verdict, bootstrap
from .quality import judge

INJECTED, MARGIN = 12, 36
"""Transients added to an exposure at a time, and how far (pixels) they stay from its rim."""
ROUNDS = 3
"""Rounds of injections for the fluxes: one leaves the median uncertain by more than it may be off."""


def load(path: Path) -> Image:
    """Read an exposure: its own scatter and the light's are its noise, what is not finite or saturated is masked."""
    with fits.open(path) as hdus:
        header, data = hdus[0].header, np.asarray(hdus[0].data, np.float64)
    gain = float(header.get("GAINA", header.get("GAIN", 4.0)))
    saturation = 0.9 * gain * float(header.get("SATURATA", header.get("SATURATE", 4e4)))
    mask = np.where(~np.isfinite(data), 256, np.where(data * gain > saturation, 2, 0)).astype(np.uint16)
    pixels = np.nan_to_num(data * gain).astype(np.float32)
    sky = estimate_background(Image(pixels, np.ones_like(pixels), mask), 64)
    pixels = pixels - sky.level
    variance = sky.rms**2 + np.maximum(pixels, 0)
    return Image(pixels, np.ascontiguousarray(variance, np.float32), mask)


@dataclass(frozen=True)
class Exposure:
    """An exposure with its PSF and what to match on."""

    name: str
    image: Image
    psf: Psf
    stars: Table

    @classmethod
    def read(cls, path: Path) -> Exposure:
        """Read and measure an exposure."""
        image = load(path)
        return cls(path.name, image, *stars_of(image))


def stars_of(image: Image) -> tuple[Psf, Table]:
    """PSF of an exposure, in two rounds, and what to match on: with so few stars, galaxies too."""
    psf = gaussian_psf(4.0, image.shape[1], image.shape[0], 31)
    for _ in range(2):
        stars = choose_stars(detect(image, psf, 10.0))
        psf = fit_psf(image, stars) or psf
    sources = detect(image, psf, 20.0)
    return psf, sources[sources["flags"] & Flag.REJECT.value == 0]


def inject(image: Image, psf: Psf, rng: np.random.Generator) -> tuple[Image, dict[str, Any]]:
    """Add point sources of 5 to 50 deviations, apart from each other, with their own noise."""
    shape = image.shape
    pixels, variance = image.pixels.copy(), image.variance.copy()
    cells = rng.permutation(25)[:INJECTED]
    step = (shape[0] - 2 * MARGIN) / 5
    x = MARGIN + (cells % 5 + rng.uniform(0.25, 0.75, INJECTED)) * step
    y = MARGIN + (cells // 5 + rng.uniform(0.25, 0.75, INJECTED)) * step
    _, error, _, _ = forced_photometry(image, psf, x, y)
    flux = error * np.exp(rng.uniform(np.log(5), np.log(50), INJECTED))
    half = psf.size // 2
    for stamp, cx, cy, f in zip(psf.stamps(x, y), np.floor(x + 0.5), np.floor(y + 0.5), flux, strict=True):
        window = np.s_[int(cy) - half : int(cy) + half + 1, int(cx) - half : int(cx) + half + 1]
        # A measured PSF has wings that scatter about zero: cut off there, the light would not be of that PSF.
        light = (f * stamp).astype(np.float32)
        noise2 = np.maximum(light, 0)
        pixels[window] += light + np.sqrt(noise2) * rng.standard_normal(light.shape, np.float32)
        variance[window] += noise2
    return Image(pixels, variance, image.mask), {"tx": x, "ty": y, "tflux": flux}


def pairs(folder: Path) -> list[tuple[Exposure, Exposure]]:
    """Science and template: every exposure of one epoch with every one of the other, both ways."""
    found = [Exposure.read(path) for path in sorted(folder.glob("*.fits"))]
    first, second = ([one for one in found if f"OBS{number}" in one.name] for number in ("04", "18"))
    return [pair for one, other in product(first, second) for pair in ((one, other), (other, one))]


def difference(science: Exposure, template: Exposure, image: Image, threads: int) -> Difference:
    """Subtract the template from ``image``, the science exposure with something new on it."""
    x, y = (science.stars[name].astype(float) for name in ("x", "y"))
    return subtract(image, science.psf, template.image, template.psf, x, y, threads=threads)


def flux_errors(science: Exposure, template: Exposure, seed: int, threads: int) -> Floats:
    """Relative flux errors of one round of injections, of those predicted above ten deviations."""
    image, truth = inject(science.image, science.psf, np.random.default_rng([seed, 1]))
    result = difference(science, template, image, threads)
    flux, error, _, _ = forced_photometry(result.image, result.psf, truth["tx"], truth["ty"])
    bright = truth["tflux"] > 10 * error
    return np.asarray(flux[bright] / truth["tflux"][bright] - 1, np.float32)


def one_pair(science: Exposure, template: Exposure, seed: int, threads: int) -> dict[str, Any]:
    """Subtract one exposure from another with both methods and count."""
    image, truth = inject(science.image, science.psf, np.random.default_rng(seed))
    result = difference(science, template, image, threads)
    _, error, _, _ = forced_photometry(result.image, result.psf, truth["tx"], truth["ty"])
    predicted = truth["tflux"] / error
    given = {"science": image, "template": template.image, "x": science.stars["x"].astype(float),
             "y": science.stars["y"].astype(float), "fwhm": (science.psf.fwhm, template.psf.fwhm), **truth}  # fmt: skip
    theirs = np.ascontiguousarray(sfft(given, threads), np.float32)
    subtracted = Image(theirs, image.variance + template.image.variance, image.mask)
    broad = max(science.psf, template.psf, key=lambda psf: psf.fwhm)
    theirs_snr: Floats = matched_filter(subtracted, broad).significance()
    return {
        "pair": [science.name, template.name],
        "seeing_ratio": science.psf.fwhm / template.psf.fwhm,
        "stars": result.quality["stamps_used"],
        "ours": judge(given, result.image, result.psf, result.snr, predicted),
        "sfft": judge(given, subtracted, broad, theirs_snr, predicted),
        "variance_ratio": result.quality["residual_over_predicted_variance"],
    }


def figures(rows: list[dict[str, Any]], errors: Floats) -> dict[str, Any]:
    """Sum up pairs and flux errors."""
    totals = {
        side: {key: sum(row[side][key] for row in rows) for key in ("complete", "wanted", "false")}
        for side in ("ours", "sfft")
    }
    return {
        "pairs": len(rows),
        "not_matched": sum(row["stars"] == 0 for row in rows),
        **totals,
        "fluxes": len(errors),
        "flux_bias": float(np.median(errors)),
        "flux_bias_95": bootstrap(errors),
        "variance_ratio": float(np.nanmedian([row["variance_ratio"] for row in rows])),
    }


def measure(folder: Path, *, count: int | None = None, threads: int) -> dict[str, Any]:
    """Judge ``count`` pairs (default all) against sfft, and the fluxes of several rounds of injections on every one."""
    both = pairs(folder)
    rows = []
    for number in range(count or len(both)):
        # Steps of seven meet every exposure and both directions early.
        seed = 7 * number % len(both)
        rows.append(one_pair(*both[seed], seed, threads))
        print(json.dumps({"bench": "sky", **rows[-1]}), flush=True)
    seeds = range(ROUNDS * len(both))
    errors = np.concatenate([flux_errors(*both[seed % len(both)], seed, threads) for seed in seeds])
    return figures(rows, errors)


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Print figures per pair and over all; no verdict, for it would be no ratio of times."""
    folder = Path(os.environ.get("DPP_SKY", "-"))
    if not folder.is_dir():
        print("sky: skipped, DPP_SKY names no directory of real exposures", file=sys.stderr)
        return []
    print(json.dumps({"bench": "sky", **measure(folder, count=10 if quick else None, threads=threads)}), flush=True)
    return []
