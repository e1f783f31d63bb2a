"""FITS files: Rice-compressed, with checksums and a digest made in the same pass, written whole or not at all."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.pixels import fits_tiles, parallel, quantization
from workloads.pixels.errors import CorruptFileError, HeaderError, TypeMismatchError
from workloads.pixels.fits_cards import BLOCK, Cards, encode_checksum, header_bytes, parse_header
from workloads.pixels.images import Doubles, Image
from workloads.pixels.kernels.rice import rice_decode, rice_encode, word_sum
from workloads.pixels.masks import planes

LOG = logging.getLogger(__name__)
_SHOWN = 5
"""Cards that a message shows."""
Buffer = bytes | bytearray | memoryview
_BITPIX = {"int16": 16, "uint16": 16, "int32": 32, "float32": -32}


@dataclass(frozen=True)
class Extension:
    """One image of a file.

    Parameters
    ----------
    data
        Two-dimensional; ``int16``, ``uint16`` and ``int32`` are Rice-compressed.
    cards
        Keywords beside those that describe the array.
    levels
        Steps per standard deviation of the noise to which ``float32`` is rounded before it is Rice-compressed; 0 stores it
        as it is.
    """

    name: str
    data: npt.NDArray[Any]
    cards: Cards = field(default_factory=dict)
    levels: float = 0.0


@dataclass(frozen=True)
class Hdu:
    """What `decode` found: keywords, image (None where an HDU has no data), and the cards that were not understood."""

    cards: dict[str, Any]
    data: npt.NDArray[Any] | None
    bad: tuple[str, ...] = ()


def encode(primary: Cards, extensions: Sequence[Extension], threads: int | None = None) -> bytearray:
    """Bytes of a file with an empty primary HDU and one extension per image.

    Raises
    ------
    HeaderError
        A keyword or value cannot be written.
    TypeMismatchError
        An array is of another type or not two-dimensional.
    """
    return bytearray().join(_parts(primary, extensions, threads))


def encode_primary(data: npt.NDArray[np.float32], cards: Cards) -> bytes:
    """Bytes of a file that is one plain ``float32`` image: for stamps, which are too small to gain from compression.

    Raises
    ------
    HeaderError
        A keyword or value cannot be written.
    """
    rows, columns = data.shape
    basic = {
        "SIMPLE": (True, "conforms to the FITS standard"),
        "BITPIX": -32,
        "NAXIS": 2,
        "NAXIS1": columns,
        "NAXIS2": rows,
    }
    body = data.astype(">f4").tobytes()
    return bytes(header_bytes({**basic, **cards})) + body + bytes(-len(body) % BLOCK)


def write(path: Path, primary: Cards, extensions: Sequence[Extension], threads: int | None = None) -> str:
    """Write a file atomically and durably; return the SHA-256 of its bytes.

    The bytes are on disk under their name, or nothing is, whatever happens in between.
    """
    return _store(path, _parts(primary, extensions, threads))


def store(path: Path, data: bytes | bytearray) -> str:
    """Write bytes atomically and durably; return their SHA-256 (hexadecimal)."""
    return _store(path, [data])


def _parts(primary: Cards, extensions: Sequence[Extension], threads: int | None) -> Iterator[Buffer]:
    basic = {"SIMPLE": (True, "conforms to the FITS standard"), "BITPIX": 8, "NAXIS": 0, "EXTEND": True}
    yield _sealed({**basic, **primary}, np.zeros(0, np.uint8))
    for header, body in parallel.stream(_extension, [(extension,) for extension in extensions], threads):
        yield header
        yield body


def _store(path: Path, parts: Iterable[Buffer]) -> str:
    """Digest and write each part as it comes, while the next ones are compressed."""
    path = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    digest = hashlib.sha256()
    try:
        for part in parts:
            digest.update(part)
            _write_all(handle, part)
        os.fchmod(handle, 0o644)
        os.fsync(handle)
        os.close(handle)
        handle = -1
        Path(name).replace(path)
    except BaseException:
        if handle >= 0:
            os.close(handle)
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return digest.hexdigest()


def read(path: Path, threads: int | None = None, *, sealed: bool = False) -> list[Hdu]:
    """Read a file that this module wrote (or any of plain and Rice-compressed integer images).

    Checksums are verified as far as they are stated. Integers with undefined values (BLANK) come as floats with NaN.

    Parameters
    ----------
    sealed
        Refuse an HDU that does not state both of its checksums: damage could have taken them.

    Raises
    ------
    CorruptFileError
        The file is truncated, or a checksum or a code does not agree.
    """
    return decode(Path(path).read_bytes(), str(path), threads, sealed=sealed)


def decode(
    data: bytes, name: str = "FITS file", threads: int | None = None, *, sealed: bool = False, images: bool = True
) -> list[Hdu]:
    """Read the HDUs of a file's bytes; see `read`. Without `images` all is verified and no pixel decoded: their data are None."""
    if len(data) == 0 or len(data) % BLOCK:
        raise CorruptFileError(name, f"{len(data)} bytes", f"a multiple of {BLOCK}: it is truncated")
    raw = np.frombuffer(bytearray(data), np.uint8)
    hdus: list[Hdu] = []
    at = 0
    while at < len(data):
        bad = list[str]()
        try:
            cards, begin = parse_header(data, at, bad)
            size = _data_size(cards)
        except HeaderError as error:
            found = "; ".join([error.found, *bad[:_SHOWN]])
            raise CorruptFileError(name, f"HDU {len(hdus)}: {found}", error.expected) from error
        if bad:
            LOG.warning("%s, HDU %d: %d cards not understood: %s", name, len(hdus), len(bad), "; ".join(bad[:_SHOWN]))
        end = begin + -(-size // BLOCK) * BLOCK
        if end > len(data):
            raise CorruptFileError(name, f"HDU {len(hdus)} ends beyond the file", f"{end} bytes")
        _verify(raw, at, begin, end, cards, f"{name}, HDU {len(hdus)}", sealed=sealed)
        image = _image(raw[begin:end], cards, f"{name}, HDU {len(hdus)}", threads) if images else None
        hdus.append(Hdu(cards, image, tuple(bad)))
        at = end
    return hdus


class RowReader:
    """Rows of one Rice-compressed image of a file; what is asked for is read from the disk, once, and nothing else.

    Parameters
    ----------
    path, name
        The file and the EXTNAME of the image.

    Raises
    ------
    CorruptFileError
        There is no such image, or it is of another kind. The checksum of the data is not verified.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._raw, self._name, at = np.memmap(path, np.uint8, "r"), f"{path}, {name}", 0
        view = self._raw.data
        while at < len(view):
            cards, begin = parse_header(view, at)
            if cards.get("EXTNAME") == name and cards.get("ZIMAGE") is True:
                break
            at = begin + -(-_data_size(cards) // BLOCK) * BLOCK
        else:
            raise CorruptFileError(str(path), f"no compressed image {name}", "its EXTNAME")
        self._cards, self._tiling = cards, fits_tiles.read_tiling(cards, self._name)
        self.shape = self._tiling.rows, self._tiling.columns
        self._heap = begin + self._tiling.size
        self._table = np.array(self._raw[begin : self._heap]).reshape(self.shape[0], -1)

    def rows(self, first: int, last: int) -> npt.NDArray[Any]:
        """Pixels of rows ``first`` to ``last``."""
        table = self._table[first:last]
        lengths, offsets = fits_tiles.descriptors(table)
        start, stop = int(offsets.min()), int((offsets + lengths).max())
        heap = np.array(self._raw[self._heap + start : self._heap + stop])
        tiles = np.empty((last - first, self.shape[1]), np.int32)
        bad = rice_decode(heap, offsets - start, lengths, self._tiling.width, 0, last - first, tiles)
        if bad >= 0:
            raise CorruptFileError(self._name, f"the code of row {first + bad} runs out", "a whole tile")
        return fits_tiles.values(tiles, table, first, self._tiling, self._cards)


def write_image(
    path: Path, image: Image, cards: Cards | None = None, threads: int | None = None, levels: float = 0.0
) -> str:
    """Write pixels, variance (`Extension` says what ``levels`` are) and mask with the names of its planes; return the digest."""
    mask_cards = {key: (bit, "bit of the mask plane") for key, bit in planes().items()}
    unit = {"BUNIT": ("electron", "unit of the pixels")}
    parts = [
        Extension("IMAGE", image.pixels, unit, levels),
        Extension("MASK", image.mask.view(np.int16), mask_cards),
        Extension("VARIANCE", image.variance, {"BUNIT": ("electron**2", "unit of the pixels")}, levels),
    ]
    return write(path, cards or {}, parts, threads)


def read_image(path: Path) -> tuple[Image, dict[str, Any]]:
    """Read what `write_image` wrote: the image and the primary keywords."""
    hdus = read(path, sealed=True)
    found = {hdu.cards.get("EXTNAME"): hdu.data for hdu in hdus}
    missing = {"IMAGE", "MASK", "VARIANCE"} - set(found)
    if missing:
        raise CorruptFileError(str(path), f"no extension {sorted(missing)}", "IMAGE, MASK and VARIANCE")
    mask = np.asarray(found["MASK"], np.int16).view(np.uint16)
    return Image(np.asarray(found["IMAGE"], np.float32), np.asarray(found["VARIANCE"], np.float32), mask), hdus[0].cards


def _write_all(handle: int, data: Buffer) -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(handle, view) :]


def _extension(extension: Extension) -> tuple[Buffer, Buffer]:
    data = extension.data
    if data.ndim != 2 or data.dtype.name not in _BITPIX or 0 in data.shape:
        raise TypeMismatchError(f"extension {extension.name}", f"{data.dtype} of shape {data.shape}", "a 2-d image")
    rows, columns = data.shape
    if data.dtype == np.float32 and extension.levels == 0:
        body = np.ascontiguousarray(data, ">f4").view(np.uint8).ravel()
        shape = {
            "XTENSION": ("IMAGE", "plain image"),
            "BITPIX": -32,
            "NAXIS": 2,
            "NAXIS1": columns,
            "NAXIS2": rows,
            "PCOUNT": 0,
            "GCOUNT": 1,
        }
        body = np.concatenate([body, np.zeros(-body.size % BLOCK, np.uint8)])
        return _sealed({**shape, "EXTNAME": extension.name, **extension.cards}, body), body.data
    if data.dtype == np.float32:
        steps, scale, zero = quantization.quantize(data, extension.levels, extension.name)
        body, heap, longest = _compress(steps, np.column_stack([scale, zero]))
    else:
        body, heap, longest = _compress(data)
    cards = _table_cards(data, heap, longest)
    return _sealed({**cards, "EXTNAME": extension.name, **extension.cards}, body), body.data


def _compress(data: npt.NDArray[Any], columns_beside: Doubles | None = None) -> tuple[npt.NDArray[np.uint8], int, int]:
    """Table of descriptors (and of other columns) and heap, padded; size of the heap; longest row."""
    rows, columns = data.shape
    kind: Any = np.uint32 if data.itemsize == 4 else np.uint16
    tiles = np.require(data, data.dtype.newbyteorder("="), ["C", "W"]).view(kind)
    flip = kind(0x8000 if data.dtype.kind == "u" else 0)
    pitch = 8 if columns_beside is None else 8 + 8 * columns_beside.shape[1]
    begin = pitch * rows
    body = np.empty(begin + rows * (columns * data.itemsize + columns // 8 + 32) + BLOCK, np.uint8)
    lengths = np.empty(rows, np.int64)
    rice_encode(tiles, flip, 0, rows, np.empty(2 * columns + 16, np.uint32), body[begin:], lengths)
    heap = int(lengths.sum())
    table = body[:begin].reshape(rows, pitch)
    table[:, :8] = np.column_stack([lengths, np.cumsum(lengths) - lengths]).astype(">i4").view(np.uint8)
    if columns_beside is not None:
        table[:, 8:] = columns_beside.astype(">f8").view(np.uint8)
    size = begin + heap
    body[size : size + -size % BLOCK] = 0
    return body[: size + -size % BLOCK], heap, int(lengths.max())


def _table_cards(data: npt.NDArray[Any], heap: int, longest: int) -> dict[str, Any]:
    rows, columns = data.shape
    width, floats = 2 if data.itemsize == 2 else 4, data.dtype == np.float32
    kinds = {"COMPRESSED_DATA": f"1PB({longest})"} | ({"ZSCALE": "1D", "ZZERO": "1D"} if floats else {})
    cards: dict[str, Any] = {
        "XTENSION": ("BINTABLE", "compressed image"), "BITPIX": 8, "NAXIS": 2, "NAXIS1": 8 * len(kinds), "NAXIS2": rows,
        "PCOUNT": heap, "GCOUNT": 1, "TFIELDS": len(kinds),
        **{key: value for i, pair in enumerate(kinds.items(), 1) for key, value in zip((f"TTYPE{i}", f"TFORM{i}"), pair, strict=True)},
        "ZIMAGE": (True, "this table holds a compressed image"), "ZTENSION": "IMAGE", "ZBITPIX": _BITPIX[data.dtype.name] if floats else 8 * width,
        "ZNAXIS": 2, "ZNAXIS1": columns, "ZNAXIS2": rows, "ZPCOUNT": 0, "ZGCOUNT": 1, "ZTILE1": columns, "ZTILE2": 1,
        "ZCMPTYPE": "RICE_1", "ZNAME1": "BLOCKSIZE", "ZVAL1": 32, "ZNAME2": "BYTEPIX", "ZVAL2": width,
    }  # fmt: skip
    if data.dtype == np.uint16:
        cards |= {"BZERO": (32768, "offset of unsigned samples"), "BSCALE": 1}
    return cards | (quantization.cards() if floats else {})


def _sealed(cards: Cards, body: npt.NDArray[np.uint8]) -> bytes:
    """Header with DATASUM and CHECKSUM."""
    data_sum = int(word_sum(body.view(np.uint32))) if body.size else 0
    own = {key: entry for key, entry in cards.items() if key not in {"DATASUM", "CHECKSUM"}}
    blank = header_bytes(
        {**own, "DATASUM": (str(data_sum), "checksum of the data"), "CHECKSUM": ("0" * 16, "checksum of the HDU")}
    )
    total = int(word_sum(np.frombuffer(blank, np.uint32))) + data_sum
    total = (total & 0xFFFFFFFF) + (total >> 32)
    where = blank.rindex(b"CHECKSUM= '") + 11
    blank[where : where + 16] = encode_checksum(total).encode("ascii")
    return bytes(blank)


def _data_size(cards: dict[str, Any]) -> int:
    """Bytes of an HDU's data, by its keywords."""
    try:
        axes = [int(cards[f"NAXIS{i + 1}"]) for i in range(int(cards["NAXIS"]))]
        counted = axes[1:] if axes[:1] == [0] and cards.get("GROUPS") is True else axes  # random groups
        values = int(np.prod(counted, dtype=object)) if axes else 0
        size = abs(int(cards["BITPIX"])) // 8 * (values + int(cards.get("PCOUNT", 0))) * int(cards.get("GCOUNT", 1))
    except (KeyError, TypeError, ValueError) as error:
        raise HeaderError("FITS header", f"no usable {error}", "NAXIS, NAXISn and BITPIX") from error
    if size < 0 or any(axis < 0 for axis in axes):
        raise HeaderError("FITS header", f"axes {axes}", "numbers of 0 or more")
    return size


def _verify(
    raw: npt.NDArray[np.uint8], at: int, begin: int, end: int, cards: dict[str, Any], name: str, *, sealed: bool
) -> None:
    data_sum = int(word_sum(raw[begin:end].view(np.uint32)))
    stated, seal = (
        str(cards.get(key) if cards.get(key) is not None else "").strip() for key in ("DATASUM", "CHECKSUM")
    )
    if sealed and not (stated and seal):
        missing = " and ".join(key for key, value in (("CHECKSUM", seal), ("DATASUM", stated)) if not value)
        raise CorruptFileError(name, f"no {missing}", "both checksums")
    if stated and (not stated.isdecimal() or int(stated) != data_sum):
        raise CorruptFileError(name, f"DATASUM {stated}, data sum to {data_sum}", "equal sums")
    if seal:
        total = int(word_sum(raw[at:begin].view(np.uint32))) + data_sum
        total = (total & 0xFFFFFFFF) + (total >> 32)
        if total not in {0, 0xFFFFFFFF}:
            raise CorruptFileError(name, "CHECKSUM does not agree", "an HDU that sums to zero")


def _image(
    body: npt.NDArray[np.uint8], cards: dict[str, Any], name: str, threads: int | None
) -> npt.NDArray[Any] | None:
    if cards.get("ZIMAGE") is True:
        return fits_tiles.decompress(body, cards, name, threads)
    if cards.get("XTENSION", "IMAGE") != "IMAGE" or not cards.get("NAXIS"):
        return None
    kinds = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
    if cards["BITPIX"] not in kinds:
        raise CorruptFileError(name, f"BITPIX {cards['BITPIX']}", str(sorted(kinds)))
    kind = np.dtype(kinds[cards["BITPIX"]])
    shape = [int(cards[f"NAXIS{i}"]) for i in range(int(cards["NAXIS"]), 0, -1)]
    image = (
        np.frombuffer(body[: int(np.prod(shape)) * kind.itemsize].tobytes(), kind)
        .reshape(shape)
        .astype(kind.newbyteorder("="))
    )
    return fits_tiles.scaled(image, cards)
