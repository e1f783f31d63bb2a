"""The alert production database: made once, asked by every worker."""

from __future__ import annotations

import astropy.time
import pandas as pd
import sqlalchemy
from lsst.dax.apdb import ApdbSql
from lsst.dax.apdb.sql import ApdbSqlConfig
from lsst.sphgeom import Region

from workloads.common.errors import AwayError, NonRetriableError
from workloads.common.peers import asking, reason
from workloads.common.settings import Settings
from workloads.prompt_processing.association import Associated, associate

_LOCK = 20160401
_NAME = "alert database"


class AlertDatabase:
    """What the workers ask the database; `AwayError` where it does not answer.

    Parameters
    ----------
    settings
        Where it is. The first to come makes its tables, under a lock that the others wait for.
    """

    def __init__(self, settings: Settings) -> None:
        settings.export_credentials()
        url = settings.database_url("apdb")
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        with asking(_NAME), engine.begin() as connection:
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            made = connection.execute(sqlalchemy.text("SELECT to_regclass('\"DiaObject\"')")).scalar()
            if made is None:
                ApdbSql.init_database(url, dia_object_index="last_object_table")
        engine.dispose()
        self._apdb = ApdbSql(ApdbSqlConfig(db_url=url, dia_object_index="last_object_table"))

    def has(self, visit: int, detector: int) -> bool:
        """Tell whether the sources of a detector of a visit are stored."""
        with asking(_NAME):
            return self._apdb.containsVisitDetector(visit, detector)

    def associate(self, sources: pd.DataFrame, region: Region, time: astropy.time.Time, band: str) -> Associated:
        """Give every source an object, see `association.associate`."""
        with asking(_NAME):
            return associate(self._apdb, sources, region, time, band)

    def store(self, time: astropy.time.Time, rows: Associated) -> None:
        """Store a detector's objects and sources, all or none.

        Raises
        ------
        AwayError
            If the database went away: ask it first, before the next attempt, whether it `has` them.
        NonRetriableError
            If it refused them.
        """
        try:
            with asking(_NAME):
                self._apdb.store(time, rows.objects, rows.sources)
        except AwayError:
            raise
        except Exception as error:
            raise NonRetriableError(f"{_NAME} refused its rows: {reason(error)}") from error
