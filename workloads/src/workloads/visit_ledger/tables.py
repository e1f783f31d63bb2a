"""The ledger's tables: stamps in one partition a night, and how far each topic was read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Self

import sqlalchemy
from psycopg2.extras import execute_values
from sqlalchemy import text

from workloads.common.errors import NonRetriableError
from workloads.common.names import ExposureName
from workloads.common.peers import asking
from workloads.common.settings import Settings
from workloads.common.times import day_obs

DATABASE = "ledger"
_NAME = "ledger's database"
_LOCK = 20161119
_TABLES = """
CREATE TABLE IF NOT EXISTS progress (topic text PRIMARY KEY, next_offset bigint NOT NULL);
CREATE TABLE IF NOT EXISTS stamps (
    night integer NOT NULL, topic text NOT NULL, kafka_offset bigint NOT NULL,
    obs_id text NOT NULL, detector text NOT NULL, group_id text NOT NULL, step text NOT NULL,
    tai double precision NOT NULL, service text NOT NULL, site text NOT NULL, reason text NOT NULL, figures jsonb NOT NULL,
    PRIMARY KEY (night, topic, kafka_offset)) PARTITION BY RANGE (night);
CREATE INDEX IF NOT EXISTS stamps_of_exposures ON stamps (obs_id, detector);
CREATE OR REPLACE VIEW fates AS
    SELECT night, obs_id, detector, min(group_id) AS group_id,
        bool_or(step = 'arrived') AS arrived, bool_or(step = 'ingested') AS ingested,
        bool_or(step = 'processed') AS processed, bool_or(step = 'alerted') AS alerted, bool_or(step = 'archived') AS archived,
        bool_or(step = 'lost') AS lost, bool_or(step = 'quarantined') AS quarantined, bool_or(step = 'failed') AS failed,
        bool_or(step = 'late') AS late, string_agg(DISTINCT reason, '; ') FILTER (WHERE reason <> '') AS reasons,
        max(tai) FILTER (WHERE step = 'alerted') - max(tai) FILTER (WHERE step = 'expected') AS seconds_to_alerts
    FROM stamps WHERE obs_id <> '' AND detector <> '' GROUP BY night, obs_id, detector;
CREATE OR REPLACE VIEW nights AS
    SELECT night, count(*) AS images, count(*) FILTER (WHERE archived) AS archived,
        count(*) FILTER (WHERE alerted) AS alerted, count(*) FILTER (WHERE failed AND NOT alerted) AS failed,
        count(*) FILTER (WHERE quarantined) AS quarantined, count(*) FILTER (WHERE lost AND NOT archived) AS lost,
        count(*) FILTER (WHERE NOT (alerted OR failed OR quarantined OR lost)) AS unanswered
    FROM fates GROUP BY night;
"""
_INSERT = (
    "INSERT INTO stamps (night, topic, kafka_offset, obs_id, detector, group_id, step, tai, service, site, reason, figures) "
    "VALUES %s"
)


@dataclass(frozen=True)
class Stamp:
    """One stamp as a row. `tai` is seconds; `night` is the observing day as YYYYMMDD."""

    night: int
    topic: str
    kafka_offset: int
    obs_id: str
    detector: str
    group_id: str
    step: str
    tai: float
    service: str
    site: str
    reason: str
    figures: str

    @classmethod
    def of(cls, topic: str, offset: int, record: dict[str, Any]) -> Self:
        """Return the row of a record of the topic; what a database cannot hold of its texts and figures is left out.

        Raises
        ------
        NonRetriableError
            If its time is none.
        """

        def text(name: str) -> str:
            return str(record[name]).replace("\0", "")

        figures = {name.replace("\0", ""): value for name, value in record["figures"].items() if math.isfinite(value)}
        return cls(
            night_of(text("obsId"), record["time"]), topic, offset, text("obsId"), text("detector"), text("groupId"), text("step"),
            record["time"], text("service"), text("site"), text("reason"), json.dumps(figures),
        )  # fmt: skip


def night_of(obs_id: str, tai: float) -> int:
    """Return the night of a stamp: that of its exposure whenever it was written, or of its time before there is one."""
    try:
        return ExposureName.from_obs_id(obs_id).day_obs
    except NonRetriableError:
        pass
    try:
        return day_obs(tai)
    except (ValueError, OverflowError, OSError) as error:
        raise NonRetriableError(f"stamp of {obs_id!r}: time {tai}; expected TAI seconds ({error})") from error


class Stamps:
    """Writes stamps, each once; `AwayError` where the database does not answer.

    Parameters
    ----------
    settings
        Where it is. The first to come makes its tables.
    """

    def __init__(self, settings: Settings) -> None:
        settings.export_credentials()
        self._engine = sqlalchemy.create_engine(settings.database_url(DATABASE), pool_pre_ping=True, pool_size=1)
        with asking(_NAME), self._engine.begin() as connection:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            connection.execute(text(_TABLES))

    def mark(self, topic: str) -> int:
        """Return the offset of a topic's first stamp that is not here yet."""
        with asking(_NAME), self._engine.connect() as connection:
            found = connection.execute(text("SELECT next_offset FROM progress WHERE topic = :topic"), {"topic": topic})
            return found.scalar() or 0

    def add(self, stamps: Sequence[Stamp]) -> int:
        """Write stamps in the order of their topic; those that are there already are passed over. Return how many were new.

        How far a topic was read stands in the same transaction, so that neither a crash nor a second keeper writes one twice.
        """
        with asking(_NAME), self._engine.begin() as connection:
            new = list(self._unknown(connection, stamps))
            for night in sorted({stamp.night for stamp in new}):
                connection.execute(text(_partition(night)))
            if new:
                cursor = connection.connection.cursor()
                execute_values(cursor, _INSERT, [astuple(stamp) for stamp in new], page_size=1000)
            return len(new)

    def _unknown(self, connection: sqlalchemy.Connection, stamps: Sequence[Stamp]) -> Iterable[Stamp]:
        """Yield the stamps that lie behind what was read of their topic, and move that mark."""
        for topic in dict.fromkeys(stamp.topic for stamp in stamps):
            known = {"topic": topic}
            connection.execute(text("INSERT INTO progress VALUES (:topic, 0) ON CONFLICT DO NOTHING"), known)
            mark = connection.execute(text("SELECT next_offset FROM progress WHERE topic = :topic FOR UPDATE"), known).scalar_one()  # fmt: skip
            new = [stamp for stamp in stamps if stamp.topic == topic and stamp.kafka_offset >= mark]
            if new:
                after = known | {"after": max(stamp.kafka_offset for stamp in new) + 1}
                connection.execute(text("UPDATE progress SET next_offset = :after WHERE topic = :topic"), after)
            yield from new


def _partition(night: int) -> str:
    return f"CREATE TABLE IF NOT EXISTS stamps_{night} PARTITION OF stamps FOR VALUES FROM ({night}) TO ({night + 1})"
