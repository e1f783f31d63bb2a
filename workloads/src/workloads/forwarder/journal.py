"""What has to go where, and what is proved to have arrived: a small database that survives any crash."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from workloads.common.names import RawName, classify

_SCHEMA = """
CREATE TABLE IF NOT EXISTS transfers (
    site TEXT NOT NULL, key TEXT NOT NULL, class INTEGER NOT NULL, exposure TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'sent', 'proved', 'told', 'refused')),
    sha256 TEXT NOT NULL DEFAULT '', size INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (site, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS due ON transfers (site, exposure DESC, class, key) WHERE state = 'waiting' AND not_before = 0;
CREATE INDEX IF NOT EXISTS pausing ON transfers (site, not_before) WHERE state = 'waiting' AND not_before > 0;
DROP INDEX IF EXISTS unproved;
CREATE INDEX IF NOT EXISTS provable ON transfers (site, exposure DESC, class, key) WHERE state = 'sent' AND not_before = 0;
CREATE INDEX IF NOT EXISTS resting ON transfers (site, not_before) WHERE state = 'sent' AND not_before > 0;
CREATE INDEX IF NOT EXISTS arrived ON transfers (exposure, key) WHERE state = 'proved';
CREATE INDEX IF NOT EXISTS places ON transfers (key, state);
"""
_NUMBERS = re.compile(r"(?P<day>[0-9]{8})(?:_(?P<number>[0-9]{6}))?$")
_VERSION = 2
"""Of the contents: the first had observation ids for exposures, the second took what was sent for what had arrived."""
_INDEXES = ("waiting", "untold", "due", "pausing", "arrived", "places")
"""Those of older versions, whose names are free before the table is made anew."""
_COLUMNS = "site, key, class, exposure, state, sha256, size, attempts, not_before, error"
_DUE, _PAUSING = "state = 'waiting' AND not_before = 0", "state = 'waiting' AND not_before > 0"
_PROVABLE, _RESTING = "state = 'sent' AND not_before = 0", "state = 'sent' AND not_before > 0"
_COUNTS = "SELECT site, count(*) FROM transfers WHERE {} GROUP BY site"
_WOKEN = 20
"""How many paused transfers one question makes due: more than it takes away, few enough to take no time."""
_FORGOTTEN = 200
"""How many rows are deleted at once."""
_WAKE = "UPDATE transfers SET not_before = 0 WHERE site = ? AND key = ? AND not_before <= ?"
_LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True)
class Transfer:
    """One object on its way to one site."""

    site: str
    key: str
    attempts: int

    @property
    def raw(self) -> RawName | None:
        """The raw image that the object is, or None for all other files."""
        return classify(self.key).raw


@dataclass(frozen=True)
class Sent:
    """An object that its destination took and that was not read back from there yet."""

    transfer: Transfer
    sha256: str
    size: int


@dataclass(frozen=True)
class Arrival:
    """An object that was read back from a site; `everywhere` if all other sites were told before."""

    transfer: Transfer
    sha256: str
    size: int
    everywhere: bool


def class_of(key: str) -> int:
    """Return the class of an object within its exposure.

    0 are lists and sidecars, which must land before pixels, 1 raw images, 2 all that nobody waits for.
    """
    named = classify(key)
    return 0 if named.before_pixels else 1 if named.raw else 2


def exposure_of(key: str) -> str:
    """Return what orders objects by the time of their exposure: day and number of what has them, else the folder's name."""
    folder = key.rpartition("/")[0].rpartition("/")[2]
    match = _NUMBERS.search(folder)
    return f"{match['day']}_{match['number'] or ''}" if match else folder


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
        self._make()
        self._queue = threading.Lock()
        self._reading = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        """For takes, which wait for nobody's disk: whoever notes something syncs it under the other lock."""
        self._taken: dict[str, set[str]] = {site: set() for site in sites}
        self._waiting = dict.fromkeys(sites, 0)
        for part in (_DUE, _PAUSING):  # each has an index; of both together all rows would be read
            for site, number in self._database.execute(_COUNTS.format(part)):
                self._waiting[site] = self._waiting.get(site, 0) + number

    def _make(self) -> None:
        """Make the tables; rows of an older version are copied, and one that was cut short at that goes on."""
        database = self._database
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if "transfers" in names and "former" not in names and version < _VERSION:
            database.execute("ALTER TABLE transfers RENAME TO former")
            names.add("former")
        if "former" in names:
            for index in _INDEXES:
                database.execute(f"DROP INDEX IF EXISTS {index}")
        database.executescript(_SCHEMA)
        with database:
            database.execute("BEGIN")
            if "former" in names:
                self._copy_former()
            database.execute(f"PRAGMA user_version = {_VERSION}")

    def _copy_former(self) -> None:
        """Copy the rows of the former version, with the exposure and the class that this version gives them."""
        self._database.create_function("exposure_of", 1, exposure_of, deterministic=True)
        self._database.create_function("class_of", 1, class_of, deterministic=True)
        columns = _COLUMNS.replace("class, exposure", "class_of(key), exposure_of(key)")
        self._database.execute(f"INSERT OR IGNORE INTO transfers ({_COLUMNS}) SELECT {columns} FROM former")  # noqa: S608 - constants
        self._database.execute("DROP TABLE former")

    def add(self, keys: list[str], later: Container[tuple[str, str]] = ()) -> int:
        """Note objects that must reach every site, but for those that come `later`; known ones are left as they are.

        Return how many were new.
        """
        rows = [(key, class_of(key), exposure_of(key)) for key in keys]
        insert = "INSERT OR IGNORE INTO transfers (site, key, class, exposure, state) VALUES (?, ?, ?, ?, 'waiting')"
        with self._lock:
            before = self._database.total_changes
            new = dict.fromkeys(self._sites, 0)
            with self._database:  # all or none, whatever the disk says
                self._database.execute("BEGIN")
                for site in self._sites:
                    so_far = self._database.total_changes
                    self._database.executemany(insert, [(site, *row) for row in rows if (site, row[0]) not in later])
                    new[site] = self._database.total_changes - so_far
            for site, number in new.items():
                self._waiting[site] += number
            return self._database.total_changes - before

    def unknown(self, keys: list[str]) -> list[tuple[str, str]]:
        """Return site and key of those transfers of some objects that were never noted."""
        marks = ", ".join("?" * len(keys))
        query = f"SELECT key FROM transfers WHERE site = ? AND key IN ({marks})"  # noqa: S608 - marks only
        found = list[tuple[str, str]]()
        with self._lock:
            for site in self._sites:
                known = {key for (key,) in self._database.execute(query, (site, *keys))}
                found += [(site, key) for key in keys if key not in known]
        return found

    def take(self, site: str) -> Transfer | None:
        """Return the next transfer to a site: of the newest exposure, there by class; None if nothing is due.

        What waits for its next attempt costs nothing here, however much it is: it lies in an index of its own.
        """
        query = (
            f"SELECT key, attempts FROM transfers WHERE site = ? AND {_DUE} ORDER BY exposure DESC, class, key LIMIT ?"  # noqa: S608 - a constant
        )
        self._wake(site, _PAUSING)
        with self._queue:  # until it has its place: what is sent meanwhile is let go of afterwards
            taken = self._taken[site]
            for key, attempts in self._reading.execute(query, (site, len(taken) + 1)):
                if key not in taken:
                    taken.add(key)
                    return Transfer(site, key, attempts)
        return None

    def _wake(self, site: str, part: str) -> None:
        """Let those of a part be due again whose pause is over, some at a time."""
        over = f"SELECT key FROM transfers WHERE site = ? AND {part} AND not_before <= ? LIMIT {_WOKEN}"  # noqa: S608 - constants
        now = time.time()
        with self._queue:
            due = [(site, key, now) for (key,) in self._reading.execute(over, (site, now))]
        if due:
            with self._lock, self._database:
                self._database.execute("BEGIN")
                self._database.executemany(_WAKE, due)

    def _let_go(self, transfer: Transfer) -> None:
        with self._queue:
            self._taken[transfer.site].discard(transfer.key)

    def sent(self, transfer: Transfer, sha256: str, size: int) -> None:
        """Note that a destination took an object with this digest; it is still to be read back."""
        with self._lock:
            done = self._database.execute(
                "UPDATE transfers SET state = 'sent', sha256 = ?, size = ?, attempts = 0, not_before = 0, error = '' "
                "WHERE site = ? AND key = ? AND state = 'waiting'",
                (sha256, size, transfer.site, transfer.key),
            )
            self._waiting[transfer.site] -= done.rowcount
        self._let_go(transfer)

    def unproved(self, site: str) -> Sent | None:
        """Return what a site took and was not read back from there, the newest exposure first; None if nothing is due.

        What waits for its next attempt costs nothing here either.
        """
        query = (
            f"SELECT key, attempts, sha256, size FROM transfers WHERE site = ? AND {_PROVABLE} "  # noqa: S608 - a constant
            "ORDER BY exposure DESC, class, key LIMIT 1"
        )
        self._wake(site, _RESTING)
        with self._lock:
            row = self._database.execute(query, (site,)).fetchone()
        return Sent(Transfer(site, row[0], row[1]), row[2], row[3]) if row else None

    def proved(self, sent: Sent) -> None:
        """Note that an object was read back from its destination with its digest."""
        with self._lock:
            self._database.execute(
                "UPDATE transfers SET state = 'proved', error = '' WHERE site = ? AND key = ? AND state = 'sent'",
                (sent.transfer.site, sent.transfer.key),
            )

    def again(self, site: str, key: str) -> None:
        """Note that an object must be sent to a site again, whatever is known of it."""
        with self._lock, self._database:
            self._database.execute("BEGIN")
            found = self._database.execute("SELECT state FROM transfers WHERE site = ? AND key = ?", (site, key))
            state = found.fetchone()
            self._database.execute(
                "INSERT INTO transfers (site, key, class, exposure, state) VALUES (?, ?, ?, ?, 'waiting') "
                "ON CONFLICT DO UPDATE SET state = 'waiting', sha256 = '', attempts = 0, not_before = 0",
                (site, key, class_of(key), exposure_of(key)),
            )
            self._waiting[site] += int(state is None or state[0] != "waiting")

    def refused(self, site: str, key: str, reason: str) -> None:
        """Note that a site cannot use an object, or does not want it any more: it is not sent again, and never is everywhere."""
        row = (site, key, class_of(key), exposure_of(key), reason)
        with self._lock, self._database:
            self._database.execute("BEGIN")
            found = self._database.execute("SELECT state FROM transfers WHERE site = ? AND key = ?", (site, key))
            state = found.fetchone()
            self._database.execute(
                "INSERT INTO transfers (site, key, class, exposure, state, error) VALUES (?, ?, ?, ?, 'refused', ?) "
                "ON CONFLICT DO UPDATE SET state = 'refused', error = excluded.error",
                row,
            )
            self._waiting[site] -= int(state is not None and state[0] == "waiting")
            self._taken[site].discard(key)

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
                "UPDATE transfers SET state = 'told' WHERE site = ? AND key = ? AND state = 'proved'",
                (arrival.transfer.site, arrival.transfer.key),
            )

    def failed(self, transfer: Transfer, error: str) -> float:
        """Note a failure to send or to read back; return the seconds to the next attempt: doubled up to half a minute."""
        doublings = min(max(transfer.attempts, 0), 10)  # a cut of hours is thousands of attempts
        pause = min(_LONGEST_PAUSE_SECONDS, 0.5 * 2.0**doublings)
        with self._lock:
            self._database.execute(
                "UPDATE transfers SET attempts = attempts + 1, not_before = ?, error = ? WHERE site = ? AND key = ?",
                (time.time() + pause, error, transfer.site, transfer.key),
            )
        self._let_go(transfer)
        return pause

    def folders(self) -> set[str]:
        """Return the folders, of an instrument and a day, of all that is known, with a closing slash."""
        found = set[str]()
        for site in self._sites:
            last = ""
            while (key := self._first(site, last)) is not None:
                folder = "/".join(key.split("/")[:2]) + "/"
                found.add(folder)
                last = max(f"{folder[:-1]}0", f"{key}\0")  # the sign after the slash
        return found

    def _first(self, site: str, from_key: str) -> str | None:
        query = "SELECT key FROM transfers WHERE site = ? AND key >= ? ORDER BY key LIMIT 1"
        with self._lock:
            row = self._database.execute(query, (site, from_key)).fetchone()
        return str(row[0]) if row else None

    def forget(self, folder: str) -> int:
        """Forget what is over of a folder that the source store does not have any more; return how many rows that was.

        Some at a time, so that nobody waits long for the journal. What is still owed to a site is not forgotten.
        """
        rows = f"""DELETE FROM transfers WHERE site = ? AND key IN (SELECT key FROM transfers
            WHERE site = ? AND key >= ? AND key < ? AND state IN ('told', 'refused') LIMIT {_FORGOTTEN})"""  # noqa: S608 - a constant
        number = 0
        for site in self._sites:
            more = _FORGOTTEN
            while more == _FORGOTTEN:
                with self._lock:
                    more = self._database.execute(rows, (site, site, folder, f"{folder[:-1]}0")).rowcount
                number += more
        return number

    def waiting(self) -> dict[str, int]:
        """Return how many objects wait for each site."""
        with self._lock:
            return {site: self._waiting[site] for site in self._sites}
