"""Reads every raw file back from every store: its digest, and whether the pixels are those that the camera read out.

The receipts of the brokers are read as well: what each of the full streams really delivered.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

from workloads.broker.groups import BUCKET, GROUPS, receipts
from workloads.common.errors import WorkloadError
from workloads.common.names import ExposureName
from workloads.common.raw import decode_raw
from workloads.common.s3 import Item, MissingObjectError, Store, sha256
from workloads.common.settings import Settings
from workloads.common.times import tai_to_utc
from workloads.report.facts import lines

RAW = "raw"
SITES = ("summit", "base", "ncsa")
_RECEIPTS_SECONDS = 20.0
"""How long brokers may be behind the independent consumer before what they lack is missing."""


def read_stores(folder: Path) -> int:
    """Write `stores.jsonl`: one line per detector and exposure that the camera's ledger has."""
    settings = Settings.load()
    stores = {site: Store(settings, site, RAW) for site in SITES}
    facts = [json.loads(line) for line in (folder / "exposures.jsonl").read_text().splitlines()]
    with ThreadPoolExecutor(4) as pool, (folder / "stores.jsonl").open("w") as output:
        for line in pool.map(lambda fact: examine(stores, fact), facts):
            output.write(json.dumps(line) + "\n")
    read_receipts(Store(settings, settings.site.site, BUCKET), folder)
    return 0


def read_receipts(store: Store, folder: Path) -> None:
    """Write `receipts.jsonl`: one line per broker and alert of the night that it has checked and kept.

    A receipt may be there twice, as an alert may be delivered twice.
    """
    visits, wanted = set[int](), 0
    for row in lines(folder / "alerts.jsonl"):
        wanted += len(GROUPS)
        if "error" not in row:
            visits.add(row["visit"])
    begun = float(json.loads((folder / "night.json").read_text())["begun"])
    deadline = time.monotonic() + _RECEIPTS_SECONDS
    read, kept = set[Item](), 0
    with (folder / "receipts.jsonl").open("w") as output:
        while True:
            before = kept
            for group, item in _objects(store, begun):
                if item not in read:
                    read.add(item)
                    kept += _keep(store.get(BUCKET, item.key), group, visits, output)
            if (kept >= wanted and kept == before) or time.monotonic() > deadline:
                break
            time.sleep(0.0 if kept >= wanted else 2.0)


def _keep(data: bytes, group: str, visits: set[int], output: TextIO) -> int:
    """Write the receipts of these visits in an object, and return how many those are."""
    rows = [row for row in map(json.loads, data.splitlines()) if row.get("visit") in visits]
    output.writelines(f"{json.dumps({'group': group, **row})}\n" for row in rows)
    return len(rows)


def _objects(store: Store, begun: float) -> Iterator[tuple[str, Item]]:
    """Yield group and object of all receipts since `begun` (TAI seconds): former nights have theirs there too."""
    for group in GROUPS:
        for item in store.list(BUCKET, receipts(group)):
            if item.modified >= tai_to_utc(begun):
                yield group, item


def examine(stores: dict[str, Store], fact: dict[str, Any]) -> dict[str, Any]:
    """Return digest or error of one file at each site, and whether the pixels are the camera's."""
    key = ExposureName.from_obs_id(fact["obsId"]).key(fact["detector"])
    line: dict[str, Any] = {
        "obsId": fact["obsId"],
        "detector": fact["detector"],
        "sites": {},
        "errors": {},
        "pixels": {},
    }
    for site, store in stores.items():
        try:
            data = store.get(RAW, key)
            line["sites"][site] = sha256(data)
            pixels, _, _ = decode_raw(data, key)
            line["pixels"][site] = hashlib.sha256(pixels.astype("<u2").tobytes()).hexdigest() == fact["sha256"]
        except MissingObjectError:
            line["errors"][site] = "no such object"
        except WorkloadError as error:
            line["errors"][site] = str(error)
    return line
