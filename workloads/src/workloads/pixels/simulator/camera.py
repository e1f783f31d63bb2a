"""The instrument: layouts, fixed patterns and geometry, all from one seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from workloads.pixels.images import Doubles, Floats, Planes, Table
from workloads.pixels.layout import Amplifier, DetectorLayout
from workloads.pixels.masks import Mask
from workloads.pixels.simulator.skies import make_static_sky
from workloads.pixels.wcs import Wcs, deproject

ARCSEC_PER_PIXEL = 0.2
ELECTRONS_PER_NANOJANSKY_SECOND = 0.058
"""Throughput of an 8 m telescope in r: a source of 31.4 - 2.5 lg(flux) mag."""
FULL_WELL = 110_000.0
"""Electrons."""


@dataclass(frozen=True)
class DetectorTruth:
    """A detector as built.

    Parameters
    ----------
    bias
        Pattern beside the pedestal, ADU, detector axes.
    pedestal
        ADU per amplifier.
    dark
        Electrons per second.
    flat
        Relative response, vignetting included, about 1.
    defects
        Mask planes: dead and hot pixels and columns are BAD.
    linearity
        Quadratic deficit per amplifier: counts read are ``n - c n**2``.
    crosstalk
        ``[victim, aggressor]`` signal fractions.
    """

    bias: Floats
    pedestal: Doubles
    dark: Floats
    flat: Floats
    defects: Planes
    linearity: Doubles
    crosstalk: Doubles


@dataclass(frozen=True)
class Camera:
    """A raft of detectors of one instance.

    Parameters
    ----------
    seed
        Fixes the hardware and the static sky.
    detectors
        Number of detectors, laid out row by row in the smallest square.
    size
        Pixels along a side of a detector; a multiple of 16.
    """

    seed: int
    detectors: int = 9
    size: int = 1024

    @property
    def amplifiers(self) -> tuple[int, int]:
        """Columns and rows of amplifiers on a detector."""
        return (8, 2) if self.size >= 2048 else (4, 2)

    def layout(self, detector: int) -> DetectorLayout:
        """Geometry and electronics of a detector."""
        columns, rows = self.amplifiers
        width, height = self.size // columns, self.size // rows
        rng = np.random.default_rng([self.seed, detector, 1])
        channels = tuple(
            Amplifier(
                name=f"C{row}{column}",
                x0=column * width,
                y0=row * height,
                flip_x=bool(column % 2),
                flip_y=row == 1,
                gain=float(np.round(rng.normal(1.6, 0.05), 4)),
                read_noise=float(np.round(rng.normal(6.0, 0.5), 3)),
                saturation=62_000.0,
            )
            for row in range(rows)
            for column in range(columns)
        )
        side = int(np.ceil(np.sqrt(self.detectors)))
        name = f"R22_S{detector // side}{detector % side}"
        overscan = 64 if self.size >= 2048 else 32
        return DetectorLayout(name, detector, self.size, self.size, channels, width, height, 4, overscan)

    def truth(self, detector: int) -> DetectorTruth:
        """Return the detector's fixed patterns (kept for the last few detectors asked for)."""
        return _truth(self, detector)

    def wcs(self, detector: int, ra: float, dec: float, rotation: float = 0.0) -> Wcs:
        """Return true world coordinates of an exposure pointed at ``(ra, dec)``, rotated by ``rotation`` degrees."""
        side = int(np.ceil(np.sqrt(self.detectors)))
        pitch = self.size * 1.03
        center = (self.size - 1) / 2
        dx = (detector % side - (side - 1) / 2) * pitch
        dy = (detector // side - (side - 1) / 2) * pitch
        scale, angle = ARCSEC_PER_PIXEL / 3600.0, np.radians(rotation)
        cd = (
            (-scale * float(np.cos(angle)), scale * float(np.sin(angle))),
            (scale * float(np.sin(angle)), scale * float(np.cos(angle))),
        )
        return Wcs((ra, dec), (center - dx, center - dy), cd)

    def focal_position(self, detector: int, x: Doubles, y: Doubles) -> tuple[Doubles, Doubles]:
        """Position in the focal plane, in units of half the raft."""
        side = int(np.ceil(np.sqrt(self.detectors)))
        half = side * self.size * 1.03 / 2
        center = (self.size - 1) / 2
        dx = (detector % side - (side - 1) / 2) * self.size * 1.03
        dy = (detector // side - (side - 1) / 2) * self.size * 1.03
        return (x - center + dx) / half, (y - center + dy) / half

    def footprint(self, ra: float, dec: float, margin: float = 100.0) -> tuple[float, float, float]:
        """Centre and half side (degrees) of the square of sky that the raft sees, ``margin`` pixels included."""
        side = int(np.ceil(np.sqrt(self.detectors)))
        return ra, dec, (side * self.size * 1.03 / 2 + margin) * ARCSEC_PER_PIXEL / 3600.0

    def static_sky(self, ra: float, dec: float, stars: float = 260.0, galaxies: float = 160.0) -> Table:
        """Stars and galaxies of a field, numbers per square of 1024 pixels; the same for every call of an instance."""
        return make_static_sky(self.seed, *self.footprint(ra, dec), stars, galaxies)

    def positions(self, ra: float, dec: float, count: int, rng: np.random.Generator) -> tuple[Doubles, Doubles]:
        """Random sky positions that fall on the raft."""
        _, _, half = self.footprint(ra, dec, margin=-30.0)
        return deproject(rng.uniform(-half, half, count), rng.uniform(-half, half, count), ra, dec)


@lru_cache(maxsize=16)
def _truth(camera: Camera, detector: int) -> DetectorTruth:
    layout = camera.layout(detector)
    rng = np.random.default_rng([camera.seed, detector, 2])
    n, size = len(layout.amplifiers), camera.size
    pedestal = rng.normal(1000.0, 40.0, n)
    flat = _flat(camera, detector, rng)
    dark = np.abs(rng.normal(0.02, 0.004, (size, size))).astype(np.float32)
    defects = np.zeros((size, size), np.uint16)
    _add_defects(defects, flat, dark, rng)
    crosstalk = np.where(np.eye(n) > 0, 0.0, rng.uniform(0.0, 1.5e-4, (n, n)))
    return DetectorTruth(
        bias=_bias(layout, rng),
        pedestal=pedestal,
        dark=dark,
        flat=flat,
        defects=defects,
        linearity=rng.uniform(0.5e-7, 1.5e-7, n),
        crosstalk=crosstalk,
    )


def _bias(layout: DetectorLayout, rng: np.random.Generator) -> Floats:
    bias = rng.normal(0.0, 0.6, (layout.height, layout.width)).astype(np.float32)
    readout = 3.0 * np.exp(-np.arange(layout.amp_width) / 12.0)
    columns = rng.normal(0.0, 0.8, layout.width)
    bias += columns.astype(np.float32)
    for amplifier in layout.amplifiers:
        section = bias[amplifier.y0 : amplifier.y0 + layout.amp_height, amplifier.x0 : amplifier.x0 + layout.amp_width]
        section += (readout[::-1] if amplifier.flip_x else readout).astype(np.float32)
    return bias


def _flat(camera: Camera, detector: int, rng: np.random.Generator) -> Floats:
    y, x = np.mgrid[0 : camera.size, 0 : camera.size].astype(np.float64)
    u, v = camera.focal_position(detector, x, y)
    vignetting = 1.0 - 0.06 * (u**2 + v**2) ** 1.5
    grain = rng.normal(1.0, 0.006, vignetting.shape)
    flat = vignetting * grain
    for x0, y0, radius in zip(*rng.uniform(0, camera.size, (2, 6)), rng.uniform(8, 25, 6), strict=True):
        ring = np.hypot(x - x0, y - y0)
        flat *= 1.0 - 0.03 * np.exp(-(((ring - radius) / 4.0) ** 2))
    return flat.astype(np.float32)


def _add_defects(defects: Planes, flat: Floats, dark: Floats, rng: np.random.Generator) -> None:
    size = defects.shape[0]
    count = max(size * size // 5000, 4)
    dead = rng.integers(0, size, (2, count))
    hot = rng.integers(0, size, (2, count))
    flat[dead[0], dead[1]] *= rng.uniform(0.0, 0.3, count).astype(np.float32)
    dark[hot[0], hot[1]] = rng.uniform(30.0, 500.0, count)
    defects[dead[0], dead[1]] |= Mask.BAD.value
    defects[hot[0], hot[1]] |= Mask.BAD.value
    for _ in range(3):
        column, start = rng.integers(0, size, 2)
        stop = min(start + int(rng.integers(size // 8, size // 2)), size)
        flat[start:stop, column] *= 0.05
        defects[start:stop, column] |= Mask.BAD.value
