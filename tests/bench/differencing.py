"""Image differencing: PSF match, subtraction, whitening of the noise."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from astropy.io import fits

from workloads.pixels.background import estimate_background
from workloads.pixels.difference import DifferenceConfig, match, subtract
from workloads.pixels.images import Image
from workloads.pixels.kernels.rendering import add_moffats
from workloads.pixels.psf import gaussian_psf

from .harness import Verdict, compare, versions

SKY, HALF = 900.0, 15


def pair(size: int, ratio: float, seed: int, transients: int = 100) -> dict[str, Any]:
    """Two epochs of one field on one grid, template seeing 4 pixels, science ``ratio`` times that."""
    rng = np.random.default_rng(seed)
    n = round(280 * (size / 1024) ** 2)
    x, y = rng.uniform(0, size, (2, n))
    flux = 10 ** rng.uniform(3.0, 5.6, n)
    tx, ty = rng.uniform(25, size - 25, (2, transients))
    tflux = 10 ** rng.uniform(2.9, 4.2, transients)
    images = []
    for fwhm, extra in ((4.0 * ratio, True), (4.0, False)):
        scene = np.full((size, size), SKY, np.float32)
        scene += (np.linspace(-20, 20, size) * (1 if extra else -1)).astype(np.float32)[None, :]
        width = fwhm * (1 + 0.03 * ((x / size - 0.5) ** 2 + (y / size - 0.5)))
        zero = np.full(n, 0.01)
        add_moffats(scene, x, y, flux * (0.9 if extra else 1.0), width, zero, zero, 3.2, 0.05)
        if extra:
            wide = fwhm * (1 + 0.03 * ((tx / size - 0.5) ** 2 + (ty / size - 0.5)))
            add_moffats(scene, tx, ty, tflux, wide, np.full(transients, 0.01), np.full(transients, 0.01), 3.2, 0.02)
        variance = scene + 36.0
        pixels = scene + np.sqrt(variance) * rng.standard_normal(scene.shape, np.float32)
        # The noise a pixel shows is estimated from the pixel itself, as for real images.
        images.append(Image(pixels, np.maximum(pixels, 1.0) + 36.0, np.zeros(scene.shape, np.uint16)))
    bright = np.argsort(-flux)[: round(120 * (size / 1024) ** 2)]
    return {
        "science": images[0],
        "template": images[1],
        "x": x[bright],
        "y": y[bright],
        "tx": tx,
        "ty": ty,
        "tflux": tflux,
        "fwhm": (4.0 * ratio, 4.0),
    }


def without_sky(given: dict[str, Any]) -> dict[str, Any]:
    """Return the pair with its backgrounds subtracted, as both methods want it."""
    clean = {}
    for name in ("science", "template"):
        image = given[name]
        clean[name] = Image(image.pixels - estimate_background(image, 128).level, image.variance, image.mask)
    return {**given, **clean}


def ours(given: dict[str, Any], threads: int) -> Any:
    """Match, subtract, whiten, filter."""
    size = given["science"].shape[0]
    psfs = [gaussian_psf(f, size, size, size=31) for f in given["fwhm"]]
    return subtract(given["science"], psfs[0], given["template"], psfs[1], given["x"], given["y"], threads=threads)


def ours_to_the_difference(given: dict[str, Any], threads: int) -> Any:
    """Match, subtract, whiten: what the floor is about."""
    size = given["science"].shape[0]
    psfs = [gaussian_psf(f, size, size, size=31) for f in given["fwhm"]]
    stars, config = (given["x"], given["y"]), DifferenceConfig()
    return match(given["science"], psfs[0], given["template"], psfs[1], *stars, config, threads=threads)


def sfft(given: dict[str, Any], threads: int) -> np.ndarray:
    """SFFT's numpy back end on images whose sources' surroundings are kept, as its documentation prepares them."""
    from sfft.CustomizedPacket import Customized_Packet

    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        folder = Path(name)
        near = np.zeros(given["science"].shape, bool)
        for x, y in zip(given["x"].astype(int), given["y"].astype(int), strict=True):
            near[max(y - HALF, 0) : y + HALF + 1, max(x - HALF, 0) : x + HALF + 1] = True
        paths = {}
        for key in ("science", "template"):
            pixels = given[key].pixels.astype(np.float64)
            for kind, data in (("full", pixels), ("masked", np.where(near, pixels, 0.0))):
                paths[key, kind] = str(folder / f"{key}-{kind}.fits")
                fits.writeto(paths[key, kind], data.T.copy().T)
        out = str(folder / "difference.fits")
        Customized_Packet.CP(
            FITS_REF=paths["template", "full"], FITS_SCI=paths["science", "full"], FITS_mREF=paths["template", "masked"], FITS_mSCI=paths["science", "masked"],
            ForceConv="REF" if given["fwhm"][0] >= given["fwhm"][1] else "SCI", GKerHW=9, FITS_DIFF=out, KerPolyOrder=2, BGPolyOrder=1,
            ConstPhotRatio=True, BACKEND_4SUBTRACT="Numpy", NUM_CPU_THREADS_4SUBTRACT=threads, VERBOSE_LEVEL=0,
        )  # fmt: skip
        return np.asarray(fits.getdata(out))


def _good(given: dict[str, Any], result: Any, theirs: np.ndarray) -> dict[str, Any]:
    """Ours must explain the images as well as theirs: the residual's scatter away from the transients."""
    science = given["science"]
    quiet = np.ones(science.shape, bool)
    quiet[:20] = quiet[-20:] = quiet[:, :20] = quiet[:, -20:] = False
    for x, y in zip(given["tx"].astype(int), given["ty"].astype(int), strict=True):
        quiet[y - HALF : y + HALF, x - HALF : x + HALF] = False
    ratio = result.quality["residual_over_predicted_variance"]
    assert 0.97 <= ratio <= 1.03, f"variance over prediction {ratio:.3f}"
    sigma = np.std(theirs[quiet]) / np.sqrt(np.mean(science.variance))
    return {
        "variance_ratio": ratio,
        "significance_scatter": result.quality["significance_scatter"],
        "peer_sigma": float(sigma),
        **versions("sfft"),
    }


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Compare with sfft, and with the floor of Fourier transforms."""
    size = 512 if quick else 1024
    given = without_sky(pair(size, 1.2, 7, 100 if not quick else 20))
    frame = given["science"].pixels
    grid = tuple(scipy.fft.next_fast_len(n + 16, real=True) for n in frame.shape)

    def transform() -> None:
        for _ in range(10):
            scipy.fft.irfft2(scipy.fft.rfft2(frame, grid, workers=threads), grid, workers=threads)

    def mine() -> Any:
        return ours(given, threads)

    verdicts = [
        compare(
            "differencing",
            "sfft (numpy)",
            mine,
            lambda: sfft(given, threads),
            10.0,
            equal=lambda a, b: _good(given, a, b),
            pairs=3 if quick else 5,
        )
    ]
    floor = compare(
        "differencing",
        "10 Fourier pairs (floor)",
        lambda: ours_to_the_difference(given, threads),
        transform,
        10 / 40,
        equal=lambda _a, _b: {},
        pairs=5 if quick else 9,
    )
    return [*verdicts, floor]
