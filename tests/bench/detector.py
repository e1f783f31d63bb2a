"""From raw to measured sources: signature, cosmic rays, background, detection, photometry."""

from __future__ import annotations

import warnings
from typing import Any

import astropy.units as u
import astroscrappy
import ccdproc
import numpy as np
import scipy.spatial
import sep
from astropy.convolution import convolve_fft
from astropy.nddata import CCDData
from photutils.background import Background2D, ModeEstimatorBackground
from photutils.segmentation import SourceCatalog, deblend_sources, detect_sources
from tests.bench.harness import Verdict, compare, versions
from tests.bench.inputs import Detector, detector

from workloads.pixels.background import estimate_background
from workloads.pixels.cosmic_rays import find_cosmic_rays, protect
from workloads.pixels.detection import detect
from workloads.pixels.images import Image
from workloads.pixels.isr import remove_signature
from workloads.pixels.masks import Mask
from workloads.pixels.psf import gaussian_psf

GOALS = {"ccdproc + photutils": 8.0, "astroscrappy + sep": 6.0}
READ_NOISE, SATURATION = 6.0, 95_000.0


def ours(given: Detector, threads: int) -> np.ndarray:
    """All steps with this library."""
    image = remove_signature(given.exposure.raw, given.exposure.layout, given.calibration, 30.0, threads=threads)
    bad = image.has(Mask.BAD | Mask.SAT, threads)
    found = find_cosmic_rays(
        image.pixels, image.variance, protect(image.pixels, bad, SATURATION, 4, threads), threads=threads
    )
    image = Image(found.cleaned, image.variance, image.mask).marked(found.mask, Mask.CR, threads)
    sky = estimate_background(image, 64, threads=threads)
    clean = image.less(sky.level, threads)
    psf = gaussian_psf(4.0, *clean.shape[::-1], size=15)
    return detect(clean, psf, 5.0, threads=threads)


def _corrected(given: Detector) -> np.ndarray:
    """Instrument signature by plain numpy, for peers that have none; counted with their time."""
    layout, calibration = given.exposure.layout, given.calibration
    image = np.empty((layout.height, layout.width), np.float32)
    for i, a in enumerate(layout.amplifiers):
        frame = given.exposure.raw[i].astype(np.float32)
        counts = (
            frame[:, layout.prescan : layout.prescan + layout.amp_width]
            - np.median(frame[:, -layout.overscan + 2 :], axis=1)[:, None]
        )
        counts = counts[:: -1 if a.flip_y else 1, :: -1 if a.flip_x else 1]
        section = np.s_[a.y0 : a.y0 + layout.amp_height, a.x0 : a.x0 + layout.amp_width]
        counts = counts - calibration.bias[section]
        image[section] = (counts + calibration.linearity[i] * counts**2) * np.float32(a.gain)
    image -= calibration.dark * np.float32(30.0)
    image /= np.maximum(calibration.flat, np.float32(0.01))
    return image


def scrappy(given: Detector) -> np.ndarray:
    """Run the strongest C path: astroscrappy and sep called straight."""
    image = _corrected(given)
    bad = given.calibration.defects > 0
    hits, clean = astroscrappy.detect_cosmics(image, inmask=bad, gain=1.0, readnoise=READ_NOISE, satlevel=SATURATION)
    mask = bad | hits
    sky = sep.Background(clean, mask=mask, bw=64, bh=64)
    clean = clean - sky.back()
    kernel = gaussian_psf(4.0, 1, 1, size=15).mean
    objects = sep.extract(
        clean, 1.5, err=np.sqrt(np.maximum(clean, 0) + sky.back() + READ_NOISE**2), mask=mask, filter_kernel=kernel
    )
    sep.sum_circle(clean, objects["x"], objects["y"], 6.0, err=sky.globalrms, mask=mask)
    x, y, _ = sep.winpos(clean, objects["x"], objects["y"], np.full(len(objects), 1.7), mask=mask)
    objects["x"], objects["y"] = x, y
    return objects


def ccd(given: Detector) -> np.ndarray:
    """Run ccdproc and photutils, float32 as far as they keep it."""
    layout, calibration = given.exposure.layout, given.calibration
    image = np.empty((layout.height, layout.width), np.float32)
    for i, a in enumerate(layout.amplifiers):
        frame = CCDData(given.exposure.raw[i].astype(np.float32), unit="adu")
        frame = ccdproc.subtract_overscan(
            frame, overscan=frame[:, -layout.overscan + 2 :], overscan_axis=1, median=True
        )
        frame = frame[:, layout.prescan : layout.prescan + layout.amp_width]
        section = np.s_[a.y0 : a.y0 + layout.amp_height, a.x0 : a.x0 + layout.amp_width]
        flip = np.s_[:: -1 if a.flip_y else 1, :: -1 if a.flip_x else 1]
        frame = ccdproc.subtract_bias(frame, CCDData(np.ascontiguousarray(calibration.bias[section][flip]), unit="adu"))
        frame = ccdproc.gain_correct(frame, a.gain * u.electron / u.adu)
        image[section] = np.asarray(frame.data, np.float32)[flip]
    whole = CCDData(image, unit="electron", mask=calibration.defects > 0)
    whole = ccdproc.flat_correct(whole, CCDData(calibration.flat, unit="electron"), min_value=0.01)
    whole = ccdproc.cosmicray_lacosmic(whole, gain=1.0, readnoise=READ_NOISE, satlevel=SATURATION, gain_apply=False)
    sky = Background2D(whole.data, 64, mask=whole.mask, filter_size=3, bkg_estimator=ModeEstimatorBackground())
    clean = whole.data - sky.background
    smooth = convolve_fft(clean, gaussian_psf(4.0, 1, 1, size=15).mean, normalize_kernel=False, allow_huge=True)
    segments = detect_sources(smooth, 1.5 * sky.background_rms, n_pixels=5, mask=whole.mask)
    segments = deblend_sources(smooth, segments, n_pixels=5, progress_bar=False)
    catalog = SourceCatalog(clean, segments, convolved_data=smooth, mask=whole.mask)
    return np.column_stack([catalog.x_centroid, catalog.y_centroid, catalog.segment_flux])


def _agreement(a: Any, b: Any) -> dict[str, Any]:
    """Check that bright sources of the peer are found here, and at the same place."""
    if isinstance(b, np.ndarray) and b.dtype.names:
        whole = b[b["flag"] == 0]
        x, y, flux = whole["x"], whole["y"], whole["flux"]
    else:
        x, y, flux = b.T
    # Ten times the noise of a point source: fainter ones are a matter of each side's threshold.
    bright = np.flatnonzero(flux > 2500.0)
    tree = scipy.spatial.cKDTree(np.column_stack([a["x"], a["y"]]))
    distance, _ = tree.query(np.column_stack([x[bright], y[bright]]))
    matched = float((distance < 2).mean())
    assert matched > 0.9, f"only {matched:.2f} of the peer's bright sources was found"
    return {
        "sources": len(a),
        "peer_sources": len(x),
        "bright_matched": matched,
        "median_offset_px": float(np.median(distance)),
        **versions("ccdproc", "photutils", "astroscrappy", "sep"),
    }


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Compare with both peers."""
    warnings.simplefilter("ignore")
    given = detector(1024 if quick else 4096)
    sep.set_extract_pixstack(5_000_000)
    sep.set_sub_object_limit(8192)
    sides = {"ccdproc + photutils": ccd, "astroscrappy + sep": scrappy}
    return [
        compare(
            "detector",
            peer,
            lambda: ours(given, threads),
            lambda side=side: side(given),
            GOALS[peer],
            equal=_agreement,
            pairs=3 if quick else 7,
        )
        for peer, side in sides.items()
    ]
