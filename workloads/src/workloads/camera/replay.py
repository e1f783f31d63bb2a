"""Real exposures through this camera: the light that another telescope recorded, with transients added, read out again.

The noise of the sky is the real one, with whatever correlation its processing gave it; what the camera adds is its
electronics: response, dark current, bias, pedestal, overscan, read noise, 16 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.camera.exposures import RealExposure, RealSky
from workloads.camera.frames import Frame
from workloads.camera.synthetic import on_mask
from workloads.common.plan import EXPOSURE_SECONDS, Field
from workloads.common.settings import Camera as CameraSettings
from workloads.common.settings import Detector
from workloads.pixels import simulator
from workloads.pixels.detection import detect
from workloads.pixels.images import Doubles, Floats, Image, Table
from workloads.pixels.masks import Mask
from workloads.pixels.psf import Psf, choose_stars, fit_psf, gaussian_psf
from workloads.pixels.simulator.camera import ELECTRONS_PER_NANOJANSKY_SECOND, FULL_WELL
from workloads.pixels.simulator.exposures import read_out
from workloads.pixels.simulator.skies import TRANSIENT

NANOJANSKY_PER_ELECTRON = 1.0 / (ELECTRONS_PER_NANOJANSKY_SECOND * EXPOSURE_SECONDS)
"""Flux scale: nominal, this telescope's, because the exposures come without a catalogue."""
TRANSIENTS = 12
_SNR = (5.0, 100.0)
_APART_PIXELS = 14.0
_EDGE_PIXELS = 16.0
_GUESS_FWHM = 4.5
_MEASURED_SNR = 8.0
_SKY_RADIUS = 12
_HOLE_WIDTHS = 1.8
"""How far a defect reaches, in widths of the PSF: the template's exposures saw the field through the same defects, so the
template has holes there, and matching the seeing widens them."""


def detector_of(settings: CameraSettings) -> Detector:
    """Return the detector in whose place the replayed one sits: the middle one of the raft."""
    return settings.detectors[len(settings.detectors) // 2]


def camera_of(settings: CameraSettings, sky: RealSky) -> simulator.Camera:
    """Return the electronics that a sky is replayed through: one detector of its exposures' size."""
    return simulator.Camera(settings.seed, 1, sky.size)


@dataclass(frozen=True)
class Measured:
    """What a real exposure is like.

    Parameters
    ----------
    variance
        Electrons² per pixel that light and electronics make.
    saturated
        Pixels without a value.
    psf, sources
        Measured on it (`detection.SOURCE_DTYPE`).
    correlation
        Noise of a PSF fit on empty sky over what independent pixels would give.
    """

    variance: Floats
    saturated: npt.NDArray[np.bool_]
    psf: Psf
    sources: Table
    correlation: float


def measure(exposure: RealExposure) -> Measured:
    """Measure PSF, sources and noise of an exposure."""
    saturated = ~np.isfinite(exposure.electrons)
    light = np.where(saturated, np.float32(0), exposure.electrons)
    read_noise = exposure.number("RDNOISE") if "RDNOISE" in exposure.header else 0.0
    variance = (np.maximum(light, 0) + exposure.sky + read_noise**2).astype(np.float32)
    mask = np.where(saturated, np.uint16(Mask.SAT.value), np.uint16(0))
    image = Image(light, variance, mask)
    psf = gaussian_psf(_GUESS_FWHM, *light.shape)
    psf = fit_psf(image, choose_stars(detect(image, psf, 2 * _MEASURED_SNR))) or psf
    sources = detect(image, psf, _MEASURED_SNR)
    return Measured(variance, saturated, psf, sources, _correlation(image, psf, sources))


def expose_light(camera: simulator.Camera, light: Floats, seed: tuple[int, ...]) -> npt.NDArray[np.uint16]:
    """Read light out: electrons that fell on the detector's pixels, sky and shot noise included; not finite is saturated."""
    structure = camera.truth(0)
    electrons = light * structure.flat + structure.dark * np.float32(EXPOSURE_SECONDS)
    electrons = np.where(np.isfinite(light), np.minimum(electrons, FULL_WELL), np.float32(FULL_WELL)).astype(np.float32)
    return read_out(electrons, camera.layout(0), structure, np.random.default_rng(seed))


class ReplayedSky:
    """The science exposures of a real sky in turn, with new transients in each visit.

    Parameters
    ----------
    settings
        The camera of this instance.
    sky
        The exposures.
    night_seed
        Seed of the transients and of the electronics' noise.
    """

    def __init__(self, settings: CameraSettings, sky: RealSky, night_seed: int) -> None:
        self._sky, self._seed = sky, night_seed
        self._detector = detector_of(settings)
        self.camera = camera_of(settings, sky)
        self._measured = {one.name: measure(one) for one in [*sky.science, *sky.template]}

    @property
    def name(self) -> str:
        """What the night's records call it."""
        return self._sky.name

    @property
    def detectors(self) -> list[str]:
        """The one detector."""
        return [self._detector.name]

    def describe(self) -> dict[str, Any]:
        """Return files by role, their seeing, how correlated their noise is, and what was cropped."""
        roles = {"science": self._sky.science, "template": self._sky.template}
        facts: dict[str, Any] = {"cropped": self._sky.cropped} if self._sky.cropped else {}
        return facts | {
            role: [
                {"file": one.name, "fwhm_px": measured.psf.fwhm, "noise_correlation": measured.correlation}
                for one in exposures
                if (measured := self._measured[one.name])
            ]
            for role, exposures in roles.items()
        }

    def field(self, visit: int) -> Field:  # noqa: ARG002 - there is only one
        """Return the field."""
        return self._sky.field

    def expose(self, visit: int, detectors: list[str], mjd: float) -> Iterator[Frame]:  # noqa: ARG002 - the sky is as it was
        """Yield the frame of a visit."""
        exposure = self._sky.science[visit % len(self._sky.science)]
        measured = self._measured[exposure.name]
        rng = np.random.default_rng([self._seed, visit])
        truth = self._transients(visit, exposure, measured, rng)
        light = exposure.electrons + np.float32(exposure.sky)
        if truth:
            light = light + _with_shot_noise(_points(light.shape, measured.psf, truth), rng)
        cards: dict[str, tuple[Any, str]] = {
            "DETNUM": (self._detector.id, "number of the detector"),
            "EXPTIME": (EXPOSURE_SECONDS, "[s]"),
            "OBJECT": (self._sky.name, "replayed sky"),
            "REPLAYED": (exposure.name, "file of the real exposure"),
            **exposure.wcs.to_header(),
        }
        raw = expose_light(self.camera, light, (self._seed, visit, 1))
        yield Frame(self._detector.name, raw, self.camera.layout(0), cards, truth)

    def _transients(
        self, visit: int, exposure: RealExposure, measured: Measured, rng: np.random.Generator
    ) -> list[dict[str, Any]]:
        x, y = _scatter(self._sky.size, rng)
        noise = self._noise(measured, x, y)
        flux = noise * np.exp(rng.uniform(np.log(_SNR[0]), np.log(_SNR[1]), len(x)))
        ra, dec = exposure.wcs.pixel_to_sky(x, y)
        unusable, reach = self._unusable(measured), round(_HOLE_WIDTHS * measured.psf.fwhm)
        return [
            {
                "id": (self._seed % 2**31) * 100_000 + visit * 100 + number,
                "ra": float(ra[number]), "dec": float(dec[number]), "x": float(x[number]), "y": float(y[number]),
                "flux_njy": float(flux[number] * NANOJANSKY_PER_ELECTRON), "flux_e": float(flux[number]), "kind": TRANSIENT, "host": 0,
                "masked": on_mask(unusable, float(x[number]), float(y[number]), reach), "snr": float(flux[number] / noise[number]),
            }
            for number in range(len(x))
        ]  # fmt: skip

    def _unusable(self, measured: Measured) -> npt.NDArray[np.bool_]:
        saturated: list[npt.NDArray[np.bool_]] = [
            measured.saturated,
            *(self._measured[one.name].saturated for one in self._sky.template),
        ]
        unusable: npt.NDArray[np.bool_] = np.logical_or.reduce([self.camera.truth(0).defects > 0, *saturated])
        return unusable

    def _noise(self, measured: Measured, x: Doubles, y: Doubles) -> Doubles:
        """Return the noise (electrons) of a PSF fit on the difference: both epochs' pixels, with their correlation."""
        epochs = [self._measured[one.name] for one in self._sky.template]
        variance = measured.variance * measured.correlation**2
        for one in epochs:
            variance = variance + one.variance * (one.correlation / len(epochs)) ** 2
        profiles, half = measured.psf.stamps(x, y).astype(np.float64), measured.psf.size // 2
        squares = profiles**2
        padded = np.pad(variance, half, mode="edge")
        noise = np.empty(len(x))
        for number, (column, row) in enumerate(zip(np.rint(x).astype(int), np.rint(y).astype(int), strict=True)):
            window = padded[row : row + 2 * half + 1, column : column + 2 * half + 1]
            noise[number] = np.sqrt((squares[number] * window).sum()) / squares[number].sum()
        return noise


def _correlation(image: Image, psf: Psf, sources: Table) -> float:
    """Return how much noisier a PSF fit on empty sky is than independent pixels would make it, at least 1."""
    half = psf.size // 2
    profile = psf.mean.astype(np.float64)
    rng = np.random.default_rng(7)
    x, y = rng.integers(half, image.shape[1] - half, 4000), rng.integers(half, image.shape[0] - half, 4000)
    known = np.column_stack([sources["x"], sources["y"]])
    fits = []
    for column, row in zip(x, y, strict=True):
        window = np.s_[row - half : row + half + 1, column - half : column + half + 1]
        near = len(known) and np.hypot(*(known - (column, row)).T).min() < _SKY_RADIUS
        if not near and not image.mask[window].any():
            pixels = image.pixels[window] - np.median(image.pixels[window])
            fits.append((profile * pixels).sum() / np.sqrt((profile**2 * image.variance[window]).sum()))
    if len(fits) < 100:
        return 1.0
    low, high = np.quantile(fits, [0.25, 0.75])
    return max(1.0, float(high - low) / 1.34898)


def _scatter(size: int, rng: np.random.Generator) -> tuple[Doubles, Doubles]:
    """Return random places, none so near to another that a detection could be of either."""
    chosen: list[npt.NDArray[np.float64]] = []
    for place in rng.uniform(_EDGE_PIXELS, size - _EDGE_PIXELS, (50 * TRANSIENTS, 2)):
        if len(chosen) < TRANSIENTS and all(np.hypot(*(place - other)) > _APART_PIXELS for other in chosen):
            chosen.append(place)
    places = np.array(chosen)
    return np.ascontiguousarray(places[:, 0]), np.ascontiguousarray(places[:, 1])


def _points(shape: tuple[int, ...], psf: Psf, truth: list[dict[str, Any]]) -> Floats:
    """Return the light of point sources, electrons."""
    x, y = np.array([row["x"] for row in truth]), np.array([row["y"] for row in truth])
    half = psf.size // 2
    light = np.zeros((shape[0] + 2 * half, shape[1] + 2 * half), np.float32)
    for row, stamp in zip(truth, psf.stamps(x, y), strict=True):
        column, line = round(row["x"]), round(row["y"])
        light[line : line + 2 * half + 1, column : column + 2 * half + 1] += stamp * np.float32(row["flux_e"])
    return light[half:-half, half:-half]


def _with_shot_noise(light: Floats, rng: np.random.Generator) -> Floats:
    noise = rng.standard_normal(light.shape, np.float32) * np.sqrt(np.maximum(light, 0))
    return np.asarray(light + noise, np.float32)
