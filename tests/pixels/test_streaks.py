"""Satellites leave trails that are told from stars and galaxies."""

import numpy as np
import pytest

from workloads.pixels.convolution import matched_filter
from workloads.pixels.detection import Flag, detect
from workloads.pixels.images import Image
from workloads.pixels.kernels.rendering import add_streak
from workloads.pixels.masks import Mask
from workloads.pixels.psf import gaussian_psf
from workloads.pixels.streaks import find_streaks, mark_streaks

SIZE = 512
PSF = gaussian_psf(4.0, SIZE, SIZE, size=31)


def _noise(rng, level=30.0):
    pixels = rng.normal(0, level, (SIZE, SIZE)).astype("f4")
    return Image(pixels, np.full_like(pixels, level**2), np.zeros(pixels.shape, "u2"))


def _trail(image, angle, brightness, place=(250.0, 240.0)):
    light = np.zeros(image.shape, np.float32)
    add_streak(light, *place, angle, 2.0, brightness)
    image.pixels[...] += light
    return light


@pytest.mark.parametrize("brightness", [100.0, 400.0, 3000.0])
@pytest.mark.parametrize("angle", [0.0, 0.3, 1.2, np.pi / 2, 2.4])
def test_a_satellite_is_marked_where_it_went(rng, angle, brightness):
    image = _noise(rng)
    light = _trail(image, angle, brightness)
    assert mark_streaks(matched_filter(image, PSF).significance(), image.mask, PSF.fwhm) == 1
    marked = image.mask & Mask.STREAK.value != 0
    assert marked[light > 0.3 * brightness].mean() > 0.98
    assert marked.mean() < 0.12
    found = detect(image, PSF, 5.0)
    on = light[np.rint(found["y"]).astype(int), np.rint(found["x"]).astype(int)] > 0.3 * brightness
    assert (found["flags"][on] & Flag.TRAIL.value > 0).mean() > 0.95


def test_a_trail_that_ends_on_the_frame_is_marked_to_its_ends(rng):
    image = _noise(rng)
    light = np.zeros(image.shape, np.float32)
    add_streak(light, 250.0, 250.0, 0.5, 2.0, 500.0)
    light[:, :150] = light[:, 350:] = 0
    image.pixels[...] += light
    (streak,) = find_streaks(matched_filter(image, PSF).significance(), image.mask)
    assert abs(streak.length - 200 / np.cos(0.5)) < 16
    assert abs(streak.along[1] / streak.along[0] - np.tan(0.5)) < 0.01
    assert not streak.covers(image.shape, 4.0)[:, :130].any()


def test_two_trails_that_do_not_cross_are_two(rng):
    image = _noise(rng)
    _trail(image, 0.2, 300.0, (250.0, 150.0))
    _trail(image, 0.2, 300.0, (250.0, 350.0))
    assert len(find_streaks(matched_filter(image, PSF).significance(), image.mask)) == 2


def test_stars_and_galaxies_are_no_trails(field):
    for visit in range(3):
        result = field.science(field.expose(90, visit, seeing_px=3.5 + visit))
        significance = matched_filter(result.image, result.psf).significance()
        assert find_streaks(significance, result.image.mask) == []


def test_a_satellite_among_stars_is_found(field):
    result = field.science(field.expose(91, 1, seeing_px=4.0))
    image = result.image
    light = np.zeros(image.shape, np.float32)
    add_streak(light, 300.0, 400.0, 0.7, 2.0, 400.0)
    image.pixels[...] += light
    mark_streaks(matched_filter(image, result.psf).significance(), image.mask, result.psf.fwhm)
    marked = image.mask & Mask.STREAK.value != 0
    assert marked[light > 120].mean() > 0.9
    assert marked[light < 1].mean() < 0.03


def test_noise_and_masked_images_have_none(rng):
    image = _noise(rng)
    assert find_streaks(matched_filter(image, PSF).significance(), image.mask) == []
    everything = np.full(image.shape, Mask.NO_DATA.value, "u2")
    assert find_streaks(np.full(image.shape, 100.0, "f4"), everything) == []
    # A frame that is bright everywhere is no trail either.
    assert find_streaks(np.full(image.shape, 100.0, "f4"), image.mask) == []
