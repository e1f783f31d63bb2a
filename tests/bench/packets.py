"""Encoding alerts of a visit."""

from __future__ import annotations

import io
from typing import Any

import fastavro
from lsst.alert.packet import Schema

from pixels.test_alerts import make_batch
from workloads.pixels.alerts import Encoder

from .harness import Verdict, compare, versions


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Compare with fastavro, which is given dictionaries ready made and the schema parsed once."""
    count = 1000 if quick else 10_000
    columns, rows = make_batch(1, count)
    schema, encoder = Schema.from_file().definition, Encoder()

    def ours() -> list[bytes]:
        return list(encoder.encode(columns, count, threads))

    def theirs() -> list[bytes]:
        packets = []
        for row in rows:
            stream = io.BytesIO()
            stream.write(b"\0\0\0\x04\x4d")
            fastavro.schemaless_writer(stream, schema, row)
            packets.append(stream.getvalue())
        return packets

    def equal(a: list[bytes], b: list[bytes]) -> dict[str, Any]:
        assert a == b, "packets differ"
        return {"packets": count, "mean_bytes": sum(map(len, a)) / count, **versions("fastavro", "lsst-alert-packet")}

    return [compare("packets", "fastavro", ours, theirs, 5.0, equal=equal, pairs=5 if quick else 9)]
