"""Real exposures: what a directory must hold, and what the camera makes of it."""

from __future__ import annotations

import contextlib
import shutil

import numpy as np
import pytest
from astropy.io import fits

from workloads.camera.exposures import MANIFEST, RealExposure, RealSky, _square
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
        (lambda folder: write(folder / "OBS04a.fits", 1, size=64), r"128 x 128 pixels; expected 64 x 64, as OBS|64 x 64 pixels; expected 128 x 128, as OBS18a.fits has"),
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


# -- files as observatories have them ----------------------------------------------------------------------------------


def rewrite(folder, change, names=NAMES):
    """Write exposures again after a change of their HDUs, which returns the list to write and perhaps another suffix."""
    for name in names:
        path = folder / f"{name}.fits"
        with fits.open(path, memmap=False) as hdus:
            pixels, header = hdus[0].data.copy(), hdus[0].header.copy()
        path.unlink()
        made, suffix = change(pixels, header)
        fits.HDUList(made).writeto(folder / f"{name}{suffix}", overwrite=True)


def split(pixels, header, above=("FILTER", "GAIN")):
    """Put filter and gain, or other keywords, into the primary header, the image into an extension."""
    primary = fits.PrimaryHDU()
    for keyword in above:
        primary.header[keyword] = header.pop(keyword)
    primary.header["CRVAL1"], primary.header["PV1_1"] = 0.0, 2.0  # of another image
    return [primary, fits.ImageHDU(pixels, header)], ".fits"


@pytest.mark.parametrize(
    "above", [("FILTER", "GAIN"), ("SKYDIP",), ("SATURATE", "FILTER"), ("FILTER", "GAIN", "SATURATE", "SKYDIP")]
)
def test_what_an_image_lacks_stands_in_the_primary_header(folder, above):
    rewrite(folder, lambda pixels, header: split(pixels, header, above))
    sky = RealSky.read(folder)
    one = sky.science[0]
    assert (sky.field.band, one.gain, sky.field.ra) == ("i", GAIN, 30.0)
    assert (one.sky, one.number("SATURATE")) == (SKY * GAIN, 40000.0)


@pytest.mark.parametrize("suffix", [".fits.gz", ".fit", ".fit.gz", ".fits.fz"])
def test_packed_files_are_read(folder, suffix):
    rewrite(folder, lambda pixels, header: ([fits.PrimaryHDU(pixels, header)], suffix))
    sky = RealSky.read(folder)
    assert [one.name for one in sky.template] == [f"OBS18a{suffix}", f"OBS18b{suffix}"]
    assert sky.files(folder)[0].name == f"OBS04a{suffix}"


@pytest.mark.parametrize(("shape", "side"), [((200, 130), 128), ((128, 300), 128), ((131, 131), 128)])
def test_exposures_that_are_no_square_are_cropped_and_it_is_said(folder, caplog, shape, side):
    rows, columns = shape
    for number, name in enumerate(NAMES):
        write(folder / f"{name}.fits", number, pixels=np.random.default_rng(number).normal(0.0, 22.0, shape))
    before = fits.getdata(folder / "OBS04a.fits")
    sky = RealSky.read(folder)
    one = sky.science[0]
    assert one.pixels.shape == (side, side)
    assert sky.size == side
    said = f"exposures of {columns} x {rows} pixels are cropped to the {side} x {side} in their middle"
    assert said in caplog.text
    assert ReplayedSky(Camera(), sky, 1).describe()["cropped"] == said
    bottom, left = (rows - side) // 2, (columns - side) // 2
    assert np.array_equal(one.pixels, before[bottom : bottom + side, left : left + side])
    whole = RealExposure("x", before, dict(fits.getheader(folder / "OBS04a.fits")))
    assert np.allclose(one.wcs.pixel_to_sky(10.0, 20.0), whole.wcs.pixel_to_sky(10.0 + left, 20.0 + bottom), atol=1e-10)


@pytest.mark.parametrize(
    ("columns", "rows", "side"),
    [(2046, 4094, 2032), (4094, 2046, 2032), (2048, 4096, 2048), (2046, 2046, 2032), (4072, 4000, 4000)],
)
def test_detectors_of_every_observatory_have_a_square_in_their_middle(columns: int, rows: int, side: int) -> None:
    one = RealExposure("x", np.broadcast_to(np.float32(0.0), (rows, columns)), {"CRPIX1": 1.0, "CRPIX2": 1.0})
    found, said = _square(one)
    assert found == side
    assert said == f"exposures of {columns} x {rows} pixels are cropped to the {side} x {side} in their middle"
    cut = one.cropped(side)
    assert cut.pixels.shape == (side, side)
    assert (cut.header["CRPIX1"], cut.header["CRPIX2"]) == (1.0 - (columns - side) // 2, 1.0 - (rows - side) // 2)


def spoil(folder, old, new, names=("OBS04a",)):
    """Replace bytes of a header."""
    for name in names:
        path = folder / f"{name}.fits"
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new.ljust(len(old)), 1))


@pytest.mark.parametrize("value", [b"nan", b"-nan", b"NaN", b"INF", b"'1500'"])
def test_a_card_without_a_number_is_one_sentence_and_the_manifest_helps(folder, value):
    for number, name in enumerate(NAMES):
        write(folder / f"{name}.fits", number, SKYDIP=None, SKYLEVEL=1500.0)
    spoil(folder, b"SKYLEVEL=               1500.0", b"SKYLEVEL= " + value, NAMES)
    said = r"SKYDIP or AVSKY or SKYLEVEL is .*, expected a number; manifest"
    with pytest.raises(NonRetriableError, match=said) as caught:
        RealSky.read(folder)
    assert "\n" not in str(caught.value)
    assert value.strip(b"'").decode() in str(caught.value)
    unread = RealExposure("x", np.zeros((1, 1)), {}, {"GAIN": "GAIN    = ?"})
    with pytest.raises(NonRetriableError, match=r"GAIN is in the card 'GAIN    = .', expected a number"):
        _ = unread.gain
    (folder / MANIFEST).write_text("keywords: {SKYLEVEL: 1500.0}\n")
    assert RealSky.read(folder).science[0].sky == 1500.0 * GAIN


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"SATURATE=              40000.0", b"SATURATE= 40000.0 / d\xe9bord"),
        (b"EXTEND  =                    T", b"EXPTIME =10.0"),
    ],
)
def test_cards_that_nobody_needs_are_no_reason_to_refuse(folder, old, new):
    with contextlib.suppress(AssertionError):
        spoil(folder, old, new)
    assert len(RealSky.read(folder).science) == 3


@pytest.mark.parametrize("wrong", ["unknown", "none", "clear", "Ha"])
def test_the_manifest_wins_over_a_wrong_header(folder, wrong):
    for number, name in enumerate(NAMES):
        write(folder / f"{name}.fits", number, FILTER=wrong, GAIN=1.0)
    with pytest.raises(NonRetriableError, match=f"FILTER '{wrong}'; expected one that begins with ugrizy"):
        RealSky.read(folder)
    (folder / MANIFEST).write_text(f"keywords: {{FILTER: g, GAIN: {GAIN}}}\n")
    sky = RealSky.read(folder)
    assert (sky.field.band, sky.science[0].gain) == ("g", GAIN)


@pytest.mark.parametrize(
    ("name", "band"),
    [
        ("i DECam", "i"),
        ("r.00000", "r"),
        ("SDSSg", "g"),
        ("r_57", "r"),
        ("rp", "r"),
        ("Y DECam", "y"),
        ("u'", "u"),
        ("zs", "z"),
    ],
)
def test_filters_have_the_names_of_their_observatories(name, band):
    assert RealExposure("x", np.zeros((1, 1)), {"FILTER": name}).band == band


@pytest.mark.parametrize("name", ["unknown", "none", "red rocket", "grid", "Ha", "ultraviolet", "", None, 7])
def test_a_filter_without_a_band_has_none(name):
    assert RealExposure("x", np.zeros((1, 1)), {"FILTER": name}).band == ""


def several(pixels, header):
    return [fits.PrimaryHDU(), fits.ImageHDU(pixels, header, "SCI"), fits.ImageHDU(pixels * 0 + 1, name="ERR")], ".fits"


def test_of_several_images_it_is_asked_which(folder):
    rewrite(folder, several)
    with pytest.raises(
        NonRetriableError, match=r"2 images in it: SCI, ERR; manifest.yml may say which, as in `extension: SCI`"
    ):
        RealSky.read(folder)
    (folder / MANIFEST).write_text("extension: DQ\n")
    with pytest.raises(NonRetriableError, match="asks for extension 'DQ', expected one of SCI, ERR"):
        RealSky.read(folder)
    for said in ("SCI", "1"):
        (folder / MANIFEST).write_text(f"extension: {said}\n")
        assert RealSky.read(folder).science[0].gain == GAIN


def test_an_image_with_an_axis_of_one_is_an_image(folder):
    rewrite(folder, lambda pixels, header: ([fits.PrimaryHDU(pixels[None], header)], ".fits"))
    assert RealSky.read(folder).size == SIZE


def test_scamps_distortion_is_read_if_the_manifest_says_whose_it_is(folder):
    for number, name in enumerate(NAMES):
        write(folder / f"{name}.fits", number, PV1_0=0.0, PV1_1=1.001, PV2_1=1.0)
    with pytest.raises(NonRetriableError, match="plain TAN projection with PV1_"):
        RealSky.read(folder)
    (folder / MANIFEST).write_text("scamp: true\n")
    assert RealSky.read(folder).science[0].wcs.pv1 == (0.0, 1.001)


@pytest.mark.parametrize("size", [10, 30000])
def test_a_packed_file_cut_short_is_damaged(folder, size):
    rewrite(folder, lambda pixels, header: ([fits.PrimaryHDU(pixels, header)], ".fits.gz"))
    path = folder / "OBS04b.fits.gz"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(NonRetriableError, match=r"OBS04b.fits.gz: damaged or no FITS file"):
        RealSky.read(folder)


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
