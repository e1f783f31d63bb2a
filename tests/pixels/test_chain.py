"""From raw counts to difference sources, against the truth; failures told by figures."""

import itertools

import numpy as np
import pytest
import sep

from workloads.pixels import chain, coadd, simulator
from workloads.pixels.background import estimate_background
from workloads.pixels.deblending import deblend
from workloads.pixels.detection import Flag, detect, forced_photometry
from workloads.pixels.difference import subtract
from workloads.pixels.errors import PixelError
from workloads.pixels.images import Image
from workloads.pixels.masks import UNUSABLE, Mask
from workloads.pixels.psf import gaussian_psf
from workloads.pixels.resampling import noise_power, resample
from workloads.pixels.simulator.skies import EVENT_DTYPE, TRANSIENT

from .conftest import DEC, RA


@pytest.fixture(scope="module")
def nights(field, template):
    done = []
    for visit, seeing in enumerate((3.4, 4.0, 4.6, 5.2)):
        events = simulator.transients(60 + visit, field.camera, RA, DEC, 20.0, sky=field.sky)
        exposure = field.expose(60, visit, events, seeing_px=seeing)
        result = chain.process_difference(exposure.raw, field.layout, field.calibration, template, exposure.wcs, 30.0)
        done.append((exposure, result))
    return done


def _alerts(result):
    sources = result.sources
    return sources[(np.abs(sources["snr"]) >= 5.5) & (sources["flags"] & Flag.REJECT.value == 0)]


def test_transients_are_found_and_little_else(nights):
    wanted = found = false = 0
    for exposure, result in nights:
        truth, alerts = exposure.truth, _alerts(result)
        _, error, _, covered = forced_photometry(result.difference, result.difference_psf, truth["x"], truth["y"])
        bad = result.difference.mask & (Mask.BAD | Mask.SAT | Mask.CR | Mask.EDGE | Mask.NO_DATA).value != 0
        for source, sigma, share in zip(truth, error, covered, strict=True):
            x, y = round(source["x"]), round(source["y"])
            if (
                source["kind"] != 2
                or not share > 0.9
                or source["flux_e"] < 8 * sigma
                or bad[y - 3 : y + 4, x - 3 : x + 4].any()
            ):
                continue
            wanted += 1
            found += bool((np.hypot(alerts["x"] - source["x"], alerts["y"] - source["y"]) < 1).any())
        away = [np.hypot(truth["x"] - a["x"], truth["y"] - a["y"]).min() > 3 for a in alerts]
        false += sum(away)
    assert wanted >= 20
    # Noise alone puts a few of the faintest a pixel off at the worst seeing; over many images 98.7 % are found.
    assert found >= 0.96 * wanted
    assert false <= len(nights)


def test_fluxes_and_noise_are_honest(nights):
    ratios = []
    for exposure, result in nights:
        truth = exposure.truth[exposure.truth["kind"] == 2]
        flux, error, _, covered = forced_photometry(result.difference, result.difference_psf, truth["x"], truth["y"])
        bright = (covered > 0.95) & (truth["flux_e"] > 20 * error)
        ratios.append(flux[bright] * result.nanojansky_per_electron / truth["flux_njy"][bright])
        assert 0.95 < result.quality["significance_scatter"] < 1.15
        assert result.quality["ok"] == 1
    assert abs(np.median(np.concatenate(ratios)) - 1) < 0.02


@pytest.mark.parametrize("ratio", [0.7, 0.85, 1.0, 1.2, 1.5])
def test_noise_is_predicted_whichever_image_is_sharper(field, template, ratio):
    seeing = ratio * template.psf.fwhm
    exposure = field.expose(62, round(100 * ratio), seeing_px=seeing)
    result = chain.process_difference(exposure.raw, field.layout, field.calibration, template, exposure.wcs, 30.0)
    assert result.quality["direction"] == (ratio < 1) or ratio == 1.0
    assert 0.97 < result.quality["residual_over_predicted_variance"] < 1.03


@pytest.mark.parametrize("shift", [(0.5, 0.5), (0.05, -0.3), (0.0, 0.0)])
def test_noise_of_resampled_images_has_the_spectrum_told(rng, shift):
    noise = Image(rng.normal(size=(512, 512)).astype("f4"), np.ones((512, 512), "f4"), np.zeros((512, 512), "u2"))
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    pixels = resample(noise, matrix, noise.shape).pixels[32:480, 32:480]
    tiles = pixels.reshape(7, 64, 7, 64).transpose(0, 2, 1, 3)
    power = (np.abs(np.fft.fft2(tiles)) ** 2).mean(axis=(0, 1)) / 64**2
    predicted = noise_power(matrix, noise.shape)
    assert abs(power.mean() / predicted.mean() - 1) < 0.02
    assert (
        np.abs(power.reshape(8, 8, 8, 8).mean(axis=(1, 3)) - predicted.reshape(8, 8, 8, 8).mean(axis=(1, 3))).max()
        < 0.1
    )


def _split(rng, *placed):
    """Draw sources (x, y, flux) in white noise and return what is found there, overlapping ones split."""
    stamp = gaussian_psf(4.0, 200, 200, size=31)
    pixels = rng.normal(0, 10, (200, 200)).astype("f4")
    for x, y, flux in placed:
        cut = stamp.stamps(np.array([x]), np.array([y]))[0]
        left, bottom = round(x) - 15, round(y) - 15
        pixels[bottom : bottom + 31, left : left + 31] += np.float32(flux) * cut
    image = Image(pixels, np.full((200, 200), 100, "f4"), np.zeros((200, 200), "u2"))
    return deblend(image, stamp, detect(image, stamp, 5.0), 5.0)


@pytest.mark.parametrize(
    "pair",
    [((100.2, 90.4, 9000.0), (104.9, 91.0, 3000.0)), ((100.2, 90.4, 14000.0), (107.5, 91.0, 1900.0))],
    ids=["in its flank", "in its wings"],
)
def test_a_second_source_beside_a_brighter_one_is_split(rng, pair):
    found = _split(rng, *pair)
    assert len(found) == 2
    for source, (x, y, flux) in zip(found, pair, strict=True):
        assert np.hypot(source["x"] - x, source["y"] - y) < 0.3
        assert abs(source["psf_flux"] / flux - 1) < 0.1


def test_a_lone_bright_source_is_not_split(rng):
    assert (np.abs(_split(rng, (100.3, 90.2, 20000.0))["snr"]) > 6).sum() == 1


def test_what_is_new_beside_bright_stars_is_found(field, template):
    """One at a time: were there one beside every star, the match would take them for part of the stars."""
    wcs = field.camera.wcs(0, RA, DEC)
    stars = field.sky[(field.sky["kind"] == 0) & (np.abs(field.sky["flux_njy"] - 450_000) < 150_000)]
    x, y = wcs.sky_to_pixel(stars["ra"], stars["dec"])
    inside = np.flatnonzero((np.minimum(x, y) > 60) & (np.maximum(x, y) < 700))[:4]
    wanted, found = 0, 0
    for visit, (star, away) in enumerate(itertools.product(inside, (6.0, 9.0, 12.0))):
        event = np.zeros(1, EVENT_DTYPE)
        place = x[star] + away * np.cos(visit), y[star] + away * np.sin(visit)
        event["ra"], event["dec"] = wcs.pixel_to_sky(*(np.array([axis]) for axis in place))
        event["kind"], event["flux_njy"] = TRANSIENT, 9_000.0
        exposure = field.expose(63, visit, event, seeing_px=4.2)
        result = chain.process_difference(exposure.raw, field.layout, field.calibration, template, exposure.wcs, 30.0)
        alerts, truth = _alerts(result), exposure.truth[0]
        row, column = round(truth["y"]), round(truth["x"])
        if (result.difference.mask[row - 3 : row + 4, column - 3 : column + 4] & (UNUSABLE | Mask.EDGE).value).any():
            continue
        wanted += 1
        found += bool((np.hypot(alerts["x"] - truth["x"], alerts["y"] - truth["y"]) < 1).any())
    assert wanted >= 8
    assert found >= wanted - 1


def test_positions_on_the_sky(nights):
    for exposure, result in nights:
        alerts, truth = _alerts(result), exposure.truth
        ra, dec = exposure.true_wcs.pixel_to_sky(alerts["x"], alerts["y"])
        assert np.median(np.abs(dec - alerts["dec"])) * 3600 / 0.2 < 0.05
        assert np.median(np.abs(ra - alerts["ra"])) * np.cos(np.radians(DEC)) * 3600 / 0.2 < 0.05
        assert len(truth)


def test_a_wrong_field_is_told_by_figures(field, template):
    other = field.camera.static_sky(200.0, 10.0)
    conditions = simulator.conditions(70, 1)
    exposure = simulator.expose(field.camera, 0, 200.0, 10.0, conditions, other)
    claimed = field.camera.wcs(0, RA, DEC)
    result = chain.process_difference(exposure.raw, field.layout, field.calibration, template, claimed, 30.0)
    assert result.quality["ok"] == 0
    assert result.quality["registration_matches"] == 0


def test_template_needs_calibrated_epochs(field):
    exposure = field.expose(71, 1)
    result = chain.process_science(exposure.raw, field.layout, field.calibration, exposure.wcs, 30.0)
    with pytest.raises(PixelError, match="photometric"):
        coadd.build_template([result], exposure.wcs)
    with pytest.raises(PixelError, match="no epochs"):
        coadd.build_template([], exposure.wcs)


def test_three_stars_only_fail_by_figures(rng):
    image = Image(
        rng.normal(0, 10, (200, 200)).astype("f4"), np.full((200, 200), 100, "f4"), np.zeros((200, 200), "u2")
    )
    psf = gaussian_psf(4.0, 200, 200)
    done = subtract(image, psf, image, psf, np.array([50.0, 3.0]), np.array([50.0, 3.0]))
    assert done.quality["ok"] == 0
    assert (done.image.mask & Mask.NO_DATA.value).all()


def test_background_is_seps(rng):
    pixels = (rng.normal(800, 28, (512, 640)) + np.linspace(0, 60, 640)[None]).astype("f4")
    image = Image(pixels, np.full(pixels.shape, 800, "f4"), np.zeros(pixels.shape, "u2"))
    ours, theirs = estimate_background(image, 64), sep.Background(pixels, bw=64, bh=64)
    assert np.abs(ours.level - theirs.back()).mean() < 0.7
    assert abs(np.median(ours.rms) / theirs.globalrms - 1) < 0.03
    masked = Image(pixels, image.variance, np.full(pixels.shape, Mask.BAD.value, "u2"))
    assert estimate_background(masked).usable == 0


def test_all_masked_and_not_a_number_find_nothing(rng):
    pixels = rng.normal(size=(64, 64)).astype("f4")
    everything = Image(pixels, np.ones_like(pixels), np.full((64, 64), Mask.NO_DATA.value, "u2"))
    assert len(detect(everything, gaussian_psf(3.0, 64, 64))) == 0
    with pytest.raises(PixelError):
        detect(everything, gaussian_psf(3.0, 64, 64), threshold=float("nan"))
