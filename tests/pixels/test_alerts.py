"""Packets must be fastavro's, byte for byte, and readable by the stock package."""

import io

import fastavro
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lsst.alert.packet import Schema

from workloads.pixels.alerts import Encoder, Ragged, Record
from workloads.pixels.errors import EncodingError

SCHEMA = Schema.from_file().definition


@pytest.fixture(scope="module")
def encoder():
    return Encoder()


def _record_fields(name):
    for field in SCHEMA["fields"]:
        if field["name"] == name:
            kind = field["type"][1] if isinstance(field["type"], list) else field["type"]
            kind = kind["items"] if isinstance(kind, dict) and kind["type"] == "array" else kind
            return (SCHEMA["__named_schemas"][kind] if isinstance(kind, str) else kind)["fields"]
    raise KeyError(name)


def _random_columns(rng, fields, count, nulls=0.3):
    columns, rows = {}, [{} for _ in range(count)]
    for field in fields:
        kind, nullable = field["type"], False
        if isinstance(kind, list):
            kind, nullable = kind[1], True
        kind = kind["type"] if isinstance(kind, dict) else kind
        if kind in {"int", "long"}:
            bits = rng.integers(0, 31 if kind == "int" else 62, count)
            values = (rng.integers(-(2**62), 2**62, count) >> (62 - bits)).astype(np.int64)
        elif kind in {"float", "double"}:
            values = rng.normal(size=count).astype("f4" if kind == "float" else "f8")
        elif kind == "boolean":
            values = rng.random(count) < 0.5
        else:
            values = np.array(["é" * int(n) + "x" for n in rng.integers(0, 80, count)], object)
        absent = (rng.random(count) < nulls) if nullable else np.zeros(count, bool)
        if kind == "string":
            columns[field["name"]] = [None if a else v for v, a in zip(values, absent, strict=True)]
        else:
            columns[field["name"]] = np.ma.MaskedArray(values, absent)
        for row, value, null in zip(rows, values, absent, strict=True):
            row[field["name"]] = None if null else value.item() if hasattr(value, "item") else value
    return columns, rows


def make_batch(seed, count):
    rng = np.random.default_rng(seed)
    columns, rows = {}, [{} for _ in range(count)]
    identifiers = rng.integers(0, 2**60, count)
    columns["diaSourceId"] = identifiers
    for row, value in zip(rows, identifiers, strict=True):
        row["diaSourceId"] = int(value)
    for name in ("observation_reason", "target_name"):
        columns[name] = [None if rng.random() < 0.5 else name for _ in rows]
        for row, value in zip(rows, columns[name], strict=True):
            row[name] = value
    for name in ("diaSource", "diaObject", "ssSource", "mpc_orbits"):
        inner, values = _random_columns(rng, _record_fields(name), count)
        present = np.ones(count, bool) if name == "diaSource" else rng.random(count) < 0.6
        columns[name] = Record(inner, present)
        for row, value, there in zip(rows, values, present, strict=True):
            row[name] = value if there else None
    for name in ("prvDiaSources", "prvDiaForcedSources"):
        offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 4, count))])
        inner, values = _random_columns(rng, _record_fields(name), int(offsets[-1]))
        present = rng.random(count) < 0.8
        columns[name] = Ragged(offsets, inner, present)
        for i, row in enumerate(rows):
            row[name] = values[offsets[i] : offsets[i + 1]] if present[i] else None
    for name in ("cutoutDifference", "cutoutScience", "cutoutTemplate"):
        columns[name] = [None if rng.random() < 0.1 else rng.bytes(int(rng.integers(0, 5000))) for _ in rows]
        for row, value in zip(rows, columns[name], strict=True):
            row[name] = value
    return columns, rows


def reference(row):
    stream = io.BytesIO()
    stream.write(b"\0" + (1101).to_bytes(4, "big"))
    fastavro.schemaless_writer(stream, SCHEMA, row)
    return stream.getvalue()


@pytest.mark.parametrize("threads", [1, 2])
def test_bytes_are_fastavros(encoder, threads):
    columns, rows = make_batch(1, 700)
    packets = encoder.encode(columns, len(rows), threads)
    assert [bytes(p) for p in packets] == [reference(row) for row in rows]


def test_stock_package_reads_them(encoder):
    columns, rows = make_batch(2, 20)
    packets = encoder.encode(columns, 20)
    decoded = Schema.from_file().deserialize(packets[7][5:])
    assert decoded["diaSourceId"] == rows[7]["diaSourceId"]
    assert decoded["diaSource"]["ra"] == rows[7]["diaSource"]["ra"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.integers(0, 12))
def test_any_batch(seed, count):
    columns, rows = make_batch(seed, count)
    assert list(Encoder().encode(columns, count)) == [reference(row) for row in rows]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nonsense": np.zeros(3)}, "unknown names"),
        ({"diaSourceId": np.zeros(2, np.int64)}, "2 values"),
        ({"diaSourceId": np.zeros(3)}, "elements of float64"),
        ({"diaSourceId": None}, "missing"),
        ({"diaSource": None}, "missing"),
        ({"prvDiaSources": Ragged(np.array([0, 2, 1, 3]), {})}, "rising"),
        ({"diaObject": np.zeros(3)}, "ndarray"),
    ],
)
def test_wrong_columns_are_named(encoder, change, message):
    columns, _ = make_batch(3, 3)
    with pytest.raises(EncodingError, match=message):
        encoder.encode(columns | change, 3)


def test_nan_is_null_where_null_is_allowed(encoder):
    columns, _ = make_batch(4, 1)
    inner = dict(columns["diaSource"].columns)
    inner["psfFlux"] = np.array([np.nan], np.float32)
    packet = encoder.encode(columns | {"diaSource": Record(inner)}, 1)[0]
    assert Schema.from_file().deserialize(packet[5:])["diaSource"]["psfFlux"] is None


def test_other_schemas_are_refused():
    deep = {"type": "record", "name": "a", "fields": [{"name": "b", "type": {"type": "map", "values": "int"}}]}
    with pytest.raises(EncodingError, match="map"):
        Encoder(deep)
