"""Alert packets: made from the sources of one detector, kept as one object before anybody else hears of them."""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import dataclass
from typing import Any

import fastavro
import numpy as np
import pandas as pd
from astropy.io import fits

from workloads.common import schemas
from workloads.common.avro import frame
from workloads.common.names import ExposureName
from workloads.common.s3 import MissingObjectError, Store
from workloads.pixels.chain import DifferenceResult
from workloads.pixels.images import Floats, cutout

BUCKET = "alerts"
VERSION = "11.1"
CUTOUT_PIXELS = 31
_RESULT = "result.json"


@dataclass(frozen=True)
class Packets:
    """The alerts of one detector of one visit, as messages by source id, and the figures of its processing.

    `offset` is that of the message which asked for them: alerts and offset are published together, so a message with
    another offset is a repetition, and the alerts are out.
    """

    messages: dict[int, bytes]
    figures: dict[str, float]
    offset: int


class PacketStore:
    """Keeps packets in the object store, one archive a detector and visit, named so that a repetition finds it.

    Parameters
    ----------
    store
        The site's store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, exposure: ExposureName, detector: str) -> Packets | None:
        """Return what was kept, or None."""
        try:
            data = self._store.get(BUCKET, _key(exposure, detector))
        except MissingObjectError:
            return None
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if name != _RESULT]
            result = json.loads(archive.read(_RESULT))
            return Packets({int(name): archive.read(name) for name in names}, result["figures"], result["offset"])

    def save(self, exposure: ExposureName, detector: str, packets: Packets) -> None:
        """Keep packets; when this returns, the store has proved their digest."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(_RESULT, json.dumps({"figures": packets.figures, "offset": packets.offset}))
            for number, message in packets.messages.items():
                archive.writestr(str(number), message)
        self._store.put(BUCKET, _key(exposure, detector), buffer.getvalue())


class PacketMaker:
    """Encodes alerts in the current schema, exactly in wire format."""

    def __init__(self) -> None:
        declared = schemas.alerts()[VERSION]
        self._id = declared.id
        self._schema = fastavro.parse_schema(declared.definition)
        self._columns = {kind: _columns(declared.definition, kind) for kind in ("diaSource", "diaObject")}

    def make(
        self,
        sources: pd.DataFrame,
        objects: pd.DataFrame,
        history: dict[int, list[dict[str, Any]]],
        result: DifferenceResult,
        reason: str,
    ) -> dict[int, bytes]:
        """Return one message per source, by its id."""
        by_id = {int(row["diaObjectId"]): row for row in objects.to_dict("records")}
        images = (result.difference.pixels, result.science.pixels, result.template.pixels)
        messages = {}
        for row in sources.to_dict("records"):
            object_id = int(row["diaObjectId"])
            stamps = [encode_cutout(image, row["x"], row["y"], result) for image in images]
            past = [self._record("diaSource", old) for old in history.get(object_id, [])]
            alert = {
                "diaSourceId": int(row["diaSourceId"]), "observation_reason": "science", "target_name": reason,
                "diaSource": self._record("diaSource", row), "prvDiaSources": past or None, "prvDiaForcedSources": None,
                "diaObject": self._record("diaObject", by_id[object_id]), "ssSource": None, "mpc_orbits": None,
                "cutoutDifference": stamps[0], "cutoutScience": stamps[1], "cutoutTemplate": stamps[2],
            }  # fmt: skip
            buffer = io.BytesIO()
            fastavro.schemaless_writer(buffer, self._schema, alert)
            messages[int(row["diaSourceId"])] = frame(self._id, buffer.getvalue())
        return messages

    def _record(self, kind: str, row: dict[str, Any]) -> dict[str, Any]:
        return {name: _plain(row[name]) for name in self._columns[kind] if name in row}


def encode_cutout(image: Floats, x: float, y: float, result: DifferenceResult) -> bytes:
    """Return a square around a position as FITS bytes: nanojansky, with the position's coordinates."""
    pixels = cutout(image, x, y, CUTOUT_PIXELS) * np.float32(result.nanojansky_per_electron)
    hdu = fits.PrimaryHDU(pixels)
    hdu.header["BUNIT"] = ("nJy", "unit of the pixels")
    half = CUTOUT_PIXELS // 2
    for name, (value, comment) in result.wcs.shifted(round(x) - half, round(y) - half).to_header().items():
        hdu.header[name] = (value, comment)
    buffer = io.BytesIO()
    hdu.writeto(buffer)
    return buffer.getvalue()


def _key(exposure: ExposureName, detector: str) -> str:
    return f"packets/{exposure.prefix}{exposure.obs_id}_{detector}.zip"


def _columns(definition: dict[str, Any], kind: str) -> list[str]:
    for field in definition["fields"]:
        types = field["type"] if isinstance(field["type"], list) else [field["type"]]
        for one in types:
            if isinstance(one, dict) and one.get("type") == "record" and one["name"].endswith(f".{kind}"):
                return [column["name"] for column in one["fields"]]
    raise KeyError(kind)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return None
    return value
