"""Files must be what other readers expect, come back bit for bit, and never be half there."""

import hashlib
import shutil
import subprocess
import warnings

import fitsio
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from workloads.pixels import fits_io
from workloads.pixels.errors import CorruptFileError, HeaderError, InvalidValueError, TypeMismatchError
from workloads.pixels.fits_cards import card
from workloads.pixels.images import Image

KINDS = ["int16", "uint16", "int32"]


def _sky(rng, kind, shape=(97, 133)):
    image = rng.normal(1500, 40, shape)
    image[40:50, 60:70] += 20000
    return image.astype(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_other_readers_see_the_same_pixels(tmp_path, kind):
    rng = np.random.default_rng(1)
    image = _sky(rng, kind)
    path = tmp_path / "raw.fits"
    digest = fits_io.write(
        path,
        {"OBSID": ("MC_O_1", "exposure")},
        [fits_io.Extension("C00", image, {"GAIN": (1.6, "[electron/adu] gain")})],
    )
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(path, checksum=True) as hdus:
            assert (hdus["C00"].data == image).all()
            assert hdus["C00"].header["GAIN"] == 1.6
            assert hdus[0].header["OBSID"] == "MC_O_1"
    assert (fitsio.read(path, ext="C00") == image).all()
    assert (fits_io.read(path)[1].data == image).all()


@pytest.mark.parametrize("kind", KINDS)
def test_size_is_the_reference_compressors(tmp_path, kind):
    image = _sky(np.random.default_rng(2), kind, (200, 512))
    fits_io.write(tmp_path / "ours.fits", {}, [fits_io.Extension("A", image)])
    with fitsio.FITS(tmp_path / "theirs.fits", "rw", clobber=True) as out:
        out.write(image, compress="RICE", tile_dims=[1, 512])
    ours, theirs = (fitsio.read_header(tmp_path / f"{n}.fits", ext=1) for n in ("ours", "theirs"))
    with (
        fits.open(tmp_path / "ours.fits", disable_image_compression=True) as a,
        fits.open(tmp_path / "theirs.fits", disable_image_compression=True) as b,
    ):
        assert a[1].header["PCOUNT"] == b[1].header["PCOUNT"]
    assert ours["NAXIS1"] == theirs["NAXIS1"]


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.int16, np.uint16, np.int32]),
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=70),
    )
)
def test_any_integers_come_back(image):
    hdus = fits_io.decode(bytes(fits_io.encode({}, [fits_io.Extension("A", image)])))
    assert hdus[1].data.dtype == image.dtype
    assert (hdus[1].data == image).all()


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300),
        st.integers(-(2**62), 2**62),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
        st.none(),
    )
)
def test_any_value_comes_back(value):
    data = bytes(fits_io.encode({"KEY": (value, "a comment")}, []))
    got = fits_io.decode(data)[0].cards["KEY"]
    assert got == (value.rstrip() if isinstance(value, str) else value)
    theirs = fits.Header([("KEY", value, "a comment")]).tostring()
    if (
        fits.Header.fromstring(theirs)["KEY"] == got
    ):  # astropy loses what follows a quote and a slash, in its own cards as well
        assert fits.Header.fromstring(data.decode("ascii"))["KEY"] == got


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("lower", 1),
        ("too long key", 1),
        ("A", float("nan")),
        ("A", "ä"),
        ("A", object()),
        ("A=B", 1),
        ("END", 1),
        ("A", 10**90),
    ],
)
def test_wrong_cards_are_refused(keyword, value):
    with pytest.raises(HeaderError):
        card(keyword, value)


def test_wrong_arrays_are_refused():
    with pytest.raises(TypeMismatchError, match="float64"):
        fits_io.encode({}, [fits_io.Extension("A", np.zeros((3, 3)))])


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_damage_is_found(data):
    whole = bytes(
        fits_io.encode({"OBSID": "x"}, [fits_io.Extension("A", np.arange(600, dtype=np.int32).reshape(20, 30))])
    )
    at = data.draw(st.integers(0, len(whole) - 1))
    broken = bytearray(whole)
    broken[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptFileError):
        fits_io.decode(bytes(broken), sealed=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12000))
def test_truncation_is_found(size):
    whole = bytes(fits_io.encode({}, [fits_io.Extension("A", np.arange(600, dtype=np.int32).reshape(20, 30))]))
    if size < len(whole) and size != 2880:
        with pytest.raises(CorruptFileError):
            fits_io.decode(whole[:size])


@settings(max_examples=80, deadline=None)
@given(st.binary(min_size=0, max_size=5760))
def test_noise_is_no_file(noise):
    with pytest.raises(CorruptFileError):
        fits_io.decode(noise + b"\0" * (-len(noise) % 2880) if noise else noise)


# -- files of others ---------------------------------------------------------------------------------------------------


def _file(*cards, data=b""):
    """Bytes of a file with these cards behind the mandatory ones."""
    shape = (
        (["NAXIS   =                    1", f"NAXIS1  = {len(data):20}"])
        if data
        else ["NAXIS   =                    0"]
    )
    lines = ["SIMPLE  =                    T", "BITPIX  =                    8", *shape, *cards, "END"]
    header = b"".join((line if isinstance(line, bytes) else line.encode("latin-1")).ljust(80) for line in lines)
    return header + b" " * (-len(header) % 2880) + data + bytes(-len(data) % 2880)


@pytest.mark.parametrize(
    "card",
    [
        "COMMENT temperature 12 \xb0C",
        "HISTORY r\xe9duit \xe0 l'observatoire",
        "        bl\xe4nk",
        "EXPTIME =                 10.0 / dur\xe9e",
        "A CARD WITHOUT A VALUE",
    ],
)
def test_a_bad_comment_costs_the_comment(card):
    (hdu,) = fits_io.decode(_file(card, "FILTER  = 'r       '"))
    assert hdu.cards["FILTER"] == "r"
    assert hdu.bad == ()
    assert hdu.cards.get("EXPTIME", 10.0) == 10.0


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ("EXPTIME =10.0", "no equals sign and blank in columns 9 and 10"),
        ("EXPTIME=10.0", "no equals sign and blank"),
        ("EXPTIME = nan", "'nan'"),
        ("SKYLEVEL= NaN / sky", "'NaN'"),
        ("GAIN    = Infinity", "'Infinity'"),
        ("GAIN    = 1_000", "'1_000'"),
        ("GAIN    = 1.2.3", "'1.2.3'"),
        ("OBJECT  = 'M 31", "a text without an end"),
        ("OBJECT  = 'caf\xe9'", "a text that is no ASCII"),
        ("OBJ\xc9T  = 'M 31'", "a keyword that is no ASCII"),
    ],
)
def test_a_bad_card_is_named_and_costs_itself(card, said, caplog):
    (hdu,) = fits_io.decode(_file(card, "FILTER  = 'r       '"), "a file")
    assert hdu.cards["FILTER"] == "r"
    assert not {"EXPTIME", "SKYLEVEL", "GAIN", "OBJECT"} & set(hdu.cards)
    assert len(hdu.bad) == 1
    assert said in hdu.bad[0]
    assert "a file, HDU 0: 1 cards not understood" in caplog.text


def test_a_bad_card_that_the_reader_needs_is_in_its_error():
    broken = _file(data=b"x" * 10).replace(b"NAXIS1  =  ", b"NAXIS1  =10")
    with pytest.raises(CorruptFileError, match=r"NAXIS1.*no equals sign and blank"):
        fits_io.decode(broken)


@pytest.mark.parametrize(
    ("bits", "kind", "compressed"),
    [(16, np.int16, False), (32, np.int32, False), (8, np.uint8, False), (16, np.int16, True), (32, np.int32, True)],
)
def test_undefined_integers_are_not_a_number_as_other_readers_have_it(tmp_path, bits, kind, compressed):
    image = np.arange(200, dtype=kind).reshape(10, 20)
    blank = 7 if bits == 8 else -32768
    image[3, 4] = blank
    hdu = (
        fits.CompImageHDU(image, compression_type="RICE_1", tile_shape=(1, 20)) if compressed else fits.ImageHDU(image)
    )
    hdu.header["BLANK"] = blank
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "a.fits", checksum=True)
    found = fits_io.read(tmp_path / "a.fits")[1].data
    assert found.dtype.kind == "f"
    assert np.isnan(found[3, 4])
    expected = np.where(image == blank, np.nan, image.astype(float))
    assert np.array_equal(found, expected, equal_nan=True)


def test_scaled_integers_are_undefined_by_what_is_stored():
    hdu = fits.ImageHDU(np.array([[1, 2], [-1, 3]], np.int16))
    hdu.header["BLANK"], hdu.header["BSCALE"], hdu.header["BZERO"] = -1, 0.5, 100.0
    data = hdu.header.tostring().encode()
    body = np.array([[1, 2], [-1, 3]], ">i2").tobytes()
    whole = _file() + data + body + bytes(-len(body) % 2880)
    found = fits_io.decode(whole)[1].data
    assert np.array_equal(found, [[100.5, 101.0], [np.nan, 101.5]], equal_nan=True)


def test_what_lies_behind_random_groups_is_found(tmp_path):
    groups = fits.GroupData(np.zeros((5, 1, 2), np.float32), bitpix=-32, parnames=["a", "b"], pardata=[np.zeros(5)] * 2)
    behind = fits.ImageHDU(np.arange(12, dtype=np.int16).reshape(3, 4))
    fits.HDUList([fits.GroupsHDU(groups), behind]).writeto(tmp_path / "a.fits")
    assert (fits_io.read(tmp_path / "a.fits")[1].data == behind.data).all()


def _with_sums(datasum, checksum=None):
    cards = [f"DATASUM = {datasum}"] if datasum is not None else []
    return _file(*cards, *([f"CHECKSUM= {checksum}"] if checksum is not None else []), data=b"\0\0\1\0" * 10)


@pytest.mark.parametrize(
    ("datasum", "checksum"),
    [
        ("'2560'", None),
        ("'0000002560'", None),
        ("2560", None),
        ("''", None),
        ("'    '", "''"),
        (None, "'  '"),
        (None, None),
    ],
)
def test_checksums_are_verified_as_far_as_they_are_stated(datasum, checksum):
    assert len(fits_io.decode(_with_sums(datasum, checksum))) == 1
    with pytest.raises(CorruptFileError, match=r"no .*CHECKSUM"):
        fits_io.decode(_with_sums(datasum, checksum), sealed=True)


@pytest.mark.parametrize(
    ("datasum", "checksum"),
    [("'2561'", None), ("'many'", None), ("''", "'0123456789abcdef'"), ("'-2560'", None), ("T", None)],
)
def test_a_stated_sum_that_does_not_agree_is_damage(datasum, checksum):
    with pytest.raises(CorruptFileError, match="SUM"):
        fits_io.decode(_with_sums(datasum, checksum))


def test_image_round_trip(tmp_path):
    rng = np.random.default_rng(3)
    image = Image(
        rng.normal(size=(40, 50)).astype("f4"),
        rng.random((40, 50), np.float32),
        rng.integers(0, 2**12, (40, 50)).astype("u2"),
    )
    fits_io.write_image(tmp_path / "a.fits", image, {"OBSID": "x"})
    back, cards = fits_io.read_image(tmp_path / "a.fits")
    assert (back.pixels == image.pixels).all()
    assert (back.mask == image.mask).all()
    assert cards["OBSID"] == "x"


def _noisy(blanks):
    # Wide enough for a row to run through the dither's numbers and begin again.
    rng = np.random.default_rng(6)
    image = rng.normal(900, 30, (23, 11_000)).astype("f4")
    image[3, 100:110], image[4], image[5] = 60_000, 7.5, 0
    if blanks:
        image[7, 50:60], image[8] = np.nan, np.nan
    return image


@pytest.mark.parametrize("blanks", [False, True])
def test_quantised_floats_are_within_half_a_step(tmp_path, blanks):
    image, path = _noisy(blanks), tmp_path / "a.fits"
    fits_io.write(path, {}, [fits_io.Extension("A", image, levels=16)])
    with fits.open(path, checksum=True) as hdus, fits.open(path, disable_image_compression=True) as table:
        theirs, step = np.asarray(hdus["A"].data), table["A"].data["ZSCALE"][:, None]
    ours = fits_io.read(path)[1].data
    assert ours.dtype == np.float32
    # Half a step, and the last bit of the float.
    limit = 0.5 * step * 1.0001 + np.spacing(np.nan_to_num(np.abs(image)))
    for back in (ours, theirs, fitsio.read(path, ext="A")):
        assert (np.isnan(back) == np.isnan(image)).all()
        assert (np.nan_to_num(np.abs(back - image)) <= limit).all()
        assert (np.nan_to_num(np.abs(back - ours)) <= limit / 1000 + np.spacing(np.nan_to_num(np.abs(image)))).all()
    assert np.allclose(np.median(step), 30 / 16, rtol=0.1)
    assert abs(np.nanmean(ours - image)) < 1e-3 * 30 / 16 * 10
    assert path.stat().st_size < image.nbytes / 3
    assert np.array_equal(fits_io.RowReader(path, "A").rows(5, 12), ours[5:12], equal_nan=True)


def test_quantisation_refuses_infinity_and_other_levels():
    image = _noisy(False)[:3]
    with pytest.raises(InvalidValueError, match="levels"):
        fits_io.encode({}, [fits_io.Extension("A", image, levels=-1)])
    image[1, 1] = np.inf
    with pytest.raises(InvalidValueError, match="infinite"):
        fits_io.encode({}, [fits_io.Extension("A", image, levels=4)])


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40),
        elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_nan=False),
    )
)
def test_any_floats_come_back_rounded(image):
    back = fits_io.decode(bytes(fits_io.encode({}, [fits_io.Extension("A", image, levels=8)])))[1].data
    noise = np.ptp(image.astype("f8"), axis=1, keepdims=True)
    assert (np.abs(back.astype("f8") - image) <= noise + np.abs(image).max(axis=1, keepdims=True) * 2.0**-22).all()


def test_nothing_is_left_of_a_failed_write(tmp_path):
    with pytest.raises(HeaderError):
        fits_io.write(tmp_path / "a.fits", {"bad key": 1}, [])
    with pytest.raises(FileNotFoundError):
        fits_io.store(tmp_path / "no" / "a.fits", b"x")
    assert list(tmp_path.iterdir()) == []


def _every_kind():
    rng = np.random.default_rng(4)
    kinds = [fits_io.Extension(f"E{i}", _sky(rng, kind)) for i, kind in enumerate(("uint16", "int16", "int32"))]
    floats = fits_io.Extension("FLOAT", rng.normal(size=(30, 40)).astype("f4"))
    return [*kinds, floats, fits_io.Extension("STEPS", rng.normal(size=(30, 400)).astype("f4"), levels=16)]


@pytest.mark.skipif(shutil.which("fitsverify") is None, reason="fitsverify is not installed")
def test_fitsverify_is_content(tmp_path):
    fits_io.write(tmp_path / "a.fits", {"OBSID": "x"}, _every_kind())
    done = subprocess.run(["fitsverify", tmp_path / "a.fits"], capture_output=True, text=True, check=False)
    assert "found 0 warning(s) and 0 error(s)" in done.stdout


@pytest.mark.skipif(shutil.which("funpack") is None, reason="funpack (libcfitsio-bin) is not installed")
def test_funpack_unpacks_the_same_pixels(tmp_path):
    extensions = _every_kind()
    fits_io.write(tmp_path / "a.fits", {"OBSID": "x"}, extensions)
    subprocess.run(["funpack", "-O", tmp_path / "b.fits", tmp_path / "a.fits"], check=True)
    with fits.open(tmp_path / "b.fits") as hdus:
        for extension in extensions:
            expected = (
                fits_io.decode(bytes(fits_io.encode({}, [extension])))[1].data if extension.levels else extension.data
            )
            assert np.allclose(hdus[extension.name].data, expected, rtol=1e-6, atol=1e-6 if extension.levels else 0)
