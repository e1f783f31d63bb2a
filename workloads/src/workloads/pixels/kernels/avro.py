"""Avro encoding from columns."""

from __future__ import annotations

import numpy as np

from workloads.pixels.kernels import helper, kernel

INTEGER, FLOAT, DOUBLE, BOOLEAN, BYTES, RECORD, ARRAY = 0, 1, 2, 3, 4, 5, 6


@helper
def _varint(buffer, at, value):
    """Zigzag, then seven bits a byte, lowest first."""
    left = (np.uint64(value) << np.uint64(1)) ^ np.uint64(value >> np.int64(63))
    while left >= np.uint64(0x80):
        buffer[at] = np.uint8((left & np.uint64(0x7F)) | np.uint64(0x80))
        left >>= np.uint64(7)
        at += 1
    buffer[at] = np.uint8(left)
    return at + 1


@helper
def _fixed(buffer, at, value, count):
    """Write the lowest ``count`` bytes, little end first."""
    for k in range(count):
        buffer[at + k] = np.uint8((value >> np.uint64(8 * k)) & np.uint64(0xFF))
    return at + count


@helper
def _blob(buffer, at, blob, start, length):
    at = _varint(buffer, at, np.int64(length))
    for k in range(length):
        buffer[at + k] = blob[start + k]
    return at + length


@helper
def _flat_record(buffer, at, fields, first, last, base, row, values, nulls, spans, blob):
    """One record whose fields are all primitive; ``fields`` rows are kind, nullable, column, spare."""
    index = base + row * (last - first)
    for f in range(first, last):
        slot = index + fields[f, 2]
        if fields[f, 1]:
            if nulls[slot]:
                buffer[at] = np.uint8(0)
                at += 1
                continue
            buffer[at] = np.uint8(2)
            at += 1
        value, kind = values[slot], fields[f, 0]
        if kind == FLOAT:
            at = _fixed(buffer, at, value, 4)
        elif kind == DOUBLE:
            at = _fixed(buffer, at, value, 8)
        elif kind == INTEGER:
            at = _varint(buffer, at, np.int64(value))
        elif kind == BOOLEAN:
            buffer[at] = np.uint8(value)
            at += 1
        else:
            at = _blob(buffer, at, blob, spans[np.int64(value), 0], spans[np.int64(value), 1])
    return at


@kernel(
    "void(i8[:,::1], i8[:,::1], i8[:,::1], u8[::1], u1[::1], i8[:,::1], u1[::1], i8[::1], i8, u1[::1], i8, i8, i8[::1])",
    fast=False,
)
def encode_rows(fields, programs, ragged, values, nulls, spans, blob, starts, schema_id, buffer, first, last, ends):
    """Encode rows ``first`` to ``last``, each from its own start in the buffer; ``ends`` receives where it stopped.

    ``programs`` rows are first field, last field, base slot of a record type; program 0 is the packet. ``ragged`` row
    ``p`` holds the offsets of program ``p``'s rows in each packet, where it is the item of an array.
    """
    for row in range(first, last):
        at = starts[row]
        buffer[at] = np.uint8(0)
        for k in range(4):
            buffer[at + 1 + k] = np.uint8((schema_id >> (8 * (3 - k))) & 0xFF)
        at += 5
        begin, stop, base = programs[0, 0], programs[0, 1], programs[0, 2]
        for f in range(begin, stop):
            kind = fields[f, 0]
            if kind < RECORD:
                at = _flat_record(
                    buffer, at, fields, f, f + 1, base + row * (stop - begin), 0, values, nulls, spans, blob
                )
                continue
            if fields[f, 1]:
                if nulls[base + row * (stop - begin) + fields[f, 2]]:
                    buffer[at] = np.uint8(0)
                    at += 1
                    continue
                buffer[at] = np.uint8(2)
                at += 1
            p = fields[f, 3]
            if kind == RECORD:
                at = _flat_record(
                    buffer, at, fields, programs[p, 0], programs[p, 1], programs[p, 2], row, values, nulls, spans, blob
                )
                continue
            count = ragged[p, row + 1] - ragged[p, row]
            if count > 0:
                at = _varint(buffer, at, count)
                for item in range(ragged[p, row], ragged[p, row + 1]):
                    at = _flat_record(
                        buffer,
                        at,
                        fields,
                        programs[p, 0],
                        programs[p, 1],
                        programs[p, 2],
                        item,
                        values,
                        nulls,
                        spans,
                        blob,
                    )
            buffer[at] = np.uint8(0)
            at += 1
        ends[row] = at
