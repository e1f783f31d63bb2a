"""What has to go where, and what is proved to have arrived: a small database that survives any crash."""

from __future__ import annotations

import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from workloads.common.names import RawName

_SCHEMA = """
CREATE TABLE IF NOT EXISTS transfers (
    site TEXT NOT NULL, key TEXT NOT NULL, class INTEGER NOT NULL, exposure TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'proved', 'told')),
    sha256 TEXT NOT NULL DEFAULT '', size INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (site, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS waiting ON transfers (site, state, class, exposure, key);
CREATE INDEX IF NOT EXISTS untold ON transfers (state) WHERE state = 'proved';
CREATE INDEX IF NOT EXISTS places ON transfers (key, state);
"""
_LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True)
class Transfer:
    """One object on its way to one site."""

    site: str
    key: str
    attempts: int

    @property
    def raw(self) -> RawName | None:
        """The raw image that the object is, or None for sidecars and lists."""
        return RawName.from_key(self.key) if self.key.endswith(".fits") else None


@dataclass(frozen=True)
class Arrival:
    """An object that is proved to stand at a site; `everywhere` if all other sites were told before."""

    transfer: Transfer
    sha256: str
    size: int
    everywhere: bool


def class_of(key: str) -> int:
    """Return the class of an object: 0 for lists and sidecars, which must land before pixels, 1 for pixels."""
    return 0 if key.endswith(".json") else 1


class TransferJournal:
    """The transfers of one forwarder.

    Parameters
    ----------
    path
        File of the database; made if it is not there.
    sites
        Destinations.
    """

    def __init__(self, path: Path, sites: list[str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._sites = sites
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(_SCHEMA)
        self._taken: set[tuple[str, str]] = set()

    def add(self, keys: list[str]) -> int:
        """Note objects that must reach every site; known ones are left as they are. Return how many were new."""
        rows = [(site, key, class_of(key), key.rsplit("/", 2)[-2]) for key in keys for site in self._sites]
        with self._lock:
            before = self._database.total_changes
            self._database.execute("BEGIN")
            self._database.executemany(
                "INSERT OR IGNORE INTO transfers (site, key, class, exposure, state) VALUES (?, ?, ?, ?, 'waiting')",
                rows,
            )
            self._database.execute("COMMIT")
            return self._database.total_changes - before

    def take(self, site: str) -> Transfer | None:
        """Return the next transfer to a site: by class, then the newest exposure first; None if nothing is due."""
        query = "SELECT key, attempts FROM transfers WHERE site = ? AND state = 'waiting' AND not_before <= ? ORDER BY class, exposure DESC, key"
        with self._lock:
            for key, attempts in self._database.execute(query, (site, time.time())):
                if (site, key) not in self._taken:
                    self._taken.add((site, key))
                    return Transfer(site, key, attempts)
        return None

    def proved(self, transfer: Transfer, sha256: str, size: int) -> None:
        """Note that an object stands at its destination with this digest."""
        with self._lock:
            self._database.execute(
                "UPDATE transfers SET state = 'proved', sha256 = ?, size = ?, error = '' WHERE site = ? AND key = ?",
                (sha256, size, transfer.site, transfer.key),
            )
            self._taken.discard((transfer.site, transfer.key))

    def untold(self) -> Arrival | None:
        """Return an arrival that nobody was told of yet, or None."""
        query = """SELECT site, key, attempts, sha256, size, NOT EXISTS (
                SELECT 1 FROM transfers AS other
                WHERE other.key = transfers.key AND other.site <> transfers.site AND other.state <> 'told')
            FROM transfers WHERE state = 'proved' ORDER BY exposure, key LIMIT 1"""
        with self._lock:
            row = self._database.execute(query).fetchone()
        if row is None:
            return None
        site, key, attempts, digest, size, everywhere = row
        return Arrival(Transfer(site, key, attempts), digest, size, bool(everywhere))

    def told(self, arrival: Arrival) -> None:
        """Note that somebody was told of an arrival."""
        with self._lock:
            self._database.execute(
                "UPDATE transfers SET state = 'told' WHERE site = ? AND key = ?",
                (arrival.transfer.site, arrival.transfer.key),
            )

    def failed(self, transfer: Transfer, error: str) -> float:
        """Note a failure and return the seconds until the next attempt: doubled each time, up to half a minute."""
        doublings = min(transfer.attempts, 10)  # a cut of hours is thousands of attempts
        pause = min(_LONGEST_PAUSE_SECONDS, 0.5 * 2.0**doublings)
        with self._lock:
            self._database.execute(
                "UPDATE transfers SET attempts = attempts + 1, not_before = ?, error = ? WHERE site = ? AND key = ?",
                (time.time() + pause, error, transfer.site, transfer.key),
            )
            self._taken.discard((transfer.site, transfer.key))
        return pause

    def waiting(self) -> dict[str, int]:
        """Return how many objects wait for each site."""
        with self._lock:
            rows = self._database.execute(
                "SELECT site, count(*) FROM transfers WHERE state = 'waiting' GROUP BY site"
            ).fetchall()
        return dict.fromkeys(self._sites, 0) | dict(rows)

    def known(self) -> set[str]:
        """Return all keys that were ever noted."""
        with self._lock:
            return {key for (key,) in self._database.execute("SELECT DISTINCT key FROM transfers")}
