"""World coordinates as astropy has them, and headers that nobody should trust."""

import contextlib

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.pixels.astrometry import register
from workloads.pixels.errors import WcsError
from workloads.pixels.wcs import Wcs

TPV = Wcs(
    (316.84, -65.97), (128.0, 130.0), ((-4e-7, 7.3e-5), (-7.3e-5, -4e-7)),
    (-2e-3, 1.0097, -3.8e-4, 0.0, -7.7e-3, 8e-4, -1.6e-3, 1.3e-3), (2.6e-4, 1.0062, -2.9e-4, 0.0, -1e-3, -2.5e-3, 5.8e-4),
)  # fmt: skip
TAN = Wcs((10.0, 85.0), (500.3, 400.7), ((-5.5e-5, 1e-6), (1e-6, 5.5e-5)))


def _astropy(wcs):
    header = fits.Header()
    for key, value in wcs.to_header().items():
        header[key] = value
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, 1000, 1000
    return WCS(header), header


@pytest.mark.parametrize("wcs", [TAN, TPV])
def test_astropy_agrees(wcs, rng):
    x, y = rng.uniform(-200, 1200, (2, 300))
    theirs, header = _astropy(wcs)
    ra, dec = wcs.pixel_to_sky(x, y)
    expected = theirs.all_pix2world(x, y, 0)
    assert np.abs((ra - expected[0]) * np.cos(np.radians(dec))).max() * 3600 < 1e-6
    assert np.abs(dec - expected[1]).max() * 3600 < 1e-6
    back = wcs.sky_to_pixel(ra, dec)
    assert max(np.abs(back[0] - x).max(), np.abs(back[1] - y).max()) < 1e-6
    assert Wcs.from_header(header) == wcs


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "CTYPE1",
                "CTYPE2",
                "CRVAL1",
                "CRVAL2",
                "CRPIX1",
                "CRPIX2",
                "CD1_1",
                "CD1_2",
                "CD2_1",
                "CD2_2",
                "CDELT1",
                "PV1_1",
                "PV2_39",
            ]
        ),
        st.one_of(st.none(), st.text(max_size=10), st.floats(), st.integers(), st.booleans()),
    )
)
def test_fuzzed_headers_give_a_typed_error_or_a_projection(changes):
    header = {key: value[0] for key, value in TPV.to_header().items()} | changes
    with contextlib.suppress(WcsError):
        assert np.isfinite(Wcs.from_header(header).crval).all()


def test_registration_finds_shift_and_rotation(rng):
    x, y = rng.uniform(0, 1000, (2, 120))
    angle, keep = 1e-4, rng.random(120) < 0.7
    u, v = x + 37.3 - angle * y, y - 21.8 + angle * x
    u, v = u[keep] + rng.normal(0, 0.02, keep.sum()), v[keep] + rng.normal(0, 0.02, keep.sum())
    extra = rng.uniform(0, 1000, (2, 40))
    found = register(x, y, np.concatenate([u, extra[0]]), np.concatenate([v, extra[1]]), 60.0)
    assert found.matches >= 0.9 * keep.sum()
    mapped = found.matrix @ np.stack([x[keep], y[keep], np.ones(keep.sum())])
    assert np.hypot(mapped[0] - u, mapped[1] - v).mean() < 0.05


def test_strangers_do_not_register(rng):
    x, y, u, v = rng.uniform(0, 1000, (4, 60))
    assert register(x, y, u, v, 60.0).matches == 0
    assert register(x[:2], y[:2], u, v).matches == 0
