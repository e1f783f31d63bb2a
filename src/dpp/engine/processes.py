"""Processes that an engine starts: they end with it, and what outlives a killed one is found by its mark."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

_MARK = "DPP_ENGINE_OWNER"


def guarded(*command: str) -> list[str]:
    """Return `command` so that the kernel ends it when the engine's process ends, however that happens."""
    setpriv = shutil.which("setpriv")
    return [*([setpriv, "--pdeathsig", "KILL"] if setpriv else []), *command]


def mark(owner: str) -> dict[str, str]:
    """Return the environment variable that marks the processes of `owner`, and all that they start."""
    return {_MARK: owner}


def end_leftovers(owner: str) -> list[int]:
    """Kill what a former provider of `owner` left half done and return the process ids; call it while holding the lock.

    Only processes of the dead provider's own session count: what it started to last (a machine's monitor, a daemon) has
    made itself a session of its own and stays.
    """
    wanted = f"{_MARK}={owner}".encode()
    ended = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with suppress(OSError):
            session = stat(folder.name)[3]
            if not lives(session) and wanted in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
                ended.append(int(folder.name))
    return ended


def stat(process: str | int) -> list[str]:
    """Return the fields of a process's entry in /proc from its state on.

    Raises
    ------
    OSError
        If there is no such process.
    """
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def lives(process: str | int) -> bool:
    """Return whether a process is there and does something."""
    try:
        return stat(process)[0] != "Z"  # a zombie only waits for its parent
    except OSError:
        return False
