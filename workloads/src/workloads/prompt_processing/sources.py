"""Rows of the alert database from what the pixel core measured: units and names as the schema has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from astropy.io.fits import Header

from workloads.common.filters import band_of
from workloads.common.names import dia_source_id
from workloads.common.times import mjd, tai_now
from workloads.pixels.chain import DifferenceResult
from workloads.pixels.detection import Flag
from workloads.pixels.difference import FEWEST, MISMATCH, NOISE

THRESHOLD = 5.5
"""Signal to noise: at 5 the tail of the noise alone gives several false alerts an image, at 5.5 almost none."""


def dia_sources(result: DifferenceResult, header: Header, detector: int) -> pd.DataFrame:
    """Return the sources that become alerts: significant, not rejected, on a difference that is good.

    Fluxes are nanojansky, moments arcsec², positions degrees and pixels.
    """
    table = result.sources
    good = (np.abs(table["snr"]) >= THRESHOLD) & (table["flags"] & Flag.REJECT.value == 0) & bool(result.quality["ok"])
    good &= np.isfinite(table["ra"]) & np.isfinite(table["psf_flux"])
    rows = table[good]
    exposure = int(header["EXPID"])
    scale, arcsec = result.nanojansky_per_electron, result.wcs.pixel_scale * 3600
    columns: dict[str, Any] = {
        "diaSourceId": np.array([dia_source_id(exposure, detector, int(number)) for number in range(len(rows))], np.int64),
        "visit": np.full(len(rows), exposure, np.int64), "detector": np.full(len(rows), detector, np.int16),
        "midpointMjdTai": (float(header["MJD-BEG"]) + float(header["MJD-END"])) / 2, "exposureTime": float(header["EXPTIME"]),
        "ra": rows["ra"], "dec": rows["dec"], "raErr": rows["x_err"] * arcsec / 3600, "decErr": rows["y_err"] * arcsec / 3600,
        "x": rows["x"], "y": rows["y"], "xErr": rows["x_err"], "yErr": rows["y_err"],
        "apFlux": rows["ap_flux"] * scale, "apFluxErr": rows["ap_flux_err"] * scale,
        "psfFlux": rows["psf_flux"] * scale, "psfFluxErr": rows["psf_flux_err"] * scale, "psfChi2": rows["psf_chi2"],
        "scienceFlux": rows["science_flux"] * scale, "scienceFluxErr": rows["science_flux_err"] * scale, "templateFlux": rows["template_flux"] * scale,
        "snr": np.abs(rows["snr"]), "isNegative": rows["is_negative"],
        "ixx": rows["ixx"] * arcsec**2, "iyy": rows["iyy"] * arcsec**2, "ixy": rows["ixy"] * arcsec**2,
        "psfNdata": rows["area"], "trailNdata": 0, "dipoleNdata": 0, "bboxSize": np.ceil(np.sqrt(np.maximum(rows["area"], 1))).astype(np.int32),
        "band": band_of(header.get("FILTER")), "isDipole": False, "timeProcessedMjdTai": mjd(tai_now()),
        "pixelFlags_bad": rows["flags"] & Flag.BAD.value > 0, "pixelFlags_cr": rows["flags"] & Flag.CR.value > 0,
        "pixelFlags_interpolated": rows["flags"] & Flag.INTERPOLATED.value > 0,
        "pixelFlags_saturated": rows["flags"] & Flag.SATURATED.value > 0,
    }  # fmt: skip
    native = {name: _native(value) for name, value in columns.items()}
    return pd.DataFrame(native, index=pd.RangeIndex(len(rows)))


def why_no_alerts(figures: Mapping[str, float]) -> str:
    """Say why a difference is not good, by its figures of quality; empty if it is."""
    if figures.get("ok", 1.0):
        return ""
    said = []
    if (matches := figures.get("registration_matches", 0.0)) < FEWEST:
        said.append(f"{matches:.0f} of its {figures.get('sources', 0.0):.0f} sources are where the template has stars")
    if (stamps := figures.get("stamps_used", 0.0)) < FEWEST:
        said.append(f"{stamps:.0f} stars to match the seeing on")
    if (mismatch := figures.get("kernel_mismatch", 0.0)) >= MISMATCH:
        said.append(f"the match leaves {mismatch:.0%} of a star's light")
    ratio = figures.get("residual_over_predicted_variance", 1.0)
    if not NOISE[0] < ratio < NOISE[1]:
        said.append(f"its noise is {ratio:.3g} times what was predicted (variance)")
    return f"difference not good, no alerts: {', '.join(said) or 'see its figures'}"


def _native(value: Any) -> Any:
    return np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value
