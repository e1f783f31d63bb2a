"""Raw files: one FITS extension per amplifier in readout order, tile-compressed without loss, with checksums."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io.fits import Header
from prometheus_client import Counter

from workloads.common.errors import NonRetriableError
from workloads.pixels import fits_io
from workloads.pixels.errors import PixelError
from workloads.pixels.fits_cards import parse_header
from workloads.pixels.fits_fitting import fitted
from workloads.pixels.fits_tiles import read_tiling
from workloads.pixels.layout import Amplifier, DetectorLayout

LOG = logging.getLogger(__name__)
LEFT_OUT = Counter("raw_keywords_left_out", "Different keywords and values that FITS cannot hold")
RawPixels = npt.NDArray[np.uint16]
Cards = Mapping[str, tuple[Any, str]]


def encode_raw(pixels: RawPixels, layout: DetectorLayout, cards: Cards) -> bytes:
    """Return the bytes of a raw file.

    Parameters
    ----------
    pixels
        ``uint16[amplifiers, rows, columns]`` in readout order, counts.
    layout
        Geometry and electronics, kept in the extensions' headers.
    cards
        Keywords of the primary header: value and comment; None where a value is not known. What FITS cannot hold is
        escaped or left out, see `fits_fitting`, and named in the file.

    Raises
    ------
    NonRetriableError
        If there are no pixels of the layout's shape.
    """
    geometry: Cards = {
        "DETWID": (layout.width, "[pixel] width of the detector"),
        "DETHEI": (layout.height, "[pixel] height of the detector"),
        "AMPWID": (layout.amp_width, "[pixel] imaging columns of an amplifier"),
        "AMPHEI": (layout.amp_height, "[pixel] rows of an amplifier"),
        "PRESCAN": (layout.prescan, "[pixel] columns before the imaging ones"),
        "OVERSCAN": (layout.overscan, "[pixel] columns after the imaging ones"),
    }
    frames = [(amplifier.name, _amplifier_cards(amplifier)) for amplifier in layout.amplifiers]
    return _encode(pixels, {**{key: entry for key, entry in cards.items() if key not in geometry}, **geometry}, frames)


def encode_pixels(pixels: RawPixels, cards: Cards) -> bytes:
    """Return pixels without a usable layout as a FITS file: whoever can repair its header has them; nobody ingests it.

    Raises
    ------
    NonRetriableError
        If there are no pixels of three dimensions.
    """
    return _encode(pixels, cards, [(f"AMP{number:02}", {}) for number in range(len(pixels))])


def _encode(pixels: RawPixels, cards: Cards, amplifiers: list[tuple[str, Cards]]) -> bytes:
    primary = fitted(cards)
    for keyword, what in primary.left_out.items():
        _say_left_out(keyword, what)
    try:
        frames = [
            fits_io.Extension(name, frame, fitted(facts).cards)
            for frame, (name, facts) in zip(pixels, amplifiers, strict=True)
        ]
        return bytes(fits_io.encode(primary.cards, frames, threads=1))
    except ValueError as error:
        raise NonRetriableError(
            f"raw file: pixels of shape {pixels.shape} for {len(amplifiers)} amplifiers: {error}"
        ) from error


def decode_raw(data: bytes, name: str = "raw file") -> tuple[RawPixels, DetectorLayout, Header]:
    """Return pixels, layout and primary header of a raw file; every checksum is verified.

    Raises
    ------
    NonRetriableError
        If the file is damaged, cut short or lacks a keyword.
    """
    frames, layout, header = _opened(data, name, images=True)
    _require(name, layout, [(frame.data.shape, str(frame.data.dtype)) for frame in frames if frame.data is not None])
    return np.stack([np.asarray(frame.data, np.uint16) for frame in frames]), layout, header


def check_raw(data: bytes, name: str = "raw file") -> Header:
    """Verify a raw file as `decode_raw` does, without its pixels, whose code the checksums cover; return the primary header.

    Raises
    ------
    NonRetriableError
        As of `decode_raw`.
    """
    frames, layout, header = _opened(data, name, images=False)
    try:
        images = [_declared(frame.cards, f"{name}, {frame.cards.get('EXTNAME')}") for frame in frames]
    except (PixelError, KeyError, TypeError, ValueError) as error:
        raise NonRetriableError(f"{name}: damaged or no raw file: {error}") from error
    if None in images:  # of another kind than the archiver writes
        return decode_raw(data, name)[2]
    _require(name, layout, [image for image in images if image])
    return header


def _opened(data: bytes, name: str, *, images: bool) -> tuple[list[fits_io.Hdu], DetectorLayout, Header]:
    """Return the amplifiers, the layout and the primary header of a raw file."""
    try:
        _, *frames = fits_io.decode(data, name, threads=1, sealed=True, images=images)
        header = Header.fromstring(data[: parse_header(data, 0)[1]])
    except (PixelError, ValueError) as error:
        raise NonRetriableError(f"{name}: damaged or no raw file: {error}") from error
    try:
        layout = DetectorLayout(
            f"{header['RAFTBAY']}_{header['CCDSLOT']}", int(header["DETNUM"]), int(header["DETWID"]), int(header["DETHEI"]),
            tuple(_amplifier(frame.cards) for frame in frames),
            int(header["AMPWID"]), int(header["AMPHEI"]), int(header["PRESCAN"]), int(header["OVERSCAN"]),
        )  # fmt: skip
    except KeyError as error:
        raise NonRetriableError(f"{name}: header without {error}") from error
    except (TypeError, ValueError) as error:
        raise NonRetriableError(f"{name}: damaged or no raw file: {len(frames)} amplifiers: {error}") from error
    return frames, layout, header


def _declared(cards: dict[str, Any], name: str) -> tuple[tuple[int, ...], str] | None:
    """Return shape and type of the pixels of a compressed image by its keywords; None if it is of another kind."""
    unsigned = (cards.get("BZERO"), cards.get("BSCALE", 1)) == (32768, 1) and not {"BLANK", "ZBLANK"} & cards.keys()
    if cards.get("ZIMAGE") is not True or not unsigned:
        return None
    tiling = read_tiling(cards, name)
    return ((tiling.rows, tiling.columns), "uint16") if tiling.width == 2 else None


def _require(name: str, layout: DetectorLayout, images: list[tuple[tuple[int, ...], str]]) -> None:
    """Refuse amplifiers of other shapes or types than the header says."""
    shapes, kinds = [shape for shape, _ in images], {kind for _, kind in images}
    if shapes != [layout.raw_shape[1:]] * layout.raw_shape[0]:
        raise NonRetriableError(f"{name}: amplifiers of shapes {shapes}, expected {layout.raw_shape} by its header")
    if kinds != {"uint16"}:
        raise NonRetriableError(f"{name}: amplifiers of {', '.join(sorted(kinds))}, expected uint16")


@lru_cache(1024)
def _say_left_out(keyword: str, what: str) -> None:
    """Log what a header cannot hold, once and not with each detector of each exposure."""
    LEFT_OUT.inc()
    LOG.warning("raw files: keyword %s left out or undefined: %s", keyword, what)


def _amplifier_cards(amplifier: Amplifier) -> Cards:
    return {
        "X0": (amplifier.x0, "[pixel] first column of the section, from 0"),
        "Y0": (amplifier.y0, "[pixel] first row of the section, from 0"),
        "FLIPX": (amplifier.flip_x, "readout runs against the columns"),
        "FLIPY": (amplifier.flip_y, "readout runs against the rows"),
        "GAIN": (amplifier.gain, "[electron/adu]"),
        "RDNOISE": (amplifier.read_noise, "[electron]"),
        "SATURATE": (amplifier.saturation, "[adu] pedestal included"),
    }


def _amplifier(cards: Mapping[str, Any]) -> Amplifier:
    return Amplifier(
        name=str(cards["EXTNAME"]), x0=int(cards["X0"]), y0=int(cards["Y0"]), flip_x=bool(cards["FLIPX"]), flip_y=bool(cards["FLIPY"]),
        gain=float(cards["GAIN"]), read_noise=float(cards["RDNOISE"]), saturation=float(cards["SATURATE"]),
    )  # fmt: skip
