"""A detector's sources against ten million objects: associate and store, by the worker's own code on a real PostgreSQL."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import astropy.time
import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import sqlalchemy
from lsst.dax.apdb import ApdbSql
from lsst.dax.apdb.sql import ApdbSqlConfig
from lsst.sphgeom import ConvexPolygon, HtmPixelization, LonLat, UnitVector3d
from pyarrow import csv

from workloads.common.names import ExposureName, dia_source_id
from workloads.prompt_processing import apdb_tables
from workloads.prompt_processing.apdb import AlertDatabase

from . import servers
from .harness import Footprint, Values, Verdict, against, skipped

GOAL_SECONDS = 0.5
"""Of a detector with 200 sources, which is what a visit of 40,000 alerts has."""
SOURCES, KNOWN = 200, 0.8
"""Sources of a detector, and the share of them that is of objects that are known."""
FIELD_DEGREES, DETECTOR_DEGREES = 3.1, 4096 * 0.2 / 3600
HISTORY = 2
"""Earlier detections of an object in the tables: the more there are, the more each packet holds."""
_NIGHT, _MJD = 20260901, 61284.0
_CHUNK = 250_000


@dataclass(frozen=True)
class Sky:
    """Objects on fields of a survey.

    Parameters
    ----------
    objects
        How many there are.
    fields
        On how many fields.
    """

    objects: int
    fields: int = 100

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield the numbers of the objects, some at a time."""
        for first in range(0, self.objects, _CHUNK):
            yield np.arange(first, min(first + _CHUNK, self.objects))

    def place(self, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return right ascension and declination of objects, degrees: the fields lie side by side on a belt."""
        field = number % self.fields
        rng = np.random.default_rng(number[0])
        ra = 10.0 + 6.0 * (field % 50) + rng.uniform(0, FIELD_DEGREES, len(number))
        dec = -40.0 + 8.0 * (field // 50) + rng.uniform(0, FIELD_DEGREES, len(number))
        return ra, dec

    def fill(self, url: str) -> None:
        """Fill the tables by COPY, as someone does who takes over a survey's catalogues."""
        htm = HtmPixelization(20)
        with psycopg.connect(url.replace("+psycopg2", "")) as connection, _without_indexes(connection):
            for number in self.chunks():
                ra, dec = self.place(number)
                pixel = [
                    htm.index(UnitVector3d(LonLat.fromDegrees(*place)))
                    for place in zip(ra.tolist(), dec.tolist(), strict=True)
                ]
                objects = pd.DataFrame({"diaObjectId": _ids(_NIGHT - 100, number), "validityStartMjdTai": _MJD, "ra": ra, "dec": dec, "nDiaSources": HISTORY, "pixelId": pixel})  # fmt: skip
                _copy(connection, "DiaObjectLast", objects)
                counts = {f"{band}_psfFluxNdata": HISTORY if band == "r" else 0 for band in "ugrizy"}
                _copy(connection, "DiaObject", objects.assign(**counts, firstDiaSourceMjdTai=_MJD - 1, lastDiaSourceMjdTai=_MJD, r_psfFluxMean=100.0, r_psfFluxSigma=1.0))  # fmt: skip
                for past in range(HISTORY):
                    day, mjd = _NIGHT - 100 + past, _MJD - HISTORY + past
                    _copy(connection, "DiaSource", _sources(_ids(day, number), objects["diaObjectId"].to_numpy(), ra, dec, mjd).assign(pixelId=pixel))  # fmt: skip
        engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("VACUUM ANALYZE"))
        engine.dispose()


def _ids(day: int, number: np.ndarray) -> np.ndarray:
    """Return ids of sources of a night, as many as wanted."""
    visit, rest = number // (189 * 200), number % (189 * 200)
    base = dia_source_id(ExposureName(day, 1).exposure_id, 0, 0)
    return base + (visit << 21) + ((rest // 200) << 13) + rest % 200


def _sources(ids: Any, owners: Any, ra: Any, dec: Any, mjd: float) -> pd.DataFrame:
    visits = ids >> 21
    zeros = dict.fromkeys(("trailNdata", "dipoleNdata"), 0)
    flags = dict.fromkeys(("isNegative", "isDipole"), "f")
    return pd.DataFrame(
        {
            "diaSourceId": ids, "visit": visits, "detector": (ids >> 13) & 0xFF, "diaObjectId": owners, "midpointMjdTai": mjd,
            "ra": ra, "dec": dec, "x": 100.0, "y": 100.0, "psfFlux": 100.0, "psfFluxErr": 1.0, "snr": 9.0, "band": "r", "psfNdata": 9,
            "bboxSize": 3, "timeProcessedMjdTai": mjd, "exposureTime": 30.0, **zeros, **flags,
        }
    )  # fmt: skip


def _copy(connection: Any, table: str, rows: pd.DataFrame) -> None:
    text = io.BytesIO()
    csv.write_csv(pa.Table.from_pandas(rows, preserve_index=False), text, csv.WriteOptions(include_header=False))
    columns = ", ".join(f'"{name}"' for name in rows)
    with connection.cursor().copy(f'COPY "{table}" ({columns}) FROM STDIN (FORMAT csv)') as copy:
        copy.write(text.getbuffer())
    connection.commit()


@contextmanager
def _without_indexes(connection: Any) -> Iterator[None]:
    """Take the indexes that are no keys away and make them again afterwards: an index is made sooner than it grows."""
    query = """SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN ('DiaObject', 'DiaObjectLast', 'DiaSource')
        AND indexdef NOT LIKE 'CREATE UNIQUE%'"""
    found = connection.execute(query).fetchall()
    for name, _ in found:
        connection.execute(f'DROP INDEX "{name}"')
    connection.commit()
    yield
    for _, definition in found:
        connection.execute(definition.replace(" ON ONLY ", " ON "))
    connection.commit()


def undivided(url: str) -> AlertDatabase:
    """Return the worker's own access to an alert database as the stock tool leaves it."""
    ApdbSql.init_database(url, dia_object_index=apdb_tables.INDEX)
    made = AlertDatabase.__new__(AlertDatabase)
    made._engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    made._apdb = ApdbSql(ApdbSqlConfig(db_url=url, dia_object_index=apdb_tables.INDEX))
    return made


class Detector:
    """A detector's visits of the survey's fields, one after the other."""

    def __init__(self, sky: Sky) -> None:
        self._sky, self._rng = sky, np.random.default_rng(7)
        self.visit = 0

    def sources(self) -> tuple[pd.DataFrame, ConvexPolygon, astropy.time.Time]:
        """Return the sources of the next visit, what it saw, and when."""
        self.visit += 1
        field = self.visit % self._sky.fields
        corner = 10.0 + 6.0 * (field % 50) + 1.0, -40.0 + 8.0 * (field // 50) + 1.0
        near = self._near(field, corner)
        known = near[: int(KNOWN * SOURCES)]
        new = np.column_stack(
            [self._rng.uniform(edge, edge + DETECTOR_DEGREES, SOURCES - len(known)) for edge in corner]
        )
        places = np.vstack([known, new]) if len(known) else new
        ids = np.array([dia_source_id(ExposureName(_NIGHT, self.visit).exposure_id, 90, n) for n in range(SOURCES)])
        mjd = _MJD + 30 + self.visit / 2000
        table = _sources(ids, 0, places[:, 0], places[:, 1], mjd).assign(
            visit=ExposureName(_NIGHT, self.visit).exposure_id
        )
        more = dict.fromkeys(("raErr", "decErr", "xErr", "yErr", "apFlux", "apFluxErr", "psfChi2", "scienceFlux", "scienceFluxErr", "templateFlux", "ixx", "iyy", "ixy"), 1.0)  # fmt: skip
        table = table.assign(**more, isNegative=False, isDipole=False)
        box = [(corner[0] - 0.005, corner[1] - 0.005), (corner[0] + DETECTOR_DEGREES + 0.005, corner[1] - 0.005), (corner[0] + DETECTOR_DEGREES + 0.005, corner[1] + DETECTOR_DEGREES + 0.005), (corner[0] - 0.005, corner[1] + DETECTOR_DEGREES + 0.005)]  # fmt: skip
        region = ConvexPolygon([UnitVector3d(LonLat.fromDegrees(*place)) for place in box])
        return table, region, astropy.time.Time(mjd, format="mjd", scale="tai")

    def _near(self, field: int, corner: tuple[float, float]) -> np.ndarray:
        """Return places of known objects that a detector sees, a hundredth of an arcsecond beside."""
        half, found = DETECTOR_DEGREES / 2, [np.empty((0, 2))]
        for number in self._sky.chunks():
            places = np.column_stack(self._sky.place(number))[number % self._sky.fields == field]
            found.append(places[(np.abs(places - np.array(corner) - half) < half).all(axis=1)])
        seen = np.vstack(found)
        return seen + self._rng.normal(0, 0.01 / 3600, seen.shape)


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Measure visits of a detector against tables of full size; one connection, as a worker has."""
    if lacks := servers.missing("postgresql"):
        return skipped("association", lacks)
    sky, visits = Sky(20_000, 1) if quick else Sky(10_000_000), 3 if quick else 60
    with servers.scratch() as folder, servers.postgresql(folder) as url:
        made, detector = (
            AlertDatabase.of(sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool), url),
            Detector(sky),
        )
        sky.fill(url)
        associated, stored, matched, footprint = Values(), Values(), [], Footprint()
        for _ in range(visits):
            sources, region, when = detector.sources()
            with associated:
                rows = made.associate(sources, region, when)
            with stored:
                made.store(rows)
            matched.append(int((rows.sources["diaObjectId"] != rows.sources["diaSourceId"]).sum()))
        notes = {"objects": sky.objects, "sources": SOURCES, "matched": float(np.median(matched)), "threads": threads}
    return [
        against("association", "associate", associated, GOAL_SECONDS, **notes, **footprint.notes()),
        against("association", "store", stored, GOAL_SECONDS, **notes),
    ]
