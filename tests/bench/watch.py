"""Whose alert a packet is: what alert distribution reads of each, against decoding it."""

from __future__ import annotations

import io
import time
from types import SimpleNamespace
from typing import Any

import fastavro
from lsst.alert.packet import Schema

from pixels.test_alerts import make_batch
from workloads.alert_distribution.watch import OriginReader, Watch
from workloads.common.consume import Delivery
from workloads.pixels.alerts import Encoder

from .harness import Verdict, compare, versions

_HISTORY = 50
"""Earlier detections in a packet: a year of visits of a field."""
_PER_SECOND = 2000.0


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Compare with fastavro, which decodes packets whole; one core on either side."""
    count = 500 if quick else 2000
    columns, _ = make_batch(1, count)
    schema = fastavro.parse_schema(_plain(Schema.from_file().definition))
    packets = [_with_history(packet, schema) for packet in Encoder().encode(columns, count, threads)]
    messages: list[Any] = [
        SimpleNamespace(role="alerts", where=("alerts", 0), offset=number, value=packet)
        for number, packet in enumerate(packets)
    ]
    reader = OriginReader(SimpleNamespace(schema=lambda _: {}))

    def ours() -> list[tuple[int, int]]:
        watch: Any = Watch(None, {}, "bench")  # type: ignore[arg-type]
        deliveries = [Delivery(message, reader(message)) for message in messages]
        watch.take(deliveries)
        return [(one.content.visit, one.content.detector) for one in deliveries]

    def theirs() -> list[tuple[int, int]]:
        found = []
        for message in messages:
            source: Any = fastavro.schemaless_reader(io.BytesIO(message.value[5:]), schema, None)["diaSource"]  # type: ignore[index,call-overload]
            found.append((source["visit"], source["detector"]))
        return found

    def equal(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> dict[str, Any]:
        assert a == b, "origins differ"
        begun = time.perf_counter()
        ours()
        rate = count / (time.perf_counter() - begun)
        assert rate >= _PER_SECOND, f"{rate:.0f} packets a second, expected at least {_PER_SECOND:g}"
        mean = sum(map(len, packets)) / count
        return {"packets": count, "mean_bytes": mean, "packets_per_second": round(rate), **versions("fastavro")}

    return [compare("watch", "fastavro", ours, theirs, 8.0, equal=equal, pairs=7 if quick else 9)]


def _plain(schema: Any) -> Any:
    """Return a schema whose numbers are numbers: the times of these packets are none."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if isinstance(schema, dict):
        return {
            key: _plain(value) for key, value in schema.items() if key != "logicalType" and not key.startswith("__")
        }
    return schema


def _with_history(packet: bytes, schema: Any) -> bytes:
    """Return a packet with a year of earlier detections."""
    content: Any = fastavro.schemaless_reader(io.BytesIO(packet[5:]), schema, None)
    content["prvDiaSources"] = [content["diaSource"]] * _HISTORY
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema, content)
    return packet[:5] + body.getvalue()
