"""The matched filter against a plain sum in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from workloads.pixels.convolution import matched_filter, products
from workloads.pixels.errors import InvalidValueError
from workloads.pixels.images import Image
from workloads.pixels.masks import Mask
from workloads.pixels.psf import Psf, gaussian_psf

SHAPE = (150, 1100)
"""More columns than are worked on at once."""


def _moffat(size: int, noise: float, rng: np.random.Generator) -> Psf:
    y, x = np.mgrid[-(size // 2) : size // 2 + 1, -(size // 2) : size // 2 + 1]
    stamp = (1 + ((x + 0.2 * y) ** 2 + y**2) / 9.0) ** -3.0 + rng.normal(0, noise, (size, size))
    return Psf((stamp / stamp.sum()).astype(np.float32)[None], *SHAPE[::-1])


def _image(rng: np.random.Generator) -> Image:
    pixels = rng.normal(0, 10, SHAPE).astype(np.float32)
    mask = np.zeros(SHAPE, np.uint16)
    mask[40:47, 1000:1030] = Mask.BAD.value
    pixels[42, 1010] = np.nan
    return Image(pixels, rng.uniform(50, 150, SHAPE).astype(np.float32), mask)


def _plain(values: np.ndarray, image: Image, stamp: np.ndarray) -> np.ndarray:
    usable = np.where(image.mask == 0, values, 0).astype(np.float64)
    return scipy.signal.correlate(usable, stamp.astype(np.float64), mode="same", method="fft")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_gaussian_is_one_product(rng, threads):
    image, psf = _image(rng), gaussian_psf(4.0, *SHAPE[::-1], size=15)
    assert len(products(psf.mean)[0]) == 1
    found = matched_filter(image, psf, threads=threads)
    expected = _plain(image.pixels, image, psf.mean)
    assert np.abs(found.signal - expected).max() < 1e-5 * np.abs(expected).max()
    noise2 = _plain(image.variance, image, psf.mean**2)
    assert np.allclose(found.noise2, np.maximum(noise2, 0.05 * np.median(noise2)), rtol=1e-4)
    assert np.allclose(found.significance(threads), found.signal / np.sqrt(found.noise2), rtol=1e-6)


def test_what_is_left_out_of_a_psf_costs_no_signal(rng):
    psf, image = _moffat(31, 1e-4, rng), _image(rng)
    down, across = products(psf.mean)
    assert len(down) < 5
    assert np.linalg.norm(down.T @ across - psf.mean) <= 2e-2 * np.linalg.norm(psf.mean)
    found = matched_filter(image, psf)
    signal, noise2 = _plain(image.pixels, image, psf.mean), _plain(image.variance, image, psf.mean**2)
    assert (found.signal - signal).std() < 0.025 * signal.std()
    inside = np.s_[60:-20, 20:900]
    assert np.allclose(found.noise2[inside], noise2[inside], rtol=5e-3)


def test_a_star_keeps_its_flux_and_significance(rng):
    psf = _moffat(31, 1e-4, rng)
    image = Image(np.zeros(SHAPE, np.float32), np.full(SHAPE, 100, np.float32), np.zeros(SHAPE, np.uint16))
    image.pixels[60:91, 500:531] += 1000 * psf.mean
    found = matched_filter(image, psf)
    norm = float((psf.mean.astype(np.float64) ** 2).sum())
    assert found.signal[75, 515] == pytest.approx(1000 * norm, rel=1e-4)
    assert found.significance()[75, 515] == pytest.approx(1000 * np.sqrt(norm) / 10, rel=2.5e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_must_be_masked(rng, value):
    image = _image(rng)
    image.pixels[149, 1099] = value
    with pytest.raises(InvalidValueError, match="not finite"):
        matched_filter(image, gaussian_psf(4.0, *SHAPE[::-1]))


def test_a_variance_that_is_not_finite_counts_for_nothing(rng):
    image = _image(rng)
    image.variance[100, 500] = np.inf
    assert np.isfinite(matched_filter(image, gaussian_psf(4.0, *SHAPE[::-1])).noise2).all()
