"""The sparse method must flag what the dense one flags, and find the hits that were made."""

import astroscrappy
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.pixels import isr
from workloads.pixels.cosmic_rays import CosmicRayConfig, find_cosmic_rays, protect
from workloads.pixels.errors import PixelError


def _reference(pixels, variance, bad, config):
    return astroscrappy.detect_cosmics(
        pixels, inmask=bad, invar=variance, gain=1.0, satlevel=95_000.0, sigclip=config.sigclip, sigfrac=config.sigfrac,
        objlim=config.objlim, niter=config.niter,
    )  # fmt: skip


@pytest.mark.parametrize("visit", [1, 2])
@pytest.mark.parametrize("config", [CosmicRayConfig(), CosmicRayConfig(sigclip=6.0, objlim=2.0)])
def test_masks_agree_with_astroscrappy(field, visit, config):
    exposure = field.expose(3, visit)
    image = isr.remove_signature(exposure.raw, field.layout, field.calibration, 30.0)
    bad = image.mask & 3 != 0
    theirs, clean = _reference(image.pixels, image.variance, bad, config)
    found = find_cosmic_rays(image.pixels, image.variance, protect(image.pixels, bad, 95_000.0), config)
    assert (theirs & found.mask).sum() >= 0.99 * (theirs | found.mask).sum()
    assert np.abs(clean - found.cleaned)[theirs == found.mask].max() < 1.0
    hits, count = scipy.ndimage.label(exposure.cosmic_rays, np.ones((3, 3)))
    assert count, "an exposure without a cosmic ray proves nothing"
    half = [np.mean(mask[hits == i + 1]) >= 0.5 for i in range(count) for mask in (theirs, found.mask)]
    assert all(ours or not peer for peer, ours in zip(half[::2], half[1::2], strict=True))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(7, 60), st.integers(7, 60))
def test_any_noise_agrees(seed, rows, columns):
    rng = np.random.default_rng(seed)
    pixels = rng.normal(500, 25, (rows, columns)).astype("f4")
    pixels[rng.integers(0, rows, 6), rng.integers(0, columns, 6)] += rng.uniform(100, 5000, 6)
    variance = np.maximum(pixels, 1) + 36
    theirs, _ = _reference(pixels, variance.astype("f4"), np.zeros(pixels.shape, bool), CosmicRayConfig())
    found = find_cosmic_rays(pixels, variance.astype("f4"))
    assert (theirs & found.mask).sum() >= 0.99 * (theirs | found.mask).sum()


def test_wrong_input_is_named(rng):
    pixels = rng.normal(size=(20, 20)).astype("f4")
    with pytest.raises(PixelError, match="variance"):
        find_cosmic_rays(pixels, pixels[:10])
    with pytest.raises(PixelError):
        CosmicRayConfig(sigclip=-1)


def test_all_masked_finds_nothing(rng):
    pixels = rng.normal(size=(30, 30)).astype("f4")
    assert not find_cosmic_rays(pixels, np.ones_like(pixels), np.ones(pixels.shape, bool)).mask.any()
