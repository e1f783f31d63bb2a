"""Alert packets: columns of a whole visit to Confluent-framed Avro, by a plan made once from the schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from lsst.alert.packet import Schema, get_latest_schema_version

from workloads.pixels import parallel
from workloads.pixels.errors import EncodingError
from workloads.pixels.kernels.avro import ARRAY, BOOLEAN, BYTES, DOUBLE, FLOAT, INTEGER, RECORD, encode_rows

Columns = Mapping[str, Any]
_KINDS = {
    "int": INTEGER,
    "long": INTEGER,
    "float": FLOAT,
    "double": DOUBLE,
    "boolean": BOOLEAN,
    "string": BYTES,
    "bytes": BYTES,
}
_WIDEST = {INTEGER: 11, FLOAT: 5, DOUBLE: 9, BOOLEAN: 2, BYTES: 11, RECORD: 1, ARRAY: 12}
"""Most bytes that a field takes beside its text: union branch, length, block ends."""


@dataclass(frozen=True)
class Record:
    """A nested record per packet.

    Parameters
    ----------
    columns
        Arrays by field name, one value per packet.
    present
        Which packets have it (default: all); the others hold null.
    """

    columns: Columns
    present: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Ragged:
    """An array of records per packet.

    Parameters
    ----------
    offsets
        ``int64[n + 1]``: packet ``i`` has rows ``offsets[i]`` to ``offsets[i + 1]`` of the columns.
    columns
        Arrays by field name, over all packets' rows.
    present
        Which packets have the array at all (default: all); the others hold null.
    """

    offsets: npt.NDArray[np.int64]
    columns: Columns
    present: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Packets(Sequence[bytes]):
    """Encoded packets in one buffer."""

    buffer: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.buffer[self.starts[index] : self.ends[index]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        view = memoryview(self.buffer.data)
        for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True):
            yield bytes(view[start:end])


@dataclass(frozen=True)
class _Field:
    name: str
    kind: int
    nullable: bool
    program: int = -1


@dataclass
class _Store:
    """Slots of all columns, as bits, while a batch is laid out."""

    values: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    nulls: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    blobs: list[bytes] = field(default_factory=list)
    slots: int = 0
    blob_size: int = 0

    def text(self, value: str | bytes | memoryview) -> int:
        """Keep a text, return its number."""
        data = value.encode() if isinstance(value, str) else bytes(value)
        self.spans.append((self.blob_size, len(data)))
        self.blobs.append(data)
        self.blob_size += len(data)
        return len(self.spans) - 1


class Encoder:
    """Encode packets of one schema.

    Parameters
    ----------
    schema
        A parsed Avro record schema: primitive fields, flat records and arrays of flat records, each perhaps in a union
        with null first. Default: the newest schema of ``lsst.alert.packet``.
    schema_id
        Number in the Confluent frame (default: 100 major + minor).
    nan_is_null
        Write null for NaN in fields that may be null.

    Raises
    ------
    EncodingError
        The schema holds something else.
    """

    def __init__(
        self, schema: Mapping[str, Any] | None = None, schema_id: int | None = None, *, nan_is_null: bool = True
    ) -> None:
        if schema is None:
            schema, schema_id = _newest(schema_id)
        self.schema_id = schema_id or 1
        self.nan_is_null = nan_is_null
        self._programs: list[list[_Field]] = [[]]
        known: dict[str, Mapping[str, Any]] = {}
        self._programs[0] = [self._field(f, known, top=True) for f in schema["fields"]]
        self._fields, self._bounds = self._flatten()

    def encode(self, columns: Columns, count: int, threads: int | None = None) -> Packets:
        """Encode ``count`` packets.

        Parameters
        ----------
        columns
            By field name: arrays (masked arrays: masked is null), sequences of ``str``, ``bytes`` or None, `Record` or
            `Ragged`. A field that may be null may be left out.

        Raises
        ------
        EncodingError
            A column is missing, unknown, of the wrong length or type.
        """
        store = _Store()
        lengths = [count] * len(self._programs)
        ragged = np.zeros((len(self._programs), count + 1), np.int64)
        nested: dict[int, Columns] = {}
        for item in self._programs[0]:
            value = columns.get(item.name)
            if item.kind == ARRAY and isinstance(value, Ragged):
                ragged[item.program] = _offsets(item.name, value, count)
                lengths[item.program] = int(value.offsets[-1])
            if item.kind >= RECORD:
                nested[item.program] = (
                    {}
                    if value is None
                    else value.columns
                    if isinstance(value, (Record, Ragged))
                    else _refuse(item.name, value)
                )
                lengths[item.program] = lengths[item.program] if value is not None else 0
        bases = [self._fill(store, p, columns if p == 0 else nested[p], lengths[p]) for p in range(len(self._programs))]
        return self._run(store, bases, ragged, lengths, count, threads)

    def _run(
        self,
        store: _Store,
        bases: list[int],
        ragged: npt.NDArray[np.int64],
        lengths: list[int],
        count: int,
        threads: int | None,
    ) -> Packets:
        values = np.concatenate(store.values) if store.values else np.zeros(1, np.uint64)
        nulls = np.concatenate(store.nulls) if store.nulls else np.zeros(1, np.uint8)
        spans = np.array(store.spans, np.int64).reshape(-1, 2) if store.spans else np.zeros((1, 2), np.int64)
        blob = np.frombuffer(bytearray().join(store.blobs) or bytearray(1), np.uint8)
        limits = np.cumsum([0] + [len(p) for p in self._programs])
        programs = np.array([(limits[p], limits[p + 1], bases[p]) for p in range(len(self._programs))], np.int64)
        sizes = self._sizes(programs, values, nulls, spans, ragged, lengths, count)
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64) if count else np.zeros(0, np.int64)
        buffer, ends = np.empty(int(sizes.sum()) + 8, np.uint8), np.empty(count, np.int64)
        jobs = [
            (self._fields, programs, ragged, values, nulls, spans, blob, starts, self.schema_id, buffer, *band, ends)
            for band in parallel.bands(count, threads, 256)
        ]
        if count:
            parallel.run(encode_rows, jobs, threads)
        return Packets(buffer, starts, ends)

    def _sizes(
        self, programs: npt.NDArray[np.int64], values: npt.NDArray[np.uint64], nulls: npt.NDArray[np.uint8],
        spans: npt.NDArray[np.int64], ragged: npt.NDArray[np.int64], lengths: list[int], count: int,
    ) -> npt.NDArray[np.int64]:  # fmt: skip
        """Bytes that each packet takes at most."""
        total = np.full(count, 5 + self._bounds[0], np.int64)
        for p, fields in enumerate(self._programs):
            texts = [i for i, f in enumerate(fields) if f.kind == BYTES]
            rows = np.full(lengths[p], 0 if p == 0 else self._bounds[p], np.int64)
            base, width = int(programs[p, 2]), len(fields)
            for i in texts:
                slots = slice(base + i, base + lengths[p] * width, width)
                rows += np.where(nulls[slots] > 0, 0, spans[values[slots].astype(np.int64), 1])
            if lengths[p] == count and not ragged[p].any():
                total += rows
            elif lengths[p]:
                running = np.concatenate([[0], np.cumsum(rows)])
                total += running[ragged[p, 1:]] - running[ragged[p, :-1]]
        return total

    def _field(self, spec: Mapping[str, Any], known: dict[str, Mapping[str, Any]], *, top: bool) -> _Field:
        kind, nullable = spec["type"], False
        if isinstance(kind, list):
            if len(kind) != 2 or kind[0] != "null":
                raise EncodingError(f"schema field {spec['name']}", f"union {kind}", "null first, then one type")
            kind, nullable = kind[1], True
        name = kind if isinstance(kind, str) else kind.get("type")
        if name in _KINDS:
            return _Field(spec["name"], _KINDS[name], nullable)
        if not top:
            raise EncodingError(
                f"schema field {spec['name']}", f"nested type {name}", "a primitive type within a record"
            )
        items = kind["items"] if name == "array" else kind
        record = known.get(items) if isinstance(items, str) else items
        if not isinstance(record, Mapping) or record.get("type") != "record":
            raise EncodingError(f"schema field {spec['name']}", f"type {name}", "a record or an array of records")
        full = record["name"] if "." in record["name"] else f"{record.get('namespace', '')}.{record['name']}".strip(".")
        known[full] = known[record["name"]] = record
        self._programs.append([self._field(f, known, top=False) for f in record["fields"]])
        return _Field(spec["name"], ARRAY if name == "array" else RECORD, nullable, len(self._programs) - 1)

    def _flatten(self) -> tuple[npt.NDArray[np.int64], list[int]]:
        rows = [(f.kind, int(f.nullable), i, f.program) for fields in self._programs for i, f in enumerate(fields)]
        return np.array(rows, np.int64), [sum(_WIDEST[f.kind] for f in fields) for fields in self._programs]

    def _fill(self, store: _Store, program: int, columns: Columns, count: int) -> int:
        """Lay out one record type's columns as a matrix of slots; return its first slot."""
        fields = self._programs[program]
        unknown = set(columns) - {f.name for f in fields}
        if unknown:
            raise EncodingError("columns", f"unknown names {sorted(unknown)}", "fields of the schema")
        values, nulls = np.zeros((count, len(fields)), np.uint64), np.zeros((count, len(fields)), np.uint8)
        for i, f in enumerate(fields):
            column = columns.get(f.name)
            if column is None:
                if not f.nullable and count:
                    raise EncodingError(f"column {f.name}", "missing", "a value per row, for the field may not be null")
                nulls[:, i] = 1
            elif f.kind >= RECORD:
                if column.present is not None:
                    nulls[:, i] = ~np.asarray(column.present, bool)
            else:
                self._column(store, f, column, count, values[:, i], nulls[:, i])
        base = store.slots
        store.values.append(values.ravel())
        store.nulls.append(nulls.ravel())
        store.slots += values.size
        return base

    def _column(
        self,
        store: _Store,
        f: _Field,
        column: Any,
        count: int,
        values: npt.NDArray[np.uint64],
        nulls: npt.NDArray[np.uint8],
    ) -> None:
        if len(column) != count:
            raise EncodingError(f"column {f.name}", f"{len(column)} values", f"{count}")
        if f.kind == BYTES:
            if isinstance(column, np.ndarray):
                column = column.tolist()
            nulls[:] = [value is None for value in column]
            values[:] = [0 if value is None else store.text(value) for value in column]
        else:
            absent = np.ma.getmaskarray(column) if isinstance(column, np.ma.MaskedArray) else None
            array = np.asarray(column)
            values[:] = _bits(f, array)
            if absent is not None:
                nulls[:] = absent
            if self.nan_is_null and f.nullable and array.dtype.kind == "f":
                nulls[:] |= np.isnan(array)
        if not f.nullable and nulls.any():
            raise EncodingError(f"column {f.name}", "null values", "a value per row, for the field may not be null")


def _bits(f: _Field, array: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    if array.dtype.kind not in "biuf" or (f.kind in {INTEGER, BOOLEAN} and array.dtype.kind == "f"):
        raise EncodingError(f"column {f.name}", f"elements of {array.dtype}", "numbers of the schema's type")
    if f.kind == FLOAT:
        return np.ascontiguousarray(array, "<f4").view("<u4").astype(np.uint64)
    if f.kind == DOUBLE:
        return np.ascontiguousarray(array, "<f8").view(np.uint64)
    if f.kind == BOOLEAN:
        return array.astype(bool).astype(np.uint64)
    return np.ascontiguousarray(array, np.int64).view(np.uint64)


def _offsets(name: str, value: Ragged, count: int) -> npt.NDArray[np.int64]:
    offsets = np.asarray(value.offsets, np.int64)
    if offsets.shape != (count + 1,) or offsets[0] != 0 or (np.diff(offsets) < 0).any():
        raise EncodingError(f"offsets of {name}", f"shape {offsets.shape}", f"{count + 1} rising numbers from 0")
    return offsets


def _refuse(name: str, value: Any) -> Columns:
    raise EncodingError(f"column {name}", f"a {type(value).__name__}", "Record, Ragged or None")


def _newest(schema_id: int | None) -> tuple[Mapping[str, Any], int]:
    """Newest schema of the package and its number."""
    major, minor = get_latest_schema_version()
    return Schema.from_file().definition, schema_id or 100 * major + minor
