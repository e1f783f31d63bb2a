"""World coordinates as astropy has them, and headers that nobody should trust."""

import contextlib
from dataclasses import replace

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
SIP = Wcs(
    (202.48, 47.17), (128.0, 128.0), ((2.87e-4, -4.55e-6), (-4.5e-6, -2.87e-4)),
    sip_a=(0.0, 0.0, 0.0, 2.2e-5, 2.0e-5, 1.1e-5, -1.4e-7, 2.1e-8, -9e-9, 1e-8),
    sip_b=(0.0, 0.0, 0.0, -8e-6, 1.7e-5, -1.2e-5, 3e-9, -6e-8, 1.6e-8, 5e-8),
)  # fmt: skip
TAN = Wcs((10.0, 85.0), (500.3, 400.7), ((-5.5e-5, 1e-6), (1e-6, 5.5e-5)))
NO_CD = dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2"))


def _astropy(wcs):
    header = fits.Header()
    for key, value in wcs.to_header().items():
        header[key] = value
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, 1000, 1000
    return WCS(header), header


@pytest.mark.parametrize("wcs", [TAN, TPV, SIP])
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


def _small(limit):
    return st.floats(-limit, limit, allow_subnormal=False)


@st.composite
def projections(draw):
    """Any place, scale and rotation, with the distortion of a telescope: a few pixels over the frame."""
    scale, angle = draw(st.floats(2e-5, 4e-4)), draw(st.floats(0, 2 * np.pi))
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    place = draw(st.floats(0, 359.9)), draw(st.floats(-90, 90))
    plain = Wcs(place, (draw(st.floats(0, 1000)), draw(st.floats(0, 1000))), ((-c, s), (s, c)))
    kind = draw(st.sampled_from(["TAN", "TPV", "SIP"]))
    if kind == "SIP":
        terms = [
            (0.0, 0.0, 0.0, *(draw(_small(5e-6)) for _ in range(3)), *(draw(_small(5e-9)) for _ in range(4)))
            for _ in "ab"
        ]
        return replace(plain, sip_a=terms[0], sip_b=terms[1])
    if kind == "TPV":
        terms = [(draw(_small(1e-3)), 1.0, *(draw(_small(1e-3)) for _ in range(38))) for _ in "12"]
        return replace(plain, pv1=terms[0], pv2=terms[1])
    return plain


@settings(max_examples=60, deadline=None)
@given(projections())
def test_any_projection_is_astropys_and_comes_back(wcs):
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(-100, 1100, 7), np.linspace(-100, 1100, 7)))
    theirs, header = _astropy(wcs)
    ra, dec = wcs.pixel_to_sky(x, y)
    there_ra, there_dec = theirs.all_pix2world(x, y, 0)
    apart = (ra - there_ra + 180) % 360 - 180
    assert np.abs(apart * np.cos(np.radians(dec))).max() < 1e-8
    assert np.abs(dec - there_dec).max() < 1e-8
    back = wcs.sky_to_pixel(ra, dec)
    assert max(np.abs(back[0] - x).max(), np.abs(back[1] - y).max()) < 1e-5
    again = Wcs.from_header(header)
    assert again == replace(wcs, crpix=again.crpix)
    assert np.abs(np.subtract(again.crpix, wcs.crpix)).max() < 1e-12


def test_the_inverse_in_the_header_serves_others(rng):
    """Tools that do not iterate use AP and BP; over the frame they miss by less than a hundredth of a pixel."""
    wcs = SIP.with_inverse((256, 256))
    theirs, header = _astropy(wcs)
    x, y = rng.uniform(0, 255, (2, 200)) - 128.0
    u, v = (
        x + np.polynomial.polynomial.polyval2d(x, y, theirs.sip.a),
        y + np.polynomial.polynomial.polyval2d(x, y, theirs.sip.b),
    )
    back = [
        part + np.polynomial.polynomial.polyval2d(u, v, terms)
        for part, terms in ((u, theirs.sip.ap), (v, theirs.sip.bp))
    ]
    assert np.hypot(u - x, v - y).max() > 0.3
    assert np.hypot(back[0] - x, back[1] - y).max() < 0.01
    assert Wcs.from_header(header) == wcs
    assert TAN.with_inverse((256, 256)) == TAN


@pytest.mark.parametrize("wcs", [TAN, TPV, SIP])
def test_another_grid_sees_the_same_sky(wcs, rng):
    matrix = np.array([[1.001, -2e-3, 3.7], [1.5e-3, 0.998, -8.1]])
    x, y = rng.uniform(0, 300, (2, 100))
    u, v = matrix @ np.stack([x, y, np.ones_like(x)])
    expected, found = wcs.pixel_to_sky(u, v), wcs.mapped(matrix).pixel_to_sky(x, y)
    assert max(np.abs(e - f).max() for e, f in zip(expected, found, strict=True)) < 1e-9


def test_what_has_no_pixel_is_not_a_number():
    x, y = SIP.sky_to_pixel([202.48 + 180, 202.48], [-47.17, 47.17])
    assert np.isnan(x[0])
    assert abs(x[1] - 128) < 1e-6
    # Far from the frame the polynomials fold back, or lead anywhere; what is returned is true or no number.
    ra, dec = np.array([202.48 + 30.0]), np.array([47.17])
    x, y = SIP.sky_to_pixel(ra, dec)
    again = SIP.pixel_to_sky(x, y)
    assert np.isnan(x[0]) or abs(again[0][0] - ra[0]) < 1e-6


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"CTYPE1": None}, "CTYPE1"),
        ({"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN"}, "CTYPE1"),
        ({"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN"}, "CTYPE1"),
        ({"CRVAL1": None}, "CRVAL1"),
        ({"CRVAL2": 91.0}, "declination"),
        ({"CRPIX2": "128"}, "CRPIX2"),
        ({"CRPIX1": float("nan")}, "CRPIX1"),
        ({"CD1_1": 0.0, "CD1_2": 0.0}, "matrix"),
        ({"CD1_1": None, "CD1_2": None, "CD2_1": None, "CD2_2": None}, "CDELT1"),
        ({**NO_CD, "PC001001": "-1", "CDELT1": 7e-5, "CDELT2": 7e-5}, "PC1_1"),
        ({**NO_CD, "CD001002": float("nan")}, "CD1_2"),
        ({**NO_CD, "CDELT1": 7e-5, "CDELT2": 7e-5, "CROTA2": 30.0}, "CROTA"),
        ({"CUNIT1": "arcsec"}, "CUNIT1"),
        ({"LONPOLE": 90.0}, "LONPOLE"),
        ({"CRVAL2": 90.0}, "LONPOLE"),
        ({"RADESYS": "FK4"}, "RADESYS"),
        ({"PV1_5": 0.1}, "plain TAN projection with PV1_5"),
        ({"A_ORDER": 3}, "plain TAN projection with A_ORDER"),
        ({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_2_0": 1e-6}, "A_ORDER"),
        ({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 1, "B_ORDER": 1, "A_1_0": 1e-6}, "A_ORDER"),
        ({"RADESYS": None, "EQUINOX": 1950.0}, "EQUINOX"),
        ({"RADESYS": None, "RADECSYS": "FK4"}, "RADESYS"),
        ({"LONGPOLE": 90.0}, "LONPOLE"),
        ({"CPDIS1": "Lookup"}, "CPDIS1"),
        ({"D2IMDIS2": "LOOKUP"}, "D2IMDIS2"),
        ({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 12, "B_ORDER": 2}, "A_ORDER"),
        ({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2, "A_1_1": "x"}, "A_1_1"),
    ],
)
def test_wrong_or_missing_headers_are_typed_errors(changes, said):
    header = {key: value[0] for key, value in TAN.to_header().items()} | changes
    with pytest.raises(WcsError, match=said):
        Wcs.from_header({key: value for key, value in header.items() if value is not None})


def _header(**changes):
    header = {key: value[0] for key, value in TAN.to_header().items()} | changes
    return {key: value for key, value in header.items() if value is not None}


@pytest.mark.parametrize(
    "words",
    [
        {"PC001001": -1.0, "PC001002": 0.01, "PC002001": 0.02, "PC002002": 1.0, "CDELT1": 7e-5, "CDELT2": 7e-5},
        {"PC1_1": -1.0, "PC1_2": 0.01, "PC2_1": 0.02, "PC2_2": 1.0, "CDELT1": 7e-5, "CDELT2": 7e-5},
        {"PC1_1": -7e-5, "PC1_2": 7e-7, "PC2_1": 1.4e-6, "PC2_2": 7e-5},
        {"CD001001": -7e-5, "CD001002": 7e-7, "CD002001": 1.4e-6, "CD002002": 7e-5},
        {"PC001001": -7e-5, "PC001002": 7e-7, "PC002001": 1.4e-6, "PC002002": 7e-5},
        {"PC1_1": -7e-5, "PC1_2": 7e-7, "PC2_1": 1.4e-6, "PC2_2": 7e-5, "PC001001": 1.0, "PC002002": 1.0},
    ],
)
def test_a_matrix_is_read_by_its_former_names_too(words):
    wcs = Wcs.from_header(_header(**NO_CD, **words))
    assert np.allclose(wcs.cd, ((-7e-5, 7e-7), (1.4e-6, 7e-5)), rtol=1e-12)
    x, y = np.array([0.0, 900.0]), np.array([30.0, 800.0])
    modern = Wcs.from_header(_header(CD1_1=-7e-5, CD1_2=7e-7, CD2_1=1.4e-6, CD2_2=7e-5))
    assert np.allclose(wcs.pixel_to_sky(x, y), modern.pixel_to_sky(x, y), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "terms",
    [{}, {"A_ORDER": 0, "B_ORDER": 0}, {"A_ORDER": 1, "B_ORDER": 1}, {"A_ORDER": 1, "B_ORDER": 1, "A_1_0": 0.0}],
)
def test_sip_without_a_coefficient_is_plain(terms):
    assert Wcs.from_header(_header(CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP", **terms)) == TAN


def test_what_scamp_wrote_before_there_was_tpv_is_tpv_for_a_reader_that_is_told_so():
    scamp = {key: value[0] for key, value in TPV.to_header().items()} | {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}
    assert Wcs.from_header(scamp, scamp=True) == TPV
    with pytest.raises(WcsError, match=r"plain TAN projection with PV1_0; expected .* TPV is what SCAMP means"):
        Wcs.from_header(scamp)
    assert Wcs.from_header(_header(), scamp=True) == TAN
    assert Wcs.from_header(_header(PV1_0=0.0, PV1_1=1.0, PV2_1=1.0, PV2_2=0.0)) == TAN, "no distortion is none"
    # What SCAMP's distortion became in another program stands in SIP; PVi_k are left over there.
    both = {key: value[0] for key, value in SIP.to_header().items()} | {"PV1_1": 1.01}
    assert Wcs.from_header(both) == SIP


def test_incomplete_polynomials_are_typed_errors():
    for terms in ({"sip_a": (0.0,) * 6}, {"sip_a": (0.0,) * 5, "sip_b": (0.0,) * 5}, {"pv1": (0.0,) * 41}):
        with pytest.raises(WcsError):
            replace(TAN, **terms)
    with pytest.raises(WcsError, match="one convention"):
        replace(TPV, sip_a=SIP.sip_a, sip_b=SIP.sip_b)


def test_at_the_pole_itself_astropy_agrees(rng):
    wcs = replace(TAN, crval=(10.0, 90.0))
    theirs, header = _astropy(wcs)
    x, y = rng.uniform(0, 1000, (2, 50))
    ra, dec = wcs.pixel_to_sky(x, y)
    expected = theirs.all_pix2world(x, y, 0)
    assert np.abs(((ra - expected[0] + 180) % 360 - 180) * np.cos(np.radians(dec))).max() < 1e-8
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
                "A_ORDER",
                "LONPOLE",
                "CUNIT1",
                "RADESYS",
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
