"""Raw files: one FITS extension per amplifier in readout order, tile-compressed without loss, with checksums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io.fits import Header

from workloads.common.errors import NonRetriableError
from workloads.pixels import fits_io
from workloads.pixels.errors import PixelError
from workloads.pixels.fits_cards import parse_header
from workloads.pixels.layout import Amplifier, DetectorLayout

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
        Keywords of the primary header: value and comment; None where a value is not known.

    Raises
    ------
    NonRetriableError
        If FITS has no way to write a keyword or value.
    """
    geometry: Cards = {
        "DETWID": (layout.width, "[pixel] width of the detector"),
        "DETHEI": (layout.height, "[pixel] height of the detector"),
        "AMPWID": (layout.amp_width, "[pixel] imaging columns of an amplifier"),
        "AMPHEI": (layout.amp_height, "[pixel] rows of an amplifier"),
        "PRESCAN": (layout.prescan, "[pixel] columns before the imaging ones"),
        "OVERSCAN": (layout.overscan, "[pixel] columns after the imaging ones"),
    }
    frames = [
        fits_io.Extension(amplifier.name, frame, _amplifier_cards(amplifier))
        for frame, amplifier in zip(pixels, layout.amplifiers, strict=True)
    ]
    try:
        return bytes(fits_io.encode({**cards, **geometry}, frames, threads=1))
    except PixelError as error:
        raise NonRetriableError(f"raw file of {layout.name}: {error}") from error


def decode_raw(data: bytes, name: str = "raw file") -> tuple[RawPixels, DetectorLayout, Header]:
    """Return pixels, layout and primary header of a raw file; every checksum is verified.

    Raises
    ------
    NonRetriableError
        If the file is damaged, cut short or lacks a keyword.
    """
    try:
        primary, *frames = fits_io.decode(data, name, threads=1)
        header = Header.fromstring(data[: parse_header(data, 0)[1]])
    except (PixelError, ValueError) as error:
        raise NonRetriableError(f"{name}: damaged or no raw file: {error}") from error
    for number, hdu in enumerate((primary, *frames)):
        if "CHECKSUM" not in hdu.cards:
            raise NonRetriableError(f"{name}: extension {number} has no CHECKSUM")
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
    shapes = [None if frame.data is None else frame.data.shape for frame in frames]
    if shapes != [layout.raw_shape[1:]] * layout.raw_shape[0]:
        raise NonRetriableError(f"{name}: amplifiers of shapes {shapes}, expected {layout.raw_shape} by its header")
    return np.stack([np.asarray(frame.data, np.uint16) for frame in frames]), layout, header


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
