"""The alert production database: made once, asked by every worker."""

from __future__ import annotations

from typing import Self

import astropy.time
import pandas as pd
import sqlalchemy
from lsst.dax.apdb import ApdbSql
from lsst.dax.apdb.sql import ApdbSqlConfig
from lsst.sphgeom import Region

from workloads.common.errors import AwayError, NonRetriableError, RetriableError
from workloads.common.peers import asking, causes, reason
from workloads.common.settings import Settings
from workloads.prompt_processing import apdb_tables
from workloads.prompt_processing.association import VERSION_COLUMNS, Associated, associate

_LOCK = 20160401
_NAME = "alert database"
_IDLE = "&options=-c%20idle_in_transaction_session_timeout%3D15000"
"""A worker that is lost while it stores its rows holds up the one that takes over no longer than it takes to miss it."""
_SECOND = 1 / 86400
_UNIQUE_VIOLATION = "23505"
"""PostgreSQL's code."""


class AlertDatabase:
    """What the workers ask the database; `AwayError` where it does not answer.

    Parameters
    ----------
    settings
        Where it is. The first to come makes its tables, under a lock that the others wait for.
    """

    def __init__(self, settings: Settings) -> None:
        settings.export_credentials()
        url = settings.database_url("apdb") + _IDLE
        self._open(sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool), url)

    @classmethod
    def of(cls, engine: sqlalchemy.Engine, url: str) -> Self:
        """Return the same of a database that is at hand."""
        made = cls.__new__(cls)
        made._open(engine, url)  # noqa: SLF001 - its own
        return made

    def _open(self, engine: sqlalchemy.Engine, url: str) -> None:
        with asking(_NAME), engine.begin() as connection:
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            apdb_tables.make(connection, url)
        self._engine = engine
        self._apdb = ApdbSql(ApdbSqlConfig(db_url=url, dia_object_index=apdb_tables.INDEX))

    def has(self, visit: int, detector: int) -> bool:
        """Tell whether the sources of a detector of a visit are stored."""
        with asking(_NAME):
            return self._apdb.containsVisitDetector(visit, detector)

    def associate(self, sources: pd.DataFrame, region: Region, time: astropy.time.Time) -> Associated:
        """Give every source an object, see `association.associate`."""
        with asking(_NAME):
            return associate(self._apdb, sources, region, time, self._versions)

    def _versions(self, ids: list[int], begin: float) -> pd.DataFrame:
        """Return versions of objects, which the table that is searched by place has not all columns of."""
        columns = [*VERSION_COLUMNS, "validityStartMjdTai", "validityEndMjdTai"]
        table = sqlalchemy.table("DiaObject", *map(sqlalchemy.column, columns))
        is_last, begins = table.c.validityEndMjdTai.is_(None), table.c.validityStartMjdTai
        wanted = sqlalchemy.select(*table.c).where(
            table.c.diaObjectId.in_(ids), is_last | begins.between(begin, begin + _SECOND)
        )
        with self._engine.connect() as connection:
            return pd.DataFrame(connection.execute(wanted).mappings().all(), columns=columns)

    def store(self, rows: Associated) -> None:
        """Store a detector's objects and sources, all or none.

        Raises
        ------
        AwayError
            If the database went away: ask it first, before the next attempt, whether it `has` them.
        RetriableError
            If another worker stored the same objects at the same moment: associate anew, its rows are there now.
        NonRetriableError
            If it refused them.
        """
        try:
            with asking(_NAME):
                self._apdb.store(rows.begin, rows.objects, rows.sources)
        except AwayError:
            raise
        except Exception as error:
            if any(_is_twice(cause) for cause in causes(error)):
                raise RetriableError(
                    f"{_NAME}: rows of the same objects came first, to be associated anew: {reason(error)}"
                ) from error
            raise NonRetriableError(f"{_NAME} refused its rows: {reason(error)}") from error


def _is_twice(error: BaseException) -> bool:
    """Tell whether a database refused a row because it has one of the same key."""
    if not isinstance(error, sqlalchemy.exc.IntegrityError):
        return False
    return getattr(error.orig, "pgcode", "") == _UNIQUE_VIOLATION or "UNIQUE constraint" in str(error.orig)
