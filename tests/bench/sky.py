"""Real exposures, one epoch against the other, with injected transients; ``DPP_SKY`` names their directory."""

from __future__ import annotations

import json
import os
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from tests.bench.differencing import sfft
from tests.bench.harness import Verdict, bootstrap
from tests.bench.quality import judge

from workloads.pixels.background import estimate_background
from workloads.pixels.convolution import matched_filter
from workloads.pixels.detection import Flag, detect, forced_photometry
from workloads.pixels.difference import subtract
from workloads.pixels.images import Floats, Image, Table
from workloads.pixels.psf import Psf, choose_stars, fit_psf, gaussian_psf

INJECTED, MARGIN = 12, 36


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
        light = np.maximum(f * stamp, 0).astype(np.float32)
        pixels[window] += light + np.sqrt(light) * rng.standard_normal(light.shape, np.float32)
        variance[window] += light
    return Image(pixels, variance, image.mask), {"tx": x, "ty": y, "tflux": flux}


def one_pair(science: Image, template: Image, seed: int, threads: int) -> dict[str, Any]:
    """Subtract one exposure from another both ways and count."""
    rng = np.random.default_rng(seed)
    (psf, stars), (template_psf, _) = stars_of(science), stars_of(template)
    image, truth = inject(science, psf, rng)
    given = {"science": image, "template": template, "x": stars["x"].astype(float), "y": stars["y"].astype(float),
             "fwhm": (psf.fwhm, template_psf.fwhm), **truth}  # fmt: skip
    result = subtract(image, psf, template, template_psf, given["x"], given["y"], threads=threads)
    flux, error, _, _ = forced_photometry(result.image, result.psf, truth["tx"], truth["ty"])
    predicted = truth["tflux"] / error
    theirs = Image(
        np.ascontiguousarray(sfft(given, threads), np.float32), image.variance + template.variance, image.mask
    )
    broad = psf if psf.fwhm >= template_psf.fwhm else template_psf
    theirs_snr: Floats = matched_filter(theirs, broad).significance()
    bright = predicted > 10
    return {
        "seeing_ratio": psf.fwhm / template_psf.fwhm,
        "stars": result.quality["stamps_used"],
        "ours": judge(given, result.image, result.psf, result.snr, predicted),
        "sfft": judge(given, theirs, broad, theirs_snr, predicted),
        "bias": (flux[bright] / truth["tflux"][bright] - 1).tolist(),
        "variance_ratio": result.quality["residual_over_predicted_variance"],
    }


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Print figures per pair and over all; no verdict, for it would be no ratio of times."""
    folder = Path(os.environ.get("DPP_SKY", "-"))
    if not folder.is_dir():
        print("sky: skipped, DPP_SKY names no directory of real exposures", file=sys.stderr)
        return []
    files = sorted(folder.glob("*.fits"))
    epochs = [[f for f in files if f"OBS{number}" in f.name] for number in ("04", "18")]
    pairs = list(product(*epochs))[:: 5 if quick else 1]
    rows = []
    for number, (one, other) in enumerate(pairs):
        first, second = load(one), load(other)
        for science, template, turned in ((first, second, 0), (second, first, 1)):
            rows.append(one_pair(science, template, 2 * number + turned, threads))
            print(
                json.dumps({"bench": "sky", "pair": [one.name, other.name], "turned": turned, **rows[-1]}), flush=True
            )
    bias = np.concatenate([row["bias"] for row in rows])
    totals = {
        side: {key: sum(row[side][key] for row in rows) for key in ("complete", "wanted", "false")}
        for side in ("ours", "sfft")
    }
    figures = {
        "pairs": len(rows), "not_matched": sum(row["stars"] == 0 for row in rows), **totals, "flux_bias": float(np.median(bias)), "flux_bias_95": bootstrap(bias),
        "variance_ratio": float(np.nanmedian([row["variance_ratio"] for row in rows])),
    }  # fmt: skip
    print(json.dumps({"bench": "sky", **figures}), flush=True)
    return []
