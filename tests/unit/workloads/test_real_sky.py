"""Real exposures: what a directory must hold, and what the camera makes of it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from astropy.io import fits

from workloads.camera.exposures import MANIFEST, RealSky
from workloads.camera.replay import ReplayedSky, camera_of, expose_light
from workloads.common.errors import NonRetriableError
from workloads.common.settings import Camera

NAMES = ("OBS04a", "OBS04b", "OBS04c", "OBS18a", "OBS18b")
SIZE, SKY, GAIN = 128, 2000.0, 4.0


def write(path, seed, size=SIZE, pixels=None, **cards):
    """Write a sky-subtracted exposure with a few stars."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0.0, np.sqrt(SKY / GAIN), (size, size)) if pixels is None else pixels
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
    for cx, cy, flux in ((30, 35, 6e4), (90, 40, 9e4), (60, 95, 4e4), (100, 100, 7e4)):
        image = image + flux / (2 * np.pi * 4.0) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 8.0)
    header = fits.Header()
    wcs = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 30.0, "CRVAL2": -20.0, "CRPIX1": 64.0, "CRPIX2": 64.0, "CD1_1": -7e-5, "CD2_2": 7e-5}  # fmt: skip
    for name, value in (wcs | {"GAIN": GAIN, "SATURATE": 40000.0, "SKYDIP": SKY, "FILTER": "i DECam"} | cards).items():
        if value is not None:
            header[name] = value
    fits.writeto(path, image.astype(np.float32), header, overwrite=True)


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(NAMES):
        write(tmp_path / f"{name}.fits", number)
    return tmp_path


def test_names_tell_epochs_and_the_smaller_is_the_template(folder):
    sky = RealSky.read(folder)
    assert [one.name for one in sky.science] == ["OBS04a.fits", "OBS04b.fits", "OBS04c.fits"]
    assert [one.name for one in sky.template] == ["OBS18a.fits", "OBS18b.fits"]
    assert (sky.field.name, sky.field.skymap, sky.field.band) == (sky.name, sky.name, "i")


def test_a_manifest_overrides_the_names(folder):
    (folder / MANIFEST).write_text("science: [OBS18a.fits]\ntemplate: [OBS04a.fits, OBS04c.fits]\n")
    sky = RealSky.read(folder)
    assert [one.name for one in sky.template] == ["OBS04a.fits", "OBS04c.fits"]
    assert [path.name for path in sky.files(folder)] == ["OBS18a.fits", "OBS04a.fits", "OBS04c.fits", MANIFEST]


def test_the_name_follows_the_content_wherever_it_lies(folder, tmp_path_factory):
    (folder / MANIFEST).write_text("science: [OBS18a.fits]\ntemplate: [OBS04a.fits, OBS04c.fits]\n")
    sky, other = RealSky.read(folder), tmp_path_factory.mktemp("elsewhere")
    for path in sky.files(folder):
        shutil.copy(path, other)
    assert RealSky.read(other).name == sky.name
    write(other / "OBS18a.fits", 99)
    assert RealSky.read(other).name != sky.name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: [path.unlink() for path in folder.glob("*")], "no FITS files, expected the exposures of two epochs"),
        (lambda folder: write(folder / "extra.fits", 9), "the name tells no epoch; expected digits and a letter"),
        (lambda folder: write(folder / "OBS20a.fits", 9), r"names tell 3 epochs \(04, 18, 20\), expected 2"),
        (lambda folder: (folder / "OBS18b.fits").unlink(), "1 template exposures, 0 in both; expected at least 1 and 2"),
        (lambda folder: (folder / MANIFEST).write_text("science: [OBS99a.fits]\n"), "names OBS99a.fits, which is not"),
        (lambda folder: (folder / MANIFEST).write_text("sciense: []\n"), "manifest.yml: cannot be used"),
        (lambda folder: (folder / "OBS04a.fits").write_bytes(b"SIMPLE  ="), "OBS04a.fits: damaged or no FITS file"),
        (lambda folder: write(folder / "OBS04a.fits", 1, GAIN=None), "OBS04a.fits: GAIN is None, expected a number"),
        (lambda folder: write(folder / "OBS04a.fits", 1, SKYDIP=None), "SKYDIP or AVSKY or SKYLEVEL is None"),
        (lambda folder: write(folder / "OBS04a.fits", 1, FILTER="clear"), "FILTER 'clear'; expected one that begins with"),
        (lambda folder: write(folder / "OBS04a.fits", 1, size=64), "64 x 64 pixels; expected a square"),
        (lambda folder: write(folder / "OBS04a.fits", 1, CTYPE1="GLON-CAR"), "OBS04a.fits: header: CTYPE1"),
    ],
)  # fmt: skip
def test_what_cannot_be_replayed_is_refused_by_name(folder, change, said):
    change(folder)
    with pytest.raises(NonRetriableError, match=said):
        RealSky.read(folder)


def test_a_manifest_gives_what_headers_lack(folder):
    for number, name in enumerate(NAMES):
        write(folder / f"{name}.fits", number, SKYDIP=None)
    (folder / MANIFEST).write_text("keywords: {SKYLEVEL: 1500.0}\n")
    assert RealSky.read(folder).science[0].sky == 1500.0 * GAIN


def test_saturated_and_missing_pixels_are_saturated_when_read_out_again(folder):
    pixels = np.zeros((SIZE, SIZE))
    pixels[10, 20], pixels[40, 50] = 41000.0, np.nan
    write(folder / "OBS04a.fits", 1, pixels=pixels)
    sky = RealSky.read(folder)
    camera = camera_of(Camera(), sky)
    raw = expose_light(camera, sky.science[0].electrons + np.float32(sky.science[0].sky), (1,))
    layout = camera.layout(0)
    assert raw.shape == layout.raw_shape
    counts = np.sort(raw.ravel())
    assert counts[-1] >= 62000
    assert (raw >= 62000).sum() >= 2
    overscan = np.median(raw[:, :, -layout.overscan :].astype(float), axis=(1, 2))
    assert np.allclose(overscan, camera.truth(0).pedestal, atol=5.0)


def test_transients_are_new_in_each_visit_and_their_truth_is_what_was_added(folder):
    sky = RealSky.read(folder)
    replayed = ReplayedSky(Camera(), sky, 7)
    assert replayed.detectors == ["R22_S11"]
    first, again = next(replayed.expose(0, [], 0.0)), next(ReplayedSky(Camera(), sky, 7).expose(0, [], 0.0))
    later = next(replayed.expose(3, [], 0.0))
    assert (first.pixels == again.pixels).all()
    assert first.cards["REPLAYED"] == later.cards["REPLAYED"], "three exposures, in turn"
    assert {row["x"] for row in first.truth}.isdisjoint(row["x"] for row in later.truth)
    for row in first.truth:
        assert 5.0 <= row["snr"] <= 100.0
    layout, gain = replayed.camera.layout(0), np.mean([a.gain for a in replayed.camera.layout(0).amplifiers])
    change = (first.pixels.astype(float) - later.pixels)[
        :, :, layout.prescan : layout.prescan + layout.amp_width
    ].sum() * gain
    added = sum(row["flux_e"] for row in first.truth) - sum(row["flux_e"] for row in later.truth)
    assert abs(change - added) < 0.1 * sum(row["flux_e"] for row in first.truth)
