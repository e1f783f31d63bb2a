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
from typing import Any

from workloads.broker.groups import BUCKET, GROUPS, receipts
from workloads.common.errors import WorkloadError
from workloads.common.names import ExposureName
from workloads.common.raw import decode_raw
from workloads.common.s3 import Item, MissingObjectError, Store, sha256
from workloads.common.settings import Settings
from workloads.common.times import tai_to_utc

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
    """Write `receipts.jsonl`: one line per broker and alert of the night that it has checked and kept."""
    alerts = [json.loads(line) for line in (folder / "alerts.jsonl").read_text().splitlines()]
    visits = {row["visit"] for row in alerts if "error" not in row}
    begun = float(json.loads((folder / "night.json").read_text())["begun"])
    deadline = time.monotonic() + _RECEIPTS_SECONDS
    read: dict[Item, list[dict[str, Any]]] = {}
    while True:
        for group, item in _objects(store, begun):
            if item not in read:
                lines = store.get(BUCKET, item.key).decode().splitlines()
                read[item] = [{"group": group, **json.loads(line)} for line in lines]
        kept = {
            (row["group"], row["sha256"]): row for rows in read.values() for row in rows if row.get("visit") in visits
        }
        if len(kept) >= len(GROUPS) * len(alerts) or time.monotonic() > deadline:
            break
        time.sleep(2.0)
    (folder / "receipts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept.values()))


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
