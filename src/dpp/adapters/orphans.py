"""Processes that end with the one that started them, with all that they started themselves."""

from __future__ import annotations

import os
import select
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import NoReturn

import psutil

from dpp.adapters.process import daemons


def end_with_parent() -> None:
    """End this process and its descendants, at once, when its parent ends, however that happens.

    A parent that ended before this was called is known by the pipe to this process's standard input, which it held.
    """
    watched = select.poll()
    watched.register(os.pidfd_open(os.getppid()), select.POLLIN)
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        watched.register(0, 0)  # nothing is read there; that nobody can write any more is always told
    threading.Thread(target=_watch, args=(watched,), name="parent", daemon=True).start()


def _watch(watched: select.poll) -> None:
    watched.poll()
    end(1)


def end(code: int) -> NoReturn:
    """End this process and its descendants; what they set free (a daemon, a machine's monitor) is none of them."""
    for process in list(_descendants(psutil.Process())):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    os._exit(code)


def _descendants(process: psutil.Process) -> Iterator[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        for child in process.children():
            if child.pid not in daemons:
                yield child
                yield from _descendants(child)
