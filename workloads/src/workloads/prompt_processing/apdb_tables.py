"""The stock tables of the alert database, divided natively: by the time of a first detection, and by the place on the sky.

Ids of sources and objects begin with the observing day, so that ranges of them are spans of time: what is written tonight lies
in one part, whose indexes fit into memory, and a part that nobody asks for any more can be taken off as a whole. Names, columns
and keys stay those of `ApdbSql`, which does not see the difference.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import sqlalchemy
from lsst.dax.apdb import ApdbSql
from sqlalchemy import text

from workloads.common.names import ExposureName, dia_source_id

LOG = logging.getLogger(__name__)
INDEX = "last_object_table"
"""How `ApdbSql` is to find objects by their place: in a table of their last versions."""
FIRST_YEAR, LAST_YEAR = 2025, 2037
_TRIXEL_BITS = 40
"""Bits of a trixel's number below those of the eight that the sky begins with, at the level that `ApdbSql` uses."""
_TRIXELS = range(8 * 4, 16 * 4)
_BY_ID = {"DiaSource": "diaSourceId", "DiaObject": "diaObjectId"}
_LAST = "DiaObjectLast"


def make(connection: sqlalchemy.Connection, url: str) -> None:
    """Make the tables where there are none, and divide them while they are empty; in a transaction that has the lock.

    What a kill cut short is gone on with. Tables that have rows and are not divided stay as they are.
    """
    if connection.execute(text("SELECT to_regclass('\"DiaObject\"')")).scalar() is None:
        ApdbSql.init_database(url, dia_object_index=INDEX)
    for table in (*_BY_ID, _LAST):
        _divide(connection, table)
    # Each visit replaces its objects by their ids, for which the stock key is no help: it begins with the place.
    connection.execute(text(f'CREATE INDEX IF NOT EXISTS "IDX_{_LAST}_diaObjectId" ON "{_LAST}" ("diaObjectId")'))


def _divide(connection: sqlalchemy.Connection, table: str) -> None:
    """Put an empty table that is whole aside for one of the same name that has parts."""
    kind = connection.execute(
        text("SELECT relkind FROM pg_class WHERE oid = to_regclass(:name)"), {"name": f'"{table}"'}
    )
    if kind.scalar() == "p":
        return
    if connection.execute(text(f'SELECT 1 FROM "{table}" LIMIT 1')).scalar() is not None:  # noqa: S608 - a constant
        LOG.warning("alert database: %s has rows and is not divided into parts", table)
        return
    column = _BY_ID.get(table, "pixelId")
    connection.execute(text(f'ALTER TABLE "{table}" RENAME TO "{table}_whole"'))
    connection.execute(
        text(f'CREATE TABLE "{table}" (LIKE "{table}_whole" INCLUDING ALL) PARTITION BY RANGE ("{column}")')
    )
    connection.execute(text(f'DROP TABLE "{table}_whole"'))
    for name, first, last in _by_place() if table == _LAST else _by_time():
        connection.execute(
            text(f'CREATE TABLE "{table}_{name}" PARTITION OF "{table}" FOR VALUES FROM ({first}) TO ({last})')
        )
    connection.execute(text(f'CREATE TABLE "{table}_else" PARTITION OF "{table}" DEFAULT'))


def _by_time() -> Iterator[tuple[str, int, int]]:
    """Yield name and bounds of the parts by id: half a year each."""
    halves = [(year, month) for year in range(FIRST_YEAR, LAST_YEAR + 1) for month in (1, 7)]
    firsts = [dia_source_id(ExposureName(year * 10000 + month * 100, 0).exposure_id, 0, 0) for year, month in halves]
    for (year, month), first, last in zip(halves, firsts, firsts[1:], strict=False):
        yield f"{year}_{month:02}", first, last


def _by_place() -> Iterator[tuple[str, int, int]]:
    """Yield name and bounds of the parts by trixel: 32 of a like size cover the sky."""
    for trixel in _TRIXELS:
        yield f"{trixel}", trixel << _TRIXEL_BITS - 2, (trixel + 1) << _TRIXEL_BITS - 2
