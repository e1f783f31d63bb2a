"""Raw files: what the camera read out, readable by anybody, and refused when a byte of it is wrong."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from astropy.io import fits

from workloads.common.errors import NonRetriableError
from workloads.common.raw import check_raw, decode_raw, encode_raw
from workloads.pixels import simulator
from workloads.pixels.fits_cards import BLOCK

CAMERA = simulator.Camera(1, 1, 256)
LAYOUT = CAMERA.layout(0)
PIXELS = simulator.flat_frame(CAMERA, 0, 1)
RAFT, SLOT = LAYOUT.name.split("_")
CARDS = {
    "RAFTBAY": (RAFT, "raft"),
    "CCDSLOT": (SLOT, "sensor"),
    "DETNUM": (LAYOUT.detector, "number"),
    "MJD-BEG": (61000.123456789, "[d] begin of exposure, TAI"),
    "AIRMASS": (None, "not known"),
}


READERS = pytest.mark.parametrize("read", [decode_raw, check_raw])


@pytest.fixture(scope="module")
def data() -> bytes:
    return encode_raw(PIXELS, LAYOUT, CARDS)


def test_it_comes_back_as_it_was(data: bytes) -> None:
    pixels, layout, header = decode_raw(data)
    assert np.array_equal(pixels, PIXELS)
    assert pixels.dtype == np.uint16
    assert layout == LAYOUT
    assert header["MJD-BEG"] == 61000.123456789
    assert header.comments["RAFTBAY"] == "raft"


def test_a_stock_reader_finds_the_same(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(io.BytesIO(data), checksum=True) as hdus:
            found = np.stack([hdu.data for hdu in hdus[1:]])
            assert [hdu.name for hdu in hdus[1:]] == [amplifier.name for amplifier in LAYOUT.amplifiers]
    assert np.array_equal(found, PIXELS)


@READERS
@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.999])
def test_a_wrong_byte_is_refused(read, data: bytes, place: float) -> None:
    spoilt = bytearray(data)
    spoilt[int(place * len(data))] ^= 0x11
    with pytest.raises(NonRetriableError, match="damaged or no raw file"):
        read(bytes(spoilt), "a file")


@READERS
@pytest.mark.parametrize("length", [0, 1000, BLOCK, 40 * BLOCK])
def test_a_file_cut_short_is_refused(read, data: bytes, length: int) -> None:
    with pytest.raises(NonRetriableError, match="a file"):
        read(data[:length], "a file")


@READERS
def test_a_file_cut_short_after_an_amplifier_is_refused(read, data: bytes) -> None:
    with fits.open(io.BytesIO(data), disable_image_compression=True) as hdus:
        end = hdus[4].fileinfo()["hdrLoc"]
    with pytest.raises(NonRetriableError, match="damaged or no raw file: 3 amplifiers"):
        read(data[:end], "a file")


@READERS
def test_a_file_without_checksums_is_refused(read, data: bytes) -> None:
    buffer = io.BytesIO()
    with fits.open(io.BytesIO(data), disable_image_compression=True) as hdus:
        for hdu in hdus:
            del hdu.header["CHECKSUM"], hdu.header["DATASUM"]
        hdus.writeto(buffer)
    with pytest.raises(NonRetriableError, match="no CHECKSUM"):
        read(buffer.getvalue(), "a file")


@READERS
@pytest.mark.parametrize("keyword", ["RAFTBAY", "DETNUM", "AMPWID"])
def test_a_header_without_a_keyword_is_refused(read, data: bytes, keyword: str) -> None:
    buffer = io.BytesIO()
    with fits.open(io.BytesIO(data), disable_image_compression=True) as hdus:
        del hdus[0].header[keyword]
        hdus.writeto(buffer, checksum=True)
    with pytest.raises(NonRetriableError, match=keyword):
        read(buffer.getvalue(), "a file")


def test_what_is_verified_without_pixels_has_the_same_header(data: bytes) -> None:
    assert repr(check_raw(data)) == repr(decode_raw(data)[2])


@READERS
def test_amplifiers_of_another_shape_than_the_header_says_are_refused(read, data: bytes) -> None:
    buffer = io.BytesIO()
    with fits.open(io.BytesIO(data), disable_image_compression=True) as hdus:
        hdus[0].header["OVERSCAN"] += 1
        hdus.writeto(buffer, checksum=True)
    with pytest.raises(NonRetriableError, match="amplifiers of shapes"):
        read(buffer.getvalue(), "a file")


@READERS
def test_amplifiers_of_another_type_are_refused(read, data: bytes) -> None:
    buffer = io.BytesIO()
    with fits.open(io.BytesIO(data), disable_image_compression=True) as hdus:
        del hdus[1].header["BZERO"]
        hdus.writeto(buffer, checksum=True)
    with pytest.raises(NonRetriableError, match="amplifiers of int16, uint16"):
        read(buffer.getvalue(), "a file")


def test_pixels_of_another_shape_than_the_layout_are_refused() -> None:
    with pytest.raises(NonRetriableError, match="pixels of shape"):
        encode_raw(PIXELS[:3], LAYOUT, CARDS)
