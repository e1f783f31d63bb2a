"""Tables of millions of rows: read as batches of columns, never as rows, and never as a whole."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from workloads.common.errors import NonRetriableError

_BLOCK_BYTES = 1 << 23
_ROWS = 50_000
_DIGEST_LENGTH, _USED = 64, 16
"""Characters of a digest, and those of them that tell digests apart: 64 bits; of ten million, two are alike once in 400,000 nights."""
_NIBBLES = np.full(256, 255, np.uint8)
_NIBBLES[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16, dtype=np.uint8)
_SHIFTS = np.arange(4 * (_USED - 1), -1, -4, dtype=np.uint64)
Array = npt.NDArray[Any]


class _WholeLines(io.RawIOBase):
    """A file up to the end of its last whole line: it may still grow."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._left = self._end()
        self._file.seek(0)

    def _end(self) -> int:
        end = self._file.seek(0, io.SEEK_END)
        while end > 0:
            begin = max(0, end - 65536)
            self._file.seek(begin)
            newline = self._file.read(end - begin).rfind(b"\n")
            if newline >= 0:
                return begin + newline + 1
            end = begin
        return 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def batches(rows: Iterable[Any], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield some columns of the rows of a file, or of rows that are at hand; what a row does not have is null.

    Raises
    ------
    NonRetriableError
        If a line of the file is no row with such columns.
    """
    path = getattr(rows, "path", None)
    if path is None:
        left = iter(rows)
        while part := list(islice(left, _ROWS)):
            yield pa.RecordBatch.from_pylist(part, schema=schema)
        return
    if not path.exists():
        return
    with _WholeLines(path) as lines:
        first = lines.read(1)
        if not first:
            return
    with _WholeLines(path) as lines:
        options = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        reading = pyarrow.json.ReadOptions(block_size=_BLOCK_BYTES)
        try:
            yield from pyarrow.json.open_json(pa.PythonFile(lines, mode="r"), reading, options)
        except pa.ArrowInvalid as error:
            raise NonRetriableError(
                f"{path}: not read: {error}; expected rows with {', '.join(schema.names)}"
            ) from error


def prefixes(texts: pa.StringArray) -> npt.NDArray[np.uint64]:
    """Return the first 64 bits of digests that are written in hexadecimal."""
    lengths = pc.binary_length(texts).to_numpy(zero_copy_only=False)
    if len(lengths) and (lengths == _DIGEST_LENGTH).all():
        data = np.frombuffer(texts.buffers()[2], np.uint8)
        begin = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset]
        signs = data[begin : begin + len(texts) * _DIGEST_LENGTH].reshape(-1, _DIGEST_LENGTH)[:, :_USED]
        nibbles = _NIBBLES[signs]
        if nibbles.max() < 16:
            return np.asarray(np.bitwise_or.reduce(nibbles.astype(np.uint64) << _SHIFTS, axis=1), np.uint64)
    return np.array([_prefix(text or "") for text in texts.to_pylist()], np.uint64)


def _prefix(text: str) -> int:
    """Return the same of one text; of what is no digest, that of its own."""
    if len(text) != _DIGEST_LENGTH or set(text) - set("0123456789abcdef"):
        text = hashlib.sha256(text.encode()).hexdigest()
    return int(text[:_USED], 16)


def numbers(column: pa.Array, kind: Any, unknown: float) -> Array:
    """Return a column as an array of numbers, with a value for what is not known."""
    return np.asarray(column.fill_null(unknown).to_numpy(zero_copy_only=False), kind)
