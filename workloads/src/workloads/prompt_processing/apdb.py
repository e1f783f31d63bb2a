"""The alert production database: made once, opened by every worker."""

from __future__ import annotations

import sqlalchemy
from lsst.dax.apdb import ApdbSql
from lsst.dax.apdb.sql import ApdbSqlConfig

from workloads.common.settings import Settings

_LOCK = 20160401


def open_apdb(settings: Settings) -> ApdbSql:
    """Open the database; the first to come makes its tables, under a lock that the others wait for."""
    settings.export_credentials()
    url = settings.database_url("apdb")
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        made = connection.execute(sqlalchemy.text("SELECT to_regclass('\"DiaObject\"')")).scalar()
        if made is None:
            ApdbSql.init_database(url, dia_object_index="last_object_table")
    engine.dispose()
    return ApdbSql(ApdbSqlConfig(db_url=url, dia_object_index="last_object_table"))
