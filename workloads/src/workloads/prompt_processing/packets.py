"""Alert packets: made from the sources of one detector, kept as one object before anybody else hears of them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workloads.common import schemas
from workloads.common.names import ExposureName
from workloads.common.s3 import MissingObjectError, Store
from workloads.pixels.alerts import Encoder, Ragged, Record
from workloads.pixels.chain import DifferenceResult
from workloads.pixels.fits_io import encode_primary
from workloads.pixels.images import Floats, cutout

BUCKET = "alerts"
VERSION = "11.1"
CUTOUT_PIXELS = 31
_RESULT = "result.json"
_NUMPY = {"int": np.int64, "long": np.int64, "float": np.float32, "double": np.float64, "boolean": np.bool_}


@dataclass(frozen=True)
class Packets:
    """The alerts of one detector of one visit, as messages by source id, and the figures of its processing.

    `offset` is that of the message which asked for them: alerts and offset are published together, so a message with
    another offset is a repetition, and the alerts are out. `tag` is that of the object that has them, empty before.
    """

    messages: dict[int, bytes]
    figures: dict[str, float]
    offset: int
    tag: str = ""


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
            data, tag = self._store.get_tagged(BUCKET, _key(exposure, detector))
        except MissingObjectError:
            return None
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if name != _RESULT]
            result = json.loads(archive.read(_RESULT))
            return Packets({int(name): archive.read(name) for name in names}, result["figures"], result["offset"], tag)

    def save(self, exposure: ExposureName, detector: str, packets: Packets) -> None:
        """Keep packets in the place of those with their tag; when this returns, the store has proved their digest.

        Raises
        ------
        ReplacedError
            If others are kept by now: those of the worker that took over from this one.
        """
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(_RESULT, json.dumps({"figures": packets.figures, "offset": packets.offset}))
            for number, message in packets.messages.items():
                archive.writestr(str(number), message)
        self._store.put(BUCKET, _key(exposure, detector), buffer.getvalue(), over=packets.tag)


class PacketMaker:
    """Encodes alerts in the current schema, exactly in wire format."""

    def __init__(self) -> None:
        declared = schemas.alerts()[VERSION]
        self._encoder = Encoder(declared.definition, declared.id)
        self._types = {kind: _types(declared.definition, kind) for kind in ("diaSource", "diaObject")}

    def make(
        self,
        sources: pd.DataFrame,
        objects: pd.DataFrame,
        history: dict[int, list[dict[str, Any]]],
        result: DifferenceResult,
        reason: str,
    ) -> dict[int, bytes]:
        """Return one message per source, by its id."""
        if sources.empty:
            return {}
        ids, owners = sources["diaSourceId"].to_numpy(np.int64), sources["diaObjectId"].to_numpy(np.int64)
        past = [history.get(int(owner), []) for owner in owners]
        offsets = np.cumsum([0, *map(len, past)])
        before = pd.DataFrame([row for rows in past for row in rows])
        images = {"Difference": result.difference, "Science": result.science, "Template": result.template}
        places = sources[["x", "y"]].to_numpy(np.float64).tolist()
        columns = {
            "diaSourceId": ids, "observation_reason": ["science"] * len(ids), "target_name": [reason] * len(ids),
            "diaSource": Record(self._columns("diaSource", sources)),
            "prvDiaSources": Ragged(offsets, self._columns("diaSource", before), np.diff(offsets) > 0),
            "diaObject": Record(self._columns("diaObject", objects.set_index("diaObjectId", drop=False).loc[owners])),
        } | {
            f"cutout{name}": [encode_cutout(image.pixels, x, y, result) for x, y in places] for name, image in images.items()
        }  # fmt: skip
        packets = self._encoder.encode(columns, len(ids), threads=1)
        return dict(zip(ids.tolist(), packets, strict=True))

    def _columns(self, kind: str, table: pd.DataFrame) -> dict[str, Any]:
        return {name: _column(table[name], avro) for name, avro in self._types[kind].items() if name in table}


def encode_cutout(image: Floats, x: float, y: float, result: DifferenceResult) -> bytes:
    """Return a square around a position as FITS bytes: nanojansky, with the position's coordinates."""
    pixels = cutout(image, x, y, CUTOUT_PIXELS) * np.float32(result.nanojansky_per_electron)
    half = CUTOUT_PIXELS // 2
    place = result.wcs.shifted(round(x) - half, round(y) - half).to_header()
    return encode_primary(pixels, {"BUNIT": ("nJy", "unit of the pixels"), **place})


def _key(exposure: ExposureName, detector: str) -> str:
    return f"packets/{exposure.prefix}{exposure.obs_id}_{detector}.zip"


def _types(definition: Mapping[str, Any], kind: str) -> dict[str, str]:
    """Return the fields of a record of the schema and their types, null aside."""
    for field in definition["fields"]:
        for one in _alternatives(field):
            if isinstance(one, dict) and one.get("type") == "record" and one["name"].endswith(f".{kind}"):
                return {inner["name"]: next(t for t in _alternatives(inner) if t != "null") for inner in one["fields"]}
    raise KeyError(kind)


def _alternatives(field: Mapping[str, Any]) -> list[Any]:
    return field["type"] if isinstance(field["type"], list) else [field["type"]]


def _column(values: pd.Series[Any], avro: str) -> Any:
    """Return a column of a table as the encoder takes it; what is not known is null."""
    unknown = values.isna().to_numpy()
    if avro == "string":
        return [None if hidden else value for value, hidden in zip(values, unknown, strict=True)]
    plain = values.where(~unknown, 0).to_numpy(_NUMPY[avro])
    return np.ma.MaskedArray(plain, unknown)
