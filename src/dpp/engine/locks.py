"""Who works on a stack: one file per holder, as the vendor's backend keeps them."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dpp.engine.processes import lives, stat
from dpp.model.errors import FatalError, RetriableError

_CLOCK_SLACK = 2.0
"""Seconds that the start of a holder may seem to lie behind its claim: the kernel tells boot time in whole seconds."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Parameters
    ----------
    file
        The lock's file.
    user, host, pid, since
        Who it is, as the file says.
    """

    file: Path
    user: str
    host: str
    pid: int
    since: str

    def __str__(self) -> str:
        return f"{self.user}@{self.host} (process {self.pid}{'' if self.lives else ', gone'}) since {self.since}"

    @property
    def lives(self) -> bool:
        """Whether its process may still be at work; one of another host always may."""
        if self.host != socket.gethostname():
            return True
        taken = datetime.fromisoformat(self.since).timestamp()
        return lives(self.pid) and _started(self.pid) <= taken + _CLOCK_SLACK


def _started(pid: int) -> float:
    ticks = int(stat(pid)[19])
    boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    return int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Locks:
    """The locks of one stack.

    Parameters
    ----------
    folder
        Where they lie.
    stack
        Name of the stack.
    """

    folder: Path
    stack: str

    def holders(self) -> list[Holder]:
        """Return who holds the stack."""
        found = []
        for file in sorted(self.folder.glob("*.json")):
            with suppress(FileNotFoundError, ValueError):
                lock = json.loads(file.read_text())
                found.append(Holder(file, lock["username"], lock["hostname"], lock["pid"], lock["timestamp"]))
        return found

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the stack.

        Raises
        ------
        RetriableError
            If somebody holds it already.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        mine = self.folder / f"{uuid.uuid4()}.json"
        with self._alone():
            if others := self.holders():
                raise self._refusal(others)
            mine.write_text(self._claim())
        if others := [holder for holder in self.holders() if holder.file != mine]:
            mine.unlink()  # the vendor's command came at the same instant: it claims first and looks afterwards
            raise self._refusal(others)
        try:
            yield
        finally:
            mine.unlink(missing_ok=True)

    def cancel(self) -> list[Holder]:
        """Break the locks of processes that are gone and return them.

        Raises
        ------
        FatalError
            If a holder is still at work.
        """
        holders = self.holders()
        if working := [holder for holder in holders if holder.lives]:
            raise FatalError(
                self.stack,
                f"{working[0]} is still at work on it",
                "a lock whose process is gone",
                f"stop it by `kill -INT {working[0].pid}` on {working[0].host}; it finishes the steps that run and keeps the "
                f"state; if that host is gone for good, delete {working[0].file}",
            )
        for holder in holders:
            holder.file.unlink(missing_ok=True)
        return holders

    @contextmanager
    def _alone(self) -> Iterator[None]:
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _refusal(self, holders: list[Holder]) -> RetriableError:
        stale = not any(holder.lives for holder in holders)
        remedy = f"run `dpp stack cancel {self.stack}`" if stale else "wait for it to end"
        return RetriableError(
            self.stack, f"locked by {', '.join(map(str, holders))}", "a stack nobody works on", remedy
        )

    def _claim(self) -> str:
        return json.dumps(
            {
                "pid": os.getpid(),
                "username": getpass.getuser(),
                "hostname": socket.gethostname(),
                "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            }
        )
