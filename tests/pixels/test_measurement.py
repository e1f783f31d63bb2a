"""Positions and fluxes beside sep's and the truth; input that nobody should measure."""

import numpy as np
import pytest
import scipy.spatial
import sep

from workloads.pixels import chain, simulator
from workloads.pixels.calibration import build_calibration
from workloads.pixels.detection import Flag, detect
from workloads.pixels.errors import InvalidValueError, ShapeError, TypeMismatchError
from workloads.pixels.images import Image
from workloads.pixels.kernels.measuring import aperture_fluxes
from workloads.pixels.kernels.rendering import add_moffats
from workloads.pixels.masks import UNUSABLE, Mask
from workloads.pixels.psf import Psf, choose_stars, gaussian_psf

from .conftest import DEC, RA

RADIUS = 6.0


@pytest.fixture(scope="module")
def images(field):
    """Exposures of the field with the truth of its stars, from good to bad seeing."""
    done = []
    for visit, seeing in enumerate((3.3, 3.7, 4.1, 4.5, 4.8)):
        exposure = field.expose(80, visit, seeing_px=seeing)
        done.append((exposure, field.science(exposure)))
    return done


def _seps(result):
    """Return sources that sep finds and trusts, with windowed positions and aperture fluxes."""
    image = result.filled
    bad = image.mask & (Mask.BAD | Mask.SAT | Mask.CR).value != 0
    noise = np.sqrt(image.variance)
    found = sep.extract(image.pixels, 2.0, err=noise, mask=bad, filter_kernel=result.psf.mean, minarea=9)
    sigma = np.full(len(found), result.psf.fwhm / 2.3548)
    x, y, wandered = sep.winpos(image.pixels, found["x"], found["y"], sigma, mask=bad)
    flux, error, flag = sep.sum_circle(image.pixels, x, y, RADIUS, err=noise, mask=bad, subpix=5)
    rows, columns = image.shape
    inside = (x > 20) & (x < columns - 20) & (y > 20) & (y < rows - 20)
    clean = (flux > 25 * error) & (found["flag"] == 0) & (wandered == 0) & (flag == 0) & inside
    return x[clean], y[clean], flux[clean], error[clean]


def _clear(field, exposure, x, y):
    """Whether one true source stands alone: where two overlap, how many there are is a matter of opinion.

    A galaxy far larger than the PSF has no centre either: the window, as wide as the PSF, sees noise on a plateau.
    """
    sky = field.sky
    true = np.column_stack(exposure.true_wcs.sky_to_pixel(sky["ra"], sky["dec"]))
    around = [
        sorted(near, key=lambda i: sky["flux_njy"][i])
        for near in scipy.spatial.cKDTree(true).query_ball_point(np.column_stack([x, y]), 10.0)
    ]
    return np.array(
        [
            len(near) > 0
            and sky["flux_njy"][near[:-1]].sum() < 0.05 * sky["flux_njy"][near[-1]]
            and sky["half_light_px"][near[-1]] < 8
            for near in around
        ]
    )


def test_sources_and_fluxes_are_seps(images, field):
    near, off = [], []
    for exposure, result in images:
        x, y, flux, error = _seps(result)
        clear = _clear(field, exposure, x, y)
        x, y, flux, error = (column[clear] for column in (x, y, flux, error))
        image = result.filled
        found = detect(image, result.psf, 5.0)
        distance, index = scipy.spatial.cKDTree(np.column_stack([found["x"], found["y"]])).query(
            np.column_stack([x, y])
        )
        near.append(distance)
        here = [np.ascontiguousarray(found[name][index]) for name in ("x", "y")]
        ours, noise, planes = np.empty(len(x)), np.empty(len(x)), np.empty(len(x), np.int64)
        unusable = np.uint16(UNUSABLE.value)
        aperture_fluxes(image.pixels, image.variance, image.mask, unusable, RADIUS, *here, ours, noise, planes)
        same = (distance < 0.3) & (planes & UNUSABLE.value == 0)
        off.append(np.abs(ours - flux)[same] / error[same])
    near, off = np.concatenate(near), np.concatenate(off)
    print(len(near), (near < 0.3).mean(), np.quantile(off, [0.5, 0.995]))
    assert len(near) >= 200
    assert (near < 0.3).mean() >= 0.995
    assert (off < 0.2).mean() >= 0.995


def test_bright_stars_are_where_they_are(images, field):
    """Residual of the solved coordinates against the true places of isolated stars, per axis."""
    residuals = []
    for exposure, result in images:
        stars = choose_stars(result.stars)
        stars = stars[stars["snr"] > 100]
        ra, dec = result.wcs.pixel_to_sky(stars["x"], stars["y"])
        x, y = exposure.true_wcs.sky_to_pixel(ra, dec)
        true = np.column_stack(exposure.true_wcs.sky_to_pixel(field.reference["ra"], field.reference["dec"]))
        distance, index = scipy.spatial.cKDTree(true).query(np.column_stack([x, y]))
        paired = (distance < 1) & _clear(field, exposure, x, y)
        residuals.append(np.column_stack([x, y])[paired] - true[index[paired]])
    left = np.concatenate(residuals)
    rms = np.sqrt((left**2).mean(axis=0))
    print(len(left), rms, 1.4826 * np.median(np.abs(left), axis=0))
    assert len(left) >= 150
    assert rms.max() <= 0.05


@pytest.mark.parametrize(("fwhm", "snr"), [(4.0, 9.0), (5.5, 9.0), (4.0, 30.0)])
def test_faint_positions_scatter_no_more_than_they_must(rng, fwhm, snr):
    """The least possible is Cramer and Rao's bound; one axis of nearly 400 lone sources in white noise."""
    stamp, one, sigma = np.zeros((31, 31), np.float32), np.ones(1), np.float32(30.0)
    add_moffats(stamp, 15 * one, 15 * one, one, fwhm * one, 0 * one, 0 * one, 3.2, 1e-8)
    stamp /= stamp.sum()
    bound = np.sqrt((stamp**2).sum() / (np.gradient(stamp, axis=1) ** 2).sum()) / snr
    x, y = (axis.ravel() + rng.uniform(29.5, 30.5, axis.size) for axis in np.mgrid[:740:41, :740:41].astype(float))
    pixels = rng.normal(0, sigma, (800, 800)).astype(np.float32)
    each = np.ones(len(x))
    flux = snr * float(sigma) / np.sqrt((stamp**2).sum())
    add_moffats(pixels, x, y, flux * each, fwhm * each, 0 * each, 0 * each, 3.2, 1e-3)
    image = Image(pixels, np.full(pixels.shape, sigma**2), np.zeros(pixels.shape, np.uint16))
    found = detect(image, Psf(stamp[None], 800, 800), 5.0)
    gap, nearest = scipy.spatial.cKDTree(np.column_stack([found["x"], found["y"]])).query(np.column_stack([x, y]))
    assert (gap < 3).mean() > 0.99
    assert np.std((found["x"][nearest] - x)[gap < 3]) < 1.15 * bound


def test_wrong_arrays_are_typed_errors(rng):
    pixels, ones, mask = rng.normal(size=(64, 64)).astype("f4"), np.ones((64, 64), "f4"), np.zeros((64, 64), "u2")
    with pytest.raises(TypeMismatchError, match="float64"):
        Image(pixels.astype(float), ones, mask)
    with pytest.raises(TypeMismatchError, match="int64"):
        Image(pixels, ones, mask.astype(int))
    with pytest.raises(TypeMismatchError, match="strided"):
        Image(pixels[:, ::2], ones[:, ::2].copy(), mask[:, ::2].copy())
    with pytest.raises(ShapeError):
        Image(pixels, ones[:32], mask)
    with pytest.raises(ShapeError):
        Image(*(np.zeros((0, 0), kind) for kind in ("f4", "f4", "u2")))
    with pytest.raises(TypeMismatchError, match="list"):
        Image(pixels.tolist(), ones, mask)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_a_number_must_be_masked(rng, value):
    pixels = rng.normal(0, 10, (128, 128)).astype("f4")
    stamp = gaussian_psf(4.0, 128, 128, size=31)
    pixels[45:76, 45:76] += 5000 * stamp.mean
    pixels[100, 20] = value
    image = Image(pixels, np.full_like(pixels, 100), np.zeros(pixels.shape, "u2"))
    with pytest.raises(InvalidValueError, match="not finite"):
        detect(image, stamp)
    image.mask[100, 20] = Mask.NO_DATA.value
    (found,) = detect(image, stamp)
    assert np.hypot(found["x"] - 60, found["y"] - 60) < 0.2


def test_an_empty_sky_has_no_sources():
    image = Image(np.zeros((96, 96), "f4"), np.ones((96, 96), "f4"), np.zeros((96, 96), "u2"))
    assert len(detect(image, gaussian_psf(4.0, 96, 96))) == 0


def test_an_amplifier_that_is_masked_has_no_sources_and_harms_no_other(field, images):
    dead = field.layout.section(2)
    frames = [
        [make(field.camera, 0, seed) for seed in range(3)]
        for make in (simulator.bias_frame, simulator.dark_frame, simulator.flat_frame)
    ]
    for flat in frames[2]:
        flat[2] = 1000
    calibration = build_calibration(
        *frames, field.layout, 300.0, linearity=field.truth.linearity, crosstalk=field.truth.crosstalk
    )
    exposure, whole = images[1]
    result = chain.process_science(
        exposure.raw, field.layout, calibration, exposure.wcs, 30.0, reference=field.reference
    )
    assert (result.image.mask[dead] & Mask.BAD.value > 0).all()
    clean = result.stars[result.stars["flags"] & Flag.REJECT.value == 0]
    inside = (
        (clean["y"] > dead[0].start + 5)
        & (clean["y"] < dead[0].stop - 5)
        & (clean["x"] > dead[1].start + 5)
        & (clean["x"] < dead[1].stop - 5)
    )
    assert not inside.any()
    # A flat is 1 in the middle of what works, and this one rests on three exposures.
    assert abs(result.nanojansky_per_electron / whole.nanojansky_per_electron - 1) < 0.02
    assert result.quality["background_cells"] < 1


def test_saturated_everywhere_is_told_by_mask_and_figures(field):
    raw = np.full(field.layout.raw_shape, 65535, np.uint16)
    overscan = raw[:, :, field.layout.prescan + field.layout.amp_width :]
    overscan[:] = np.random.default_rng(7).normal(1000, 4, overscan.shape)  # its electronics read it out
    result = chain.process_science(
        raw, field.layout, field.calibration, field.camera.wcs(0, RA, DEC), 30.0, reference=field.reference
    )
    assert (result.image.mask & Mask.SAT.value > 0).mean() > 0.99
    assert np.isnan(result.nanojansky_per_electron)
    assert result.quality["background_cells"] == 0
    assert (result.stars["flags"] & Flag.REJECT.value != 0).all()


def test_three_stars_only_are_told_by_figures(field):
    three = field.reference[np.argsort(-field.reference["flux_njy"])][[20, 21, 22]]
    exposure = simulator.expose(
        field.camera, 0, RA, DEC, simulator.conditions(81, 1), three, satellite=False, cosmic_rays=0.0
    )
    result = field.science(exposure)
    assert result.quality["astrometry_matches"] <= 3
    assert result.quality["psf_stars"] <= 3
    if not np.isfinite(result.nanojansky_per_electron):
        assert result.quality["astrometry_matches"] < 3
