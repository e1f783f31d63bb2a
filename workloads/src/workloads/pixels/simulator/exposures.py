"""From sky to raw counts: light, silicon, electronics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from workloads.pixels.images import Doubles, Floats, Table
from workloads.pixels.kernels.rendering import add_moffats, add_shot_noise, add_stamps, add_streak, add_tracks, bleed
from workloads.pixels.layout import DetectorLayout
from workloads.pixels.simulator.camera import ELECTRONS_PER_NANOJANSKY_SECOND, FULL_WELL, Camera, DetectorTruth
from workloads.pixels.simulator.skies import GALAXY, Conditions, flux_at, psf_shape
from workloads.pixels.wcs import Wcs

TRUTH_DTYPE = np.dtype(
    [
        ("id", "i8"),
        ("ra", "f8"),
        ("dec", "f8"),
        ("x", "f8"),
        ("y", "f8"),
        ("flux_njy", "f8"),
        ("flux_e", "f8"),
        ("kind", "i4"),
        ("host", "i8"),
    ]
)
_STAMP = 64


@dataclass(frozen=True)
class Exposure:
    """A raw detector and its truth.

    Parameters
    ----------
    raw
        ``uint16[n_amps, rows, columns]``.
    layout
        Its geometry.
    wcs
        What the header says: off by the pointing error.
    true_wcs
        Where the light really fell.
    truth
        Transients and variables on this detector (`TRUTH_DTYPE`), flux as the change against the static sky.
    cosmic_rays
        Pixels that a particle touched.
    satellite
        Pixels where a satellite's light is above half of the noise.
    scene
        Expected electrons before noise (after the flat), for tests.
    charge
        Electrons that were read: noise, particles and what bled along the columns included.
    """

    raw: npt.NDArray[np.uint16]
    layout: DetectorLayout
    wcs: Wcs
    true_wcs: Wcs
    truth: Table
    cosmic_rays: npt.NDArray[np.bool_]
    satellite: npt.NDArray[np.bool_]
    scene: Floats
    charge: Floats
    header: dict[str, Any]


def expose(
    camera: Camera,
    detector: int,
    ra: float,
    dec: float,
    conditions: Conditions,
    sky: Table,
    events: Table | None = None,
    exposure_time: float = 30.0,
    mjd: float = 61000.0,
    *,
    satellite: bool | None = None,
    cosmic_rays: float = 0.7,
) -> Exposure:
    """Simulate one detector of a visit.

    ``(ra, dec)`` (degrees) is what the header claims; the light falls ``conditions.pointing_px`` away. ``cosmic_rays``
    is the rate per second and million pixels; ``satellite`` forces or forbids a streak (default: one in thirty).
    """
    rng = np.random.default_rng([conditions.seed, detector])
    structure, layout = camera.truth(detector), camera.layout(detector)
    wcs = camera.wcs(detector, ra, dec)
    true_wcs = wcs.shifted(*conditions.pointing_px)
    scale = ELECTRONS_PER_NANOJANSKY_SECOND * exposure_time * conditions.transparency
    truth = _truth_table(events, true_wcs, mjd, scale, camera.size)
    scene = _sky_level(camera, detector, conditions, exposure_time)
    _add_sources(scene, camera, detector, conditions, sky, true_wcs, scale)
    _add_points(scene, camera, detector, conditions, truth["x"], truth["y"], truth["flux_e"])
    trail = np.zeros_like(scene)
    if satellite if satellite is not None else rng.random() < 1 / 30:
        add_streak(
            trail,
            *rng.uniform(0.2, 0.8, 2) * camera.size,
            rng.uniform(0, np.pi),
            conditions.seeing_px / 2,
            rng.uniform(100, 3000),
        )
    trailed = trail > 0.5 * np.sqrt(scene)
    scene += trail
    scene *= structure.flat
    expected = scene.copy()
    touched = np.zeros(scene.shape, np.uint8)
    electrons = scene
    electrons += structure.dark * np.float32(exposure_time)
    add_shot_noise(electrons, rng.standard_normal(electrons.shape, np.float32))
    _add_cosmic_rays(electrons, touched, rng, cosmic_rays * exposure_time)
    raw = read_out(electrons, layout, structure, rng)
    header = {"EXPTIME": exposure_time, "DETECTOR": detector, "MJD": mjd}
    return Exposure(raw, layout, wcs, true_wcs, truth, touched.astype(bool), trailed, expected, electrons, header)


def charge_of_stars(
    camera: Camera, detector: int, conditions: Conditions, stars: Table, wcs: Wcs, exposure_time: float = 30.0
) -> Floats:
    """Electrons that stars alone leave on a detector, bled along its columns, without noise."""
    charge = np.zeros((camera.size, camera.size), np.float32)
    scale = ELECTRONS_PER_NANOJANSKY_SECOND * exposure_time * conditions.transparency
    _add_sources(charge, camera, detector, conditions, stars, wcs, scale)
    bleed(charge, camera.layout(detector).height // 2, FULL_WELL)
    return charge


def bias_frame(camera: Camera, detector: int, seed: int) -> npt.NDArray[np.uint16]:
    """Take a zero-second exposure."""
    rng = np.random.default_rng([seed, detector, 41])
    electrons = np.zeros((camera.size, camera.size), np.float32)
    return read_out(electrons, camera.layout(detector), camera.truth(detector), rng)


def dark_frame(camera: Camera, detector: int, seed: int, exposure_time: float = 300.0) -> npt.NDArray[np.uint16]:
    """Take an exposure with the shutter closed; cosmic rays included."""
    rng = np.random.default_rng([seed, detector, 42])
    structure = camera.truth(detector)
    electrons = structure.dark * np.float32(exposure_time)
    add_shot_noise(electrons, rng.standard_normal(electrons.shape, np.float32))
    _add_cosmic_rays(electrons, np.zeros(electrons.shape, np.uint8), rng, 0.7 * exposure_time)
    return read_out(electrons, camera.layout(detector), structure, rng)


def flat_frame(camera: Camera, detector: int, seed: int, level_e: float = 40_000.0) -> npt.NDArray[np.uint16]:
    """Take an evenly lit exposure of ``level_e`` electrons per pixel where the response is 1."""
    rng = np.random.default_rng([seed, detector, 43])
    structure = camera.truth(detector)
    electrons = structure.flat * np.float32(level_e * rng.normal(1.0, 0.02))
    add_shot_noise(electrons, rng.standard_normal(electrons.shape, np.float32))
    _add_cosmic_rays(electrons, np.zeros(electrons.shape, np.uint8), rng, 5.0)
    return read_out(electrons, camera.layout(detector), structure, rng)


def read_out(
    electrons: Floats, layout: DetectorLayout, structure: DetectorTruth, rng: np.random.Generator
) -> npt.NDArray[np.uint16]:
    """Bleed, crosstalk, gain, linearity, pedestal, read noise, quantisation: electrons to raw counts."""
    bleed(electrons, layout.height // 2, FULL_WELL)
    raw = np.empty(layout.raw_shape, np.float32)
    rng.standard_normal(out=raw, dtype=np.float32)
    drift = np.cumsum(rng.normal(0.0, 0.05, (len(layout.amplifiers), layout.amp_height)), axis=1)
    signal = [_section(electrons, layout, i) / np.float32(a.gain) for i, a in enumerate(layout.amplifiers)]
    for i, amplifier in enumerate(layout.amplifiers):
        counts = signal[i] - np.float32(structure.linearity[i]) * signal[i] ** 2
        for j, fraction in enumerate(structure.crosstalk[i]):
            if fraction:
                counts += np.float32(fraction) * signal[j]
        frame = raw[i]
        frame *= np.float32(amplifier.read_noise / amplifier.gain)
        frame += (structure.pedestal[i] + drift[i]).astype(np.float32)[:, None]
        frame[:, layout.prescan : layout.prescan + layout.amp_width] += counts + _section(structure.bias, layout, i)
    return np.clip(np.rint(raw), 0, 65535).astype(np.uint16)


def _section(image: Floats, layout: DetectorLayout, index: int) -> Floats:
    amplifier = layout.amplifiers[index]
    section = image[amplifier.y0 : amplifier.y0 + layout.amp_height, amplifier.x0 : amplifier.x0 + layout.amp_width]
    return section[:: -1 if amplifier.flip_y else 1, :: -1 if amplifier.flip_x else 1]


def _truth_table(events: Table | None, wcs: Wcs, mjd: float, scale: float, size: int) -> Table:
    if events is None or len(events) == 0:
        return np.zeros(0, TRUTH_DTYPE)
    x, y = wcs.sky_to_pixel(events["ra"], events["dec"])
    inside = (x > -30) & (x < size + 30) & (y > -30) & (y < size + 30)
    table = np.zeros(int(inside.sum()), TRUTH_DTYPE)
    for name in ("id", "ra", "dec", "kind", "host"):
        table[name] = events[name][inside]
    table["x"], table["y"] = x[inside], y[inside]
    table["flux_njy"] = flux_at(events, mjd)[inside]
    table["flux_e"] = table["flux_njy"] * scale
    return table


def _sky_level(camera: Camera, detector: int, conditions: Conditions, exposure_time: float) -> Floats:
    axis = np.arange(camera.size, dtype=np.float64)
    u, _ = camera.focal_position(detector, axis, axis)
    _, v = camera.focal_position(detector, axis, axis)
    level = conditions.sky_e * exposure_time / 30.0
    plane = 1.0 + conditions.gradient[0] * u[None, :] + conditions.gradient[1] * v[:, None]
    return (level * plane).astype(np.float32)


def _add_points(
    scene: Floats, camera: Camera, detector: int, conditions: Conditions, x: Doubles, y: Doubles, flux: Doubles
) -> None:
    fwhm, e1, e2 = psf_shape(conditions, *camera.focal_position(detector, x, y))
    arrays = [np.ascontiguousarray(a, np.float64) for a in (x, y, flux, fwhm, e1, e2)]
    add_moffats(scene, *arrays, conditions.beta, 0.3)


def _add_sources(
    scene: Floats, camera: Camera, detector: int, conditions: Conditions, sky: Table, wcs: Wcs, scale: float
) -> None:
    x, y = wcs.sky_to_pixel(sky["ra"], sky["dec"])
    inside = (x > -150) & (x < camera.size + 150) & (y > -150) & (y < camera.size + 150)
    sky, x, y = sky[inside], x[inside], y[inside]
    star = sky["kind"] != GALAXY
    _add_points(scene, camera, detector, conditions, x[star], y[star], sky["flux_njy"][star] * scale)
    if (~star).any():
        _add_galaxies(scene, camera, detector, conditions, sky[~star], x[~star], y[~star], scale)


def _add_galaxies(
    scene: Floats,
    camera: Camera,
    detector: int,
    conditions: Conditions,
    sky: Table,
    x: Doubles,
    y: Doubles,
    scale: float,
) -> None:
    """Draw exponential disks, convolved with the local PSF in Fourier space so that no pixel phase is lost."""
    fwhm, e1, e2 = psf_shape(conditions, *camera.focal_position(detector, x, y))
    left, bottom = np.floor(x).astype(np.int64) - _STAMP // 2, np.floor(y).astype(np.int64) - _STAMP // 2
    psfs = np.zeros((len(sky), _STAMP, _STAMP), np.float32)
    center, one = np.array([_STAMP / 2.0]), np.ones(1)
    for i in range(len(sky)):
        add_moffats(psfs[i], center, center, one, fwhm[i : i + 1], e1[i : i + 1], e2[i : i + 1], conditions.beta, 1e-7)
    ky = 2 * np.pi * scipy.fft.fftfreq(_STAMP)[None, :, None]
    kx = 2 * np.pi * scipy.fft.rfftfreq(_STAMP)[None, None, :]
    h, g1, g2 = (sky["half_light_px"] / 1.678)[:, None, None], sky["e1"][:, None, None], sky["e2"][:, None, None]
    k2 = ((1 + g1) * kx + g2 * ky) ** 2 + (g2 * kx + (1 - g1) * ky) ** 2
    disk = (1 + h**2 * k2) ** -1.5
    dx, dy = (x - left - _STAMP / 2)[:, None, None], (y - bottom - _STAMP / 2)[:, None, None]
    phase = np.exp(-1j * (kx * dx + ky * dy))
    stamps = scipy.fft.irfft2(scipy.fft.rfft2(psfs) * disk * phase, s=(_STAMP, _STAMP))
    stamps *= (sky["flux_njy"] * scale)[:, None, None]
    add_stamps(scene, np.ascontiguousarray(stamps, np.float32), left, bottom)


def _add_cosmic_rays(electrons: Floats, touched: npt.NDArray[np.uint8], rng: np.random.Generator, rate: float) -> None:
    count = rng.poisson(rate * electrons.size / 1e6)
    rows, columns = electrons.shape
    length, angle = rng.exponential(6.0, count), rng.uniform(0.0, 2 * np.pi, count)
    charge = (1 + length) * rng.lognormal(np.log(700.0), 0.6, count)
    x, y = rng.uniform(0, columns, count), rng.uniform(0, rows, count)
    add_tracks(electrons, touched, x, y, length * np.cos(angle), length * np.sin(angle), charge)
