"""The forwarder's journal and sweep alone, with as many transfers as the buffer of ten nights holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from workloads.common.names import ExposureName
from workloads.common.s3 import Item
from workloads.common.times import day_obs, tai_now
from workloads.forwarder.forward import Forwarder
from workloads.forwarder.journal import TransferJournal, class_of, exposure_of
from workloads.forwarder.sweep import Sweep

from . import servers
from .camera_files import SCIENCE, FocalPlane
from .harness import Footprint, Values, Verdict, against

SITES = ["ncsa", "base"]
TAKE_SECONDS, SHARE_OF_SWEEPS, BYTES_A_ROW, START_SECONDS = 0.002, 0.1, 600.0, 60.0
_WORKERS = 8
_INSERT = "INSERT INTO transfers (site, key, class, exposure, state, sha256, size) VALUES (?, ?, ?, ?, ?, ?, ?)"


class Night:
    """Keys of nights: two files of each sensor of a visit, and a list.

    Parameters
    ----------
    sensors
        Sensors of the camera.
    visits
        Visits of a night.
    """

    def __init__(self, sensors: int, visits: int) -> None:
        self._sensors, self._visits = FocalPlane(detectors=sensors).sensors, visits

    def keys(self, day: int) -> Iterator[str]:
        """Yield the keys of a night as a store lists them."""
        for visit in range(1, self._visits + 1):
            name = ExposureName(day, visit, "O")
            for sensor in self._sensors:
                yield name.key(sensor)
                yield name.key(sensor, ".json")
            yield name.expected_sensors_key


class Listing:
    """A store that lists; how long a real one takes for that is no matter of the journal."""

    def __init__(self, night: Night, days: list[int]) -> None:
        self._night, self.days = night, days

    def list(self, _bucket: str, prefix: str) -> Iterator[Item]:
        day = prefix.split("/")[1]
        if day.isdigit() and int(day) in self.days:
            yield from (Item(key, 1, 0.0) for key in self._night.keys(int(day)))

    def directly(self, _bucket: str, _prefix: str) -> Iterator[Item]:
        return iter(())

    def folders(self, _bucket: str, prefix: str) -> Iterator[str]:
        return (f"{prefix}{day}/" for day in self.days)


def fill(journal: TransferJournal, night: Night, days: list[int], rows: int) -> int:
    """Write the rows of nights, the newest first; of the oldest half nothing was sent yet. Return how many."""
    database: Any = journal._database
    database.execute("PRAGMA synchronous = OFF")
    number = 0
    for day in days:
        if number >= rows:
            break
        state = "told" if number < rows // 2 else "waiting"
        made = [
            (site, key, class_of(key), exposure_of(key), state, "a" * 64 if state == "told" else "", 0)
            for key in night.keys(day)
            for site in SITES
        ]
        database.execute("BEGIN")
        database.executemany(_INSERT, made)
        database.execute("COMMIT")
        number += len(made)
    database.execute("PRAGMA synchronous = FULL")
    return number


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Measure takes beside a sweep, and what the journal needs."""
    rows, night = (30_000, Night(9, 50)) if quick else (10_000_000, Night(SCIENCE, 1000))
    today = day_obs(tai_now())
    days = [today, *(20260101 + 100 * (number // 28) + number % 28 for number in range(200, -1, -1))]
    with servers.scratch() as folder:
        path = folder / "journal.db"
        number = fill(TransferJournal(path, SITES), night, days, rows)
        footprint, started = Footprint(), Values()
        with started:
            journal = TransferJournal(path, SITES)
        size = sum(file.stat().st_size for file in folder.iterdir())
        listing: Any = Listing(night, days[:1])
        forwarder = Forwarder(listing, [], journal, lambda *_: None)
        swept = Values()
        takes, sent = _takes(journal, Sweep(listing, forwarder), swept, 60 if quick else 3000)
        cost = swept.values[0]
        notes = {
            "rows": number,
            "workers": _WORKERS,
            "sent_ms": round(1e3 * sorted(sent.values)[len(sent.values) // 2], 3),
        }
        return [
            against("forwarder", "take, s", takes, TAKE_SECONDS, **notes, **footprint.notes()),
            against("forwarder", "share of the time that is swept", Values(cost / (cost + Sweep.pause(cost))), SHARE_OF_SWEEPS, sweep_seconds=round(cost, 2), keys=len(list(night.keys(today)))),
            against("forwarder", "bytes of a row", Values(size / number), BYTES_A_ROW, rows=number),
            against("forwarder", "start, s", started, START_SECONDS, rows=number, threads=threads),
        ]  # fmt: skip


def _takes(journal: TransferJournal, sweep: Sweep, swept: Values, count: int) -> tuple[Values, Values]:
    """Take and send as several workers do, while a sweep goes on; return the seconds of takes and of notes."""
    takes, sent, begun = Values(), Values(), threading.Barrier(_WORKERS + 1)

    def work() -> None:
        begun.wait()
        for _ in range(count // _WORKERS):
            clock = time.perf_counter()
            transfer = journal.take(SITES[0])
            taken = time.perf_counter()
            assert transfer is not None
            journal.sent(transfer, "b" * 64, 1)
            takes.values.append(taken - clock)
            sent.values.append(time.perf_counter() - taken)

    workers = [threading.Thread(target=work) for _ in range(_WORKERS)]
    for worker in workers:
        worker.start()
    begun.wait()
    with swept:
        sweep.once()
    for worker in workers:
        worker.join()
    return takes, sent
