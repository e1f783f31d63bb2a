"""Raw files: one FITS extension per amplifier in readout order, tile-compressed without loss, with checksums."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning
from astropy.utils.exceptions import AstropyUserWarning

from workloads.common.errors import NonRetriableError
from workloads.pixels.layout import Amplifier, DetectorLayout

RawPixels = npt.NDArray[np.uint16]
Cards = Mapping[str, tuple[Any, str]]
_TILE_ROWS = 16


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
    """
    primary = fits.PrimaryHDU()
    for name, (value, comment) in cards.items():
        primary.header[name] = (value, comment)
    for name, value, comment in (
        ("DETWID", layout.width, "[pixel] width of the detector"),
        ("DETHEI", layout.height, "[pixel] height of the detector"),
        ("AMPWID", layout.amp_width, "[pixel] imaging columns of an amplifier"),
        ("AMPHEI", layout.amp_height, "[pixel] rows of an amplifier"),
        ("PRESCAN", layout.prescan, "[pixel] columns before the imaging ones"),
        ("OVERSCAN", layout.overscan, "[pixel] columns after the imaging ones"),
    ):
        primary.header[name] = (value, comment)
    hdus: list[Any] = [primary]
    for frame, amplifier in zip(pixels, layout.amplifiers, strict=True):
        tile = (min(_TILE_ROWS, frame.shape[0]), frame.shape[1])
        hdu = fits.CompImageHDU(
            frame, _amplifier_header(amplifier), name=amplifier.name, compression_type="RICE_1", tile_shape=tile
        )
        hdus.append(hdu)
    buffer = io.BytesIO()
    fits.HDUList(hdus).writeto(buffer, checksum=True)
    return buffer.getvalue()


def decode_raw(data: bytes, name: str = "raw file") -> tuple[RawPixels, DetectorLayout, fits.Header]:
    """Return pixels, layout and primary header of a raw file; every checksum is verified.

    Raises
    ------
    NonRetriableError
        If the file is damaged, cut short or lacks a keyword.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", AstropyUserWarning)
            warnings.simplefilter("ignore", VerifyWarning)
            with fits.open(io.BytesIO(data), checksum=True, memmap=False, ignore_missing_end=False) as hdus:
                header = hdus[0].header.copy()
                _require_checksums(hdus, name)
                pixels = np.stack([np.asarray(hdu.data, np.uint16) for hdu in hdus[1:]])
                amplifiers = tuple(_amplifier(hdu.header) for hdu in hdus[1:])
    except (OSError, ValueError, TypeError, KeyError, IndexError, AstropyUserWarning) as error:
        raise NonRetriableError(f"{name}: damaged or no raw file: {error}") from error
    try:
        layout = DetectorLayout(
            f"{header['RAFTBAY']}_{header['CCDSLOT']}", int(header["DETNUM"]), int(header["DETWID"]), int(header["DETHEI"]), amplifiers,
            int(header["AMPWID"]), int(header["AMPHEI"]), int(header["PRESCAN"]), int(header["OVERSCAN"]),
        )  # fmt: skip
    except KeyError as error:
        raise NonRetriableError(f"{name}: header without {error}") from error
    if pixels.shape != layout.raw_shape:
        raise NonRetriableError(f"{name}: pixels of shape {pixels.shape}, expected {layout.raw_shape} by its header")
    return pixels, layout, header


def _require_checksums(hdus: fits.HDUList, name: str) -> None:
    for number, hdu in enumerate(hdus):
        source = getattr(hdu, "_bintable", hdu)
        if "CHECKSUM" not in hdu.header and "CHECKSUM" not in source.header:
            raise NonRetriableError(f"{name}: extension {number} has no CHECKSUM")


def _amplifier_header(amplifier: Amplifier) -> fits.Header:
    header = fits.Header()
    header["X0"] = (amplifier.x0, "[pixel] first column of the section, from 0")
    header["Y0"] = (amplifier.y0, "[pixel] first row of the section, from 0")
    header["FLIPX"] = (amplifier.flip_x, "readout runs against the columns")
    header["FLIPY"] = (amplifier.flip_y, "readout runs against the rows")
    header["GAIN"] = (amplifier.gain, "[electron/adu]")
    header["RDNOISE"] = (amplifier.read_noise, "[electron]")
    header["SATURATE"] = (amplifier.saturation, "[adu] pedestal included")
    return header


def _amplifier(header: fits.Header) -> Amplifier:
    return Amplifier(
        name=str(header["EXTNAME"]), x0=int(header["X0"]), y0=int(header["Y0"]), flip_x=bool(header["FLIPX"]), flip_y=bool(header["FLIPY"]),
        gain=float(header["GAIN"]), read_noise=float(header["RDNOISE"]), saturation=float(header["SATURATE"]),
    )  # fmt: skip
