"""What people ask the ledger: how nights went, what was lost over a span, what became of one exposure."""

from __future__ import annotations

from typing import Any

import sqlalchemy
from sqlalchemy import text

from workloads.common.errors import NonRetriableError
from workloads.common.peers import asking
from workloads.common.settings import Settings
from workloads.common.times import iso, tai_to_utc
from workloads.visit_ledger.tables import DATABASE, night_of

_NAME = "ledger's database"
_COUNTS = ("images", "archived", "alerted", "failed", "quarantined", "lost", "unanswered")
_SPAN = (
    f"SELECT night, {', '.join(f'coalesce(sum({name}), 0)::bigint AS {name}' for name in _COUNTS)}, "  # noqa: S608 - constants
    "coalesce(sum(lost), 0)::float / greatest(sum(images), 1) AS loss_rate "
    "FROM nights WHERE night BETWEEN :first AND :last GROUP BY ROLLUP (night) ORDER BY night NULLS LAST"
)
_OWED = (
    "SELECT night, obs_id, detector, reasons FROM fates WHERE night BETWEEN :first AND :last AND NOT alerted "
    "ORDER BY night, obs_id, detector LIMIT :most"
)
_STEPS = (
    "SELECT tai, detector, step, service, site, reason, figures FROM stamps "
    "WHERE night = :night AND (obs_id = :obs_id OR obs_id = '' AND group_id <> '' AND group_id IN "
    "(SELECT group_id FROM stamps WHERE night = :night AND obs_id = :obs_id)) ORDER BY kafka_offset"
)


class Questions:
    """Asks the database; `AwayError` where it does not answer.

    Parameters
    ----------
    settings
        Those of a principal that may read it.
    """

    def __init__(self, settings: Settings) -> None:
        settings.export_credentials()
        url = settings.database_url(DATABASE)
        self._engine = sqlalchemy.create_engine(
            url, poolclass=sqlalchemy.NullPool, connect_args={"connect_timeout": 10}
        )

    def nights(self, first: int, last: int) -> list[dict[str, Any]]:
        """Return the counts of each night of a span (YYYYMMDD, both included), and last, with `night` None, of all of it."""
        return self._rows(_SPAN, first=first, last=last)

    def owed(self, first: int, last: int, most: int = 1000) -> list[dict[str, Any]]:
        """Return the images of a span whose alerts never went out, with the reasons that there are."""
        return self._rows(_OWED, first=first, last=last, most=most)

    def exposure(self, obs_id: str) -> list[dict[str, Any]]:
        """Return the stamps of an exposure, those of its announcement included, in their order; times are UTC.

        Raises
        ------
        NonRetriableError
            If the ledger does not know it.
        """
        rows = self._rows(_STEPS, night=night_of(obs_id, 1.5e9), obs_id=obs_id)
        if not rows:
            raise NonRetriableError(
                f"exposure {obs_id}: not in the ledger; expected a name such as MC_O_20261122_000001"
            )
        return [{"time": f"{iso(tai_to_utc(row.pop('tai')))}Z", **row} for row in rows]

    def _rows(self, query: str, **values: Any) -> list[dict[str, Any]]:
        with asking(_NAME), self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(query), values).mappings()]
