"""Tables of Rice-compressed images: how an image is cut into tiles, and its pixels out of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.pixels import parallel, quantization
from workloads.pixels.errors import CorruptFileError
from workloads.pixels.kernels.rice import rice_decode


@dataclass(frozen=True)
class Tiling:
    """A compressed image: its pixels, bytes of a coded value and of a row of the table."""

    rows: int
    columns: int
    width: int
    pitch: int

    @property
    def size(self) -> int:
        """Bytes of the table."""
        return self.pitch * self.rows


def read_tiling(cards: dict[str, Any], name: str) -> Tiling:
    """Read the shape of a compressed image of the two kinds that are read: integers, and floats as this module codes them."""
    names = {cards.get(f"ZNAME{i}"): cards.get(f"ZVAL{i}") for i in range(1, 4)}
    width, rows, columns = names.get("BYTEPIX", 4), cards.get("ZNAXIS2"), cards.get("ZNAXIS1")
    tiled = (cards.get("ZTILE1", columns), cards.get("ZTILE2", 1)) == (columns, 1)
    known = cards.get("ZCMPTYPE") == "RICE_1" and names.get("BLOCKSIZE", 32) == 32
    if not (isinstance(rows, int) and isinstance(columns, int) and rows > 0 and columns > 0):
        raise CorruptFileError(name, f"a compressed image of {columns} x {rows} pixels", "positive sizes")
    found = [(cards.get(f"TTYPE{i}"), cards.get(f"TFORM{i}")) for i in range(2, 1 + int(cards.get("TFIELDS") or 0))]
    floats = cards.get("ZBITPIX") == -32
    if floats:
        known = known and width == 4 and cards.get("ZQUANTIZ") == "SUBTRACTIVE_DITHER_1"
        known = known and found == [("ZSCALE", "1D"), ("ZZERO", "1D")]
    pitch = 24 if floats else 8
    if not (tiled and known and width in {2, 4} and cards["NAXIS1"] == pitch and cards["NAXIS2"] == rows):
        raise CorruptFileError(name, "a compressed image of another kind", "Rice, one row a tile, one dither")
    return Tiling(rows, columns, int(width), pitch)


def descriptors(table: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Lengths and places in the heap of the tiles."""
    pairs = np.ascontiguousarray(table[:, :8]).view(">i4").astype(np.int64)
    return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])


def decompress(body: npt.NDArray[np.uint8], cards: dict[str, Any], name: str, threads: int | None) -> npt.NDArray[Any]:
    """Pixels of a compressed image, from its table and heap."""
    tiling = read_tiling(cards, name)
    table = body[: tiling.size].reshape(tiling.rows, tiling.pitch)
    heap = np.ascontiguousarray(body[tiling.size : tiling.size + int(cards["PCOUNT"])])
    tiles = np.empty((tiling.rows, tiling.columns), np.int32)
    lengths, offsets = descriptors(table)
    jobs = [(heap, offsets, lengths, tiling.width, *band, tiles) for band in parallel.bands(tiling.rows, threads)]
    bad = [row for row in parallel.run(rice_decode, jobs, threads) if row >= 0]
    if bad:
        raise CorruptFileError(name, f"the code of row {bad[0]} runs out", "a whole tile")
    return values(tiles, table, 0, tiling, cards)


def values(
    tiles: npt.NDArray[np.int32], table: npt.NDArray[np.uint8], first: int, tiling: Tiling, cards: dict[str, Any]
) -> npt.NDArray[Any]:
    """Pixels of decoded rows from ``first`` on."""
    if cards.get("ZBITPIX") != -32:
        return scaled(tiles if tiling.width == 4 else tiles.astype(np.int16), cards)
    beside = np.ascontiguousarray(table[:, 8:]).view(">f8").astype(np.float64)
    return quantization.restore(
        tiles, np.ascontiguousarray(beside[:, 0]), np.ascontiguousarray(beside[:, 1]), first, cards
    )


def scaled(image: npt.NDArray[Any], cards: dict[str, Any]) -> npt.NDArray[Any]:
    """Pixels with BZERO and BSCALE applied; unsigned integers stay integers, undefined ones (BLANK) are NaN."""
    zero, scale = cards.get("BZERO", 0), cards.get("BSCALE", 1)
    blank = cards.get("ZBLANK", cards.get("BLANK")) if image.dtype.kind in "iu" else None
    if isinstance(blank, int) and not isinstance(blank, bool):
        return np.where(image == blank, np.nan, image * np.float64(scale) + np.float64(zero))
    if (zero, scale) == (0, 1):
        return image
    if (zero, scale) == (32768, 1) and image.dtype == np.int16:
        return (image.view(np.uint16) ^ np.uint16(0x8000)).astype(np.uint16)
    return image * np.float64(scale) + np.float64(zero)
