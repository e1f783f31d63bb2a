"""Who works on a stack: one file per holder, as the engine writes it."""

from __future__ import annotations

import json
import os
import select
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

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
        try:
            process = psutil.Process(self.pid)
            taken = datetime.fromisoformat(self.since).timestamp()
            return bool(process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= taken + _CLOCK_SLACK)
        except psutil.NoSuchProcess:
            return False

    def wait(self, seconds: float) -> None:
        """Return when its process has ended, or after `seconds`; one of another host can only be waited for by the clock."""
        watched = []
        with suppress(ProcessLookupError):
            watched = [os.pidfd_open(self.pid)] if self.host == socket.gethostname() and self.lives else []
            select.select(watched, [], [], seconds)
        for descriptor in watched:
            os.close(descriptor)


def holders(folder: Path) -> list[Holder]:
    """Return who holds the stack whose locks lie in `folder`."""
    found = []
    for file in sorted(folder.glob("*.json")):
        with suppress(FileNotFoundError, ValueError):
            lock = json.loads(file.read_text())
            found.append(Holder(file, lock["username"], lock["hostname"], lock["pid"], lock["timestamp"]))
    return found


def break_dead(folder: Path) -> list[Holder]:
    """Break the locks of processes that are gone and return them."""
    dead = [holder for holder in holders(folder) if not holder.lives]
    for holder in dead:
        holder.file.unlink(missing_ok=True)
    return dead
