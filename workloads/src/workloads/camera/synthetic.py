"""A seeded sky: static for the instance, transients, seeing and noise new with every night."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.camera.epochs import EPOCHS, conditions_of
from workloads.camera.frames import Frame
from workloads.common.plan import EXPOSURE_SECONDS, FIELDS, Field
from workloads.common.settings import Camera as CameraSettings
from workloads.pixels import simulator
from workloads.pixels.images import Floats, Table
from workloads.pixels.simulator.skies import STAR, Conditions, psf_shape

SYNTHETIC = "synthetic"
TRANSIENTS_PER_DETECTOR = 22.0
_STAMP = 15
_EDGE_PIXELS = 16
_MASK_RADIUS = 3
_SATURATION_E = 50_000.0
"""Electrons from which a pixel may be taken for saturated."""
_BRIGHT_NJY = 300_000.0
"""Flux of the faintest star that saturates in the best seeing."""


class SyntheticSky:
    """Simulated exposures of the three fields.

    Parameters
    ----------
    settings
        The camera of this instance.
    night_seed
        Seed of the night.
    """

    def __init__(self, settings: CameraSettings, night_seed: int) -> None:
        self._settings = settings
        self._seed = night_seed
        self._index = {detector.name: number for number, detector in enumerate(settings.detectors)}
        self._ids = {detector.name: detector.id for detector in settings.detectors}
        self.camera = simulator.Camera(settings.seed, len(settings.detectors), settings.size)
        self._scene = lru_cache(maxsize=len(FIELDS))(self._make_scene)

    @property
    def name(self) -> str:
        """What the night's records call it."""
        return SYNTHETIC

    @property
    def detectors(self) -> list[str]:
        """All detectors of the camera."""
        return [*self._index]

    def describe(self) -> dict[str, Any]:
        """Return nothing more: the seed says it all."""
        return {}

    def field(self, visit: int) -> Field:
        """Return the field of a visit: the three in turn."""
        return FIELDS[visit % len(FIELDS)]

    def expose(self, visit: int, detectors: list[str], mjd: float) -> Iterator[Frame]:
        """Yield the frames of a visit."""
        field = self.field(visit)
        sky, events = self._scene(field)
        conditions = simulator.conditions(self._seed, visit)
        for name in detectors:
            exposure = simulator.expose(
                self.camera, self._index[name], field.ra, field.dec, conditions, sky, events, EXPOSURE_SECONDS, mjd
            )
            cards = {
                "DETNUM": (self._ids[name], "number of the detector"),
                "EXPTIME": (EXPOSURE_SECONDS, "[s]"),
                **exposure.wcs.to_header(),
            }
            yield Frame(
                name, exposure.raw, exposure.layout, cards, self._truth(exposure, field, conditions, self._index[name])
            )

    def _make_scene(self, field: Field) -> tuple[Table, Table]:
        sky = self.camera.static_sky(field.ra, field.dec)
        seed = self._seed * len(FIELDS) + field.number
        return sky, simulator.transients(seed, self.camera, field.ra, field.dec, TRANSIENTS_PER_DETECTOR, sky=sky)

    def _saturated_before(self, exposure: simulator.Exposure, field: Field, index: int) -> npt.NDArray[np.bool_]:
        """Tell which pixels of a visit show what some epoch of the template saw saturated."""
        epochs = [conditions_of(self._settings.seed, field, epoch) for epoch in range(EPOCHS)]
        worst = replace(
            min(epochs, key=lambda c: c.seeing_px), transparency=max(epoch.transparency for epoch in epochs)
        )
        sky = self._scene(field)[0]
        stars = sky[(sky["kind"] == STAR) & (sky["flux_njy"] > _BRIGHT_NJY)]
        charge = simulator.charge_of_stars(self.camera, index, worst, stars, exposure.true_wcs, EXPOSURE_SECONDS)
        return np.asarray(charge > _SATURATION_E)

    def _truth(
        self, exposure: simulator.Exposure, field: Field, conditions: Conditions, index: int
    ) -> list[dict[str, Any]]:
        unusable = (self.camera.truth(index).defects > 0) | exposure.cosmic_rays | exposure.satellite
        saturated = (exposure.charge > _SATURATION_E) | self._saturated_before(exposure, field, index)
        # Matching the seeings spreads what is saturated over about a PSF.
        spread = _MASK_RADIUS + round(conditions.seeing_px)
        read_noise = float(np.mean([amplifier.read_noise for amplifier in exposure.layout.amplifiers]))
        rows = []
        for source in exposure.truth:
            x, y = float(source["x"]), float(source["y"])
            row = {
                name: source[name].item()
                for name in ("id", "ra", "dec", "x", "y", "flux_njy", "flux_e", "kind", "host")
            }
            row["masked"] = on_mask(unusable, x, y) or on_mask(saturated, x, y, spread)
            u, v = self.camera.focal_position(index, np.array([x]), np.array([y]))
            row["snr"] = _predicted_snr(
                exposure.scene,
                x,
                y,
                row["flux_e"],
                float(psf_shape(conditions, u, v)[0][0]),
                conditions.beta,
                read_noise,
            )
            rows.append(row)
        return rows


def on_mask(unusable: Any, x: float, y: float, radius: int = _MASK_RADIUS) -> bool:
    """Tell whether a source is within `radius` of a pixel that carries no signal, or too near to the edge."""
    height, width = unusable.shape
    if not (_EDGE_PIXELS <= x < width - _EDGE_PIXELS and _EDGE_PIXELS <= y < height - _EDGE_PIXELS):
        return True
    column, row = round(x), round(y)
    near = unusable[row - radius : row + radius + 1, column - radius : column + radius + 1]
    return bool(near.any())


def _predicted_snr(
    scene: Floats, x: float, y: float, flux: float, fwhm: float, beta: float, read_noise: float
) -> float:
    """Return true flux over the noise that a PSF fit on the difference must have, the template's noise included.

    `flux` is all of the source's light: the stamp holds 92 to 98 % of it, less in worse seeing.
    """
    column, row, half = round(x), round(y), _STAMP // 2
    stamp = scene[max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1]
    if stamp.shape != (_STAMP, _STAMP):
        return 0.0
    yy, xx = np.mgrid[-half : half + 1, -half : half + 1]
    width = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    profile = (1 + ((xx - (x - column)) ** 2 + (yy - (y - row)) ** 2) / width**2) ** -beta
    profile *= (beta - 1) / (np.pi * width**2)  # all of a Moffat profile, not what the stamp has of it, is one
    variance = stamp.astype(np.float64) + read_noise**2
    variance += (np.maximum(stamp - flux * profile, 0.0) + read_noise**2) / EPOCHS
    noise = np.sqrt((profile**2 * variance).sum()) / (profile**2).sum()
    return float(flux / noise)
