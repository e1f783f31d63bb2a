"""What the simulated night tells of its transients: which of them lie where nothing can be measured."""

from functools import partial

import numpy as np
import pytest

from workloads.camera.epochs import EPOCHS
from workloads.camera.synthetic import SyntheticSky
from workloads.common.plan import FIELDS
from workloads.common.settings import Camera as CameraSettings
from workloads.common.settings import Detector
from workloads.pixels import simulator
from workloads.pixels.simulator.skies import EVENT_DTYPE, SKY_DTYPE, TRANSIENT

SIZE = 256
STAR = (128.0, 60.0)
EXPOSE = simulator.expose
BETA = simulator.Conditions.beta


@pytest.fixture
def truth_at(monkeypatch):
    """Return a function: the truth's rows of transients at places (pixels), with one star on the sky of `flux`."""

    def look(flux, *places, satellite=False, seeing=5.0):
        settings = CameraSettings(seed=7, size=SIZE, detectors=[Detector(name="R22_S00", id=90, column=0, row=0)])
        sky = SyntheticSky(settings, 3)
        wcs = sky.camera.wcs(0, FIELDS[0].ra, FIELDS[0].dec)
        stars, events = np.zeros(1, SKY_DTYPE), np.zeros(len(places), EVENT_DTYPE)
        stars["ra"], stars["dec"] = wcs.pixel_to_sky(*np.array([STAR]).T)
        stars["flux_njy"], events["kind"], events["flux_njy"] = flux, TRANSIENT, 1000.0
        events["ra"], events["dec"] = wcs.pixel_to_sky(*np.array(places).T)
        conditions = simulator.Conditions(5, seeing, 1000.0, (0, 0), 1.0, (0, 0), (0, 0))
        monkeypatch.setattr(sky, "_scene", lambda _: (stars, events))
        monkeypatch.setattr(simulator, "conditions", lambda *_: conditions)
        monkeypatch.setattr(simulator, "expose", partial(EXPOSE, satellite=satellite, cosmic_rays=0.0))
        (frame,) = sky.expose(0, ["R22_S00"], 61000.0)
        return frame.truth

    return look


@pytest.fixture
def mask_at(truth_at):
    """Return a function: as `truth_at`, but only which of the transients are masked."""
    return lambda *args, **options: [row["masked"] for row in truth_at(*args, **options)]


def test_what_is_clear_is_not_masked(mask_at):
    assert mask_at(1_000.0, (40.0, 40.0), (200.0, 90.0)) == [False, False]


def test_the_edge_is_masked(mask_at):
    assert mask_at(1_000.0, (5.0, 40.0), (250.0, 90.0)) == [True, True]


def test_a_saturated_star_and_what_bleeds_from_it_are_masked(mask_at):
    assert mask_at(60_000_000.0, STAR, (128.0, 100.0), (200.0, 60.0)) == [True, True, False]


def test_a_star_that_saturated_in_a_template_is_masked(mask_at):
    """The seeing of the visit is so bad that the star does not saturate in it."""
    flux = 1_200_000.0
    assert mask_at(flux, STAR, seeing=15.0) == [True]
    assert mask_at(flux / 3, STAR, seeing=15.0) == [False]


def test_a_satellites_trail_is_masked(mask_at):
    row = [(float(x), 128.0) for x in range(20, 236, 4)]
    assert sum(mask_at(1_000.0, *row)) + 2 <= sum(mask_at(1_000.0, *row, satellite=True)) < len(row) / 2


def test_the_significance_told_counts_all_of_the_light(truth_at):
    """Against a grid that holds the whole profile: in bad seeing a stamp lacks a tenth of it."""
    seeing, sky_e, read_noise_e = 5.5, 1000.0, 6.0
    (row,) = truth_at(1_000.0, (200.0, 200.0), seeing=seeing)
    yy, xx = np.mgrid[-100:101, -100:101]
    width = seeing / (2 * np.sqrt(2 ** (1 / BETA) - 1))
    profile = (1 + (xx**2 + yy**2) / width**2) ** -BETA
    profile /= profile.sum()
    variance = (sky_e + read_noise_e**2) * (1 + 1 / EPOCHS) + row["flux_e"] * profile
    noise = np.sqrt((profile**2 * variance).sum()) / (profile**2).sum()
    assert row["snr"] == pytest.approx(row["flux_e"] / noise, rel=0.03)
