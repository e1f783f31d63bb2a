"""Processes that end with the one that started them, with all that they started themselves."""

from __future__ import annotations

import os
import select
import threading
from typing import NoReturn

import psutil


def end_with_parent() -> None:
    """End this process and its descendants, at once, when its parent ends, however that happens."""
    parent = os.getppid()
    try:
        watched = os.pidfd_open(parent)
    except ProcessLookupError:
        end(1)
    if os.getppid() != parent:
        end(1)
    threading.Thread(target=_watch, args=(watched,), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    select.select([parent], [], [])
    end(1)


def end(code: int) -> NoReturn:
    """End this process and its descendants; what they set free (a daemon, a machine's monitor) is none of them."""
    for process in psutil.Process().children(recursive=True):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    os._exit(code)
