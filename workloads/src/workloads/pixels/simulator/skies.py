"""What is on the sky and above it: stars, galaxies, transients, the atmosphere of a visit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workloads.pixels.images import Doubles, Table
from workloads.pixels.wcs import deproject, project

if TYPE_CHECKING:
    from workloads.pixels.simulator.camera import Camera

SKY_DTYPE = np.dtype(
    [
        ("id", "i8"),
        ("ra", "f8"),
        ("dec", "f8"),
        ("flux_njy", "f8"),
        ("color", "f8"),
        ("kind", "i4"),
        ("half_light_px", "f8"),
        ("e1", "f8"),
        ("e2", "f8"),
    ]
)
EVENT_DTYPE = np.dtype(
    [
        ("id", "i8"),
        ("ra", "f8"),
        ("dec", "f8"),
        ("flux_njy", "f8"),
        ("kind", "i4"),
        ("period_days", "f8"),
        ("phase", "f8"),
        ("host", "i8"),
    ]
)
STAR, GALAXY = 0, 1
TRANSIENT, VARIABLE = 2, 3


@dataclass(frozen=True)
class Conditions:
    """One visit's atmosphere.

    Parameters
    ----------
    seed
        Noise of the visit comes from it.
    seeing_px
        Full width at half maximum at the raft's centre, pixels.
    sky_e
        Sky electrons per pixel at the centre.
    gradient
        Relative change of the sky from centre to edge, along x and y.
    transparency
        Fraction of light that arrives.
    pointing_px
        Error of the header's position, pixels in x and y.
    ellipticity
        Atmospheric elongation.
    beta
        Moffat exponent.
    """

    seed: int
    seeing_px: float
    sky_e: float
    gradient: tuple[float, float]
    transparency: float
    pointing_px: tuple[float, float]
    ellipticity: tuple[float, float]
    beta: float = 3.2


def conditions(night_seed: int, visit: int, pointing_error_px: float = 1.5) -> Conditions:
    """Draw a visit's conditions: a seeing that wanders about the night's own, sky, clouds, pointing."""
    night = np.random.default_rng([night_seed, 11])
    base = float(np.clip(night.lognormal(np.log(4.0), 0.15), 3.2, 5.5))
    rng = np.random.default_rng([night_seed, visit, 12])
    error = rng.normal(0.0, 1.0, 2) * pointing_error_px
    return Conditions(
        seed=int(rng.integers(2**62)),
        seeing_px=float(np.clip(base * rng.lognormal(0.0, 0.09), 2.9, 6.5)),
        sky_e=float(rng.uniform(900.0, 1600.0)),
        gradient=(float(rng.normal(0, 0.03)), float(rng.normal(0, 0.03))),
        transparency=float(rng.uniform(0.88, 1.0)),
        pointing_px=(float(error[0]), float(error[1])),
        ellipticity=(float(rng.normal(0, 0.02)), float(rng.normal(0, 0.02))),
    )


def psf_shape(c: Conditions, u: Doubles, v: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Width (pixels) and ellipticity of the PSF at focal plane positions (half rafts)."""
    fwhm = c.seeing_px * (1.0 + 0.03 * (u**2 + v**2) + 0.01 * u)
    return fwhm, c.ellipticity[0] + 0.02 * u - 0.01 * v, c.ellipticity[1] + 0.015 * v + 0.01 * u * v


def make_static_sky(seed: int, ra: float, dec: float, half: float, stars: float, galaxies: float) -> Table:
    """Stars and galaxies in a square of sky; a pure function of seed and place."""
    rng = np.random.default_rng([seed, round(ra * 1e6) % 2**32, round((dec + 90) * 1e6), 21])
    area = (2 * half * 3600.0 / 0.2 / 1024.0) ** 2
    n_stars, n_galaxies = round(stars * area), round(galaxies * area)
    sky = np.zeros(n_stars + n_galaxies, SKY_DTYPE)
    sky["id"] = np.arange(1, len(sky) + 1)
    xi, eta = rng.uniform(-half, half, (2, len(sky)))
    sky["ra"], sky["dec"] = deproject(xi, eta, ra, dec)
    star, galaxy = sky[:n_stars], sky[n_stars:]
    star["flux_njy"] = _magnitudes(rng, n_stars, 15.0, 24.0, 0.16)
    galaxy["flux_njy"] = _magnitudes(rng, n_galaxies, 18.0, 24.5, 0.32)
    galaxy["kind"] = GALAXY
    galaxy["half_light_px"] = np.clip(rng.lognormal(np.log(3.0), 0.5, n_galaxies), 0.8, 12.0)
    galaxy["e1"], galaxy["e2"] = np.clip(rng.normal(0.0, 0.2, (2, n_galaxies)), -0.5, 0.5)
    sky["color"] = rng.normal(0.6, 0.3, len(sky))
    return sky


def _magnitudes(rng: np.random.Generator, count: int, bright: float, faint: float, slope: float) -> Doubles:
    low, high = 10 ** (slope * bright), 10 ** (slope * faint)
    magnitude = np.log10(rng.uniform(low, high, count)) / slope
    return 10 ** (0.4 * (31.4 - magnitude))


def transients(
    night_seed: int,
    camera: Camera,
    ra: float,
    dec: float,
    per_detector: float = 12.0,
    *,
    sky: Table | None = None,
    variables: float = 0.02,
    flux_njy: tuple[float, float] = (600.0, 40_000.0),
) -> Table:
    """Draw a night's new and changing sources in a field.

    Fluxes are spread evenly in logarithm over ``flux_njy``. A third of the transients sit in galaxies of ``sky``; a
    fraction ``variables`` of its stars changes by up to half of its flux. The flux of a variable in this table is its
    amplitude: what `flux_at` returns is the change against the static sky, of either sign.
    """
    rng = np.random.default_rng([night_seed, round(ra * 1e6) % 2**32, round((dec + 90) * 1e6), 31])
    count = round(per_detector * camera.detectors)
    events = np.zeros(count, EVENT_DTYPE)
    events["ra"], events["dec"] = camera.positions(ra, dec, count, rng)
    events["flux_njy"] = np.exp(rng.uniform(np.log(flux_njy[0]), np.log(flux_njy[1]), count))
    events["kind"] = TRANSIENT
    if sky is not None:
        _move_to_hosts(events, sky, ra, dec, rng)
        events = np.concatenate([events, _variables(sky, variables, rng)])
    events["id"] = (night_seed % 2**31) * 100_000 + np.arange(len(events))
    return events


def _move_to_hosts(events: Table, sky: Table, ra: float, dec: float, rng: np.random.Generator) -> None:
    galaxies = sky[sky["kind"] == GALAXY]
    if len(galaxies) == 0:
        return
    # At most one in a galaxy: two in the same could not be told apart.
    hosted = rng.choice(len(events), min(len(events) // 3, len(galaxies)), replace=False)
    hosts = galaxies[rng.choice(len(galaxies), len(hosted), replace=False)]
    xi, eta = project(hosts["ra"], hosts["dec"], ra, dec)
    offset = rng.normal(0.0, 1.0, (2, len(hosted))) * hosts["half_light_px"] * 0.2 / 3600.0
    events["ra"][hosted], events["dec"][hosted] = deproject(xi + offset[0], eta + offset[1], ra, dec)
    events["host"][hosted] = hosts["id"]


def _variables(sky: Table, fraction: float, rng: np.random.Generator) -> Table:
    stars = sky[sky["kind"] == STAR]
    chosen = stars[rng.random(len(stars)) < fraction]
    events = np.zeros(len(chosen), EVENT_DTYPE)
    events["ra"], events["dec"], events["host"] = chosen["ra"], chosen["dec"], chosen["id"]
    events["flux_njy"] = chosen["flux_njy"] * rng.uniform(0.05, 0.5, len(chosen))
    events["kind"] = VARIABLE
    events["period_days"] = 10 ** rng.uniform(-1.0, 1.0, len(chosen))
    events["phase"] = rng.uniform(0.0, 1.0, len(chosen))
    return events


def flux_at(events: Table, mjd: float) -> Doubles:
    """Flux (nJy) that each event adds to the static sky at a time; variables subtract as well."""
    phase = np.where(
        events["period_days"] > 0, mjd / np.where(events["period_days"] > 0, events["period_days"], 1.0), 0.0
    )
    swing = np.sin(2 * np.pi * (phase + events["phase"]))
    return np.where(events["kind"] == VARIABLE, events["flux_njy"] * swing, events["flux_njy"])
