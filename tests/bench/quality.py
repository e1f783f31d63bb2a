"""Is the difference as good? Injections found, false detections, flux bias and noise, beside sfft on the same pairs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import scipy.spatial

from workloads.pixels.convolution import matched_filter
from workloads.pixels.detection import detect, forced_photometry
from workloads.pixels.images import Floats, Image
from workloads.pixels.kernels.rendering import add_moffats
from workloads.pixels.psf import Psf

from .differencing import pair, sfft, without_sky
from .harness import Verdict, bootstrap

RATIOS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 0.75)


def true_psf(fwhm: float, size: int) -> Psf:
    """Stamp of the injected profile at the detector's centre."""
    stamp, one = np.zeros((31, 31), np.float32), np.ones(1)
    add_moffats(stamp, 15 * one, 15 * one, one, fwhm * one, 0.01 * one, 0.01 * one, 3.2, 1e-8)
    return Psf((stamp / stamp.sum())[None], size, size)


def judge(given: dict[str, Any], image: Image, psf: Psf, snr: Floats, predicted: np.ndarray) -> dict[str, float]:
    """Completeness above 5 sigma predicted, false detections of either sign, at 5 sigma of the map's own noise."""
    low, high = np.quantile(snr[::3, ::3], [0.25, 0.75])
    if not high > low:
        return {"complete": 0.0, "wanted": float((predicted > 5.0).sum()), "false": 0.0}
    scaled = np.ascontiguousarray(snr * np.float32(1.34898 / (high - low)))
    scaled[:20] = scaled[-20:] = scaled[:, :20] = scaled[:, -20:] = 0
    found = detect(image, psf, 5.0, negative=True, snr=scaled, contrast=0.1, fit_shape=False)
    wanted = predicted > 5.0
    places = np.column_stack([given["tx"], given["ty"]])
    if len(found) == 0:
        return {"complete": 0.0, "wanted": float(wanted.sum()), "false": 0.0}
    positions = np.column_stack([found["x"], found["y"]])
    near, _ = scipy.spatial.cKDTree(positions).query(places)
    apart, _ = scipy.spatial.cKDTree(places).query(positions)
    return {
        "complete": float((near[wanted] < 2.5).sum()),
        "wanted": float(wanted.sum()),
        "false": float((apart > 5).sum()),
    }


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Print figures per pair and over all; a verdict would be no ratio of times."""
    totals: dict[str, list[dict[str, float]]] = {"ours": [], "sfft": []}
    bias, errors, variance = [], [], []
    for seed in range(3 if quick else 20):
        ratio = RATIOS[(seed * 4) % 10]
        given = without_sky(pair(512 if quick else 1024, ratio, 100 + seed, 25 if quick else 100))
        size, result = given["science"].shape[0], ours_with_psf(given, threads)
        flux, error, _, _ = forced_photometry(result.image, result.psf, given["tx"], given["ty"])
        predicted = given["tflux"] / error
        bright = predicted > 15
        errors.append(flux[bright] / given["tflux"][bright] - 1)
        bias.append(float(np.median(errors[-1])))
        variance.append(result.quality["residual_over_predicted_variance"])
        totals["ours"].append(judge(given, result.image, result.psf, result.snr, predicted))
        theirs = sfft(given, threads)
        science = true_psf(given["fwhm"][0] if ratio >= 1 else given["fwhm"][1], size)
        noise = given["science"].variance + given["template"].variance
        image = Image(np.ascontiguousarray(theirs, np.float32), noise, given["science"].mask)
        totals["sfft"].append(judge(given, image, science, matched_filter(image, science).significance(), predicted))
        print(
            json.dumps(
                {
                    "bench": "quality",
                    "seeing_ratio": ratio,
                    "ours": totals["ours"][-1],
                    "sfft": totals["sfft"][-1],
                    "flux_bias": bias[-1],
                    "variance_ratio": variance[-1],
                }
            ),
            flush=True,
        )
    all_errors = np.concatenate(errors)
    figures = {side: _sum(rows) for side, rows in totals.items()}
    more_false = np.array([a["false"] - b["false"] for a, b in zip(totals["ours"], totals["sfft"], strict=True)])
    print(
        json.dumps(
            {
                "bench": "quality",
                **figures,
                "flux_bias": float(np.median(bias)),
                "flux_bias_95": bootstrap(np.array(bias)),
                "flux_bias_of_all": [float(np.median(all_errors)), *bootstrap(all_errors)],
                "variance_ratio": [min(variance), max(variance)],
                "more_false_than_sfft": bootstrap(more_false),
            }
        ),
        flush=True,
    )
    return []


def ours_with_psf(given: dict[str, Any], threads: int) -> Any:
    """Our difference with the PSF that the pair was made with, as a measured one would be."""
    from workloads.pixels.difference import subtract

    size = given["science"].shape[0]
    psfs = [true_psf(f, size) for f in given["fwhm"]]
    return subtract(given["science"], psfs[0], given["template"], psfs[1], given["x"], given["y"], threads=threads)


def _sum(rows: list[dict[str, float]]) -> dict[str, float]:
    wanted = sum(row["wanted"] for row in rows)
    return {
        "completeness": sum(row["complete"] for row in rows) / max(wanted, 1),
        "wanted": wanted,
        "false": sum(row["false"] for row in rows),
    }
