"""Names of instances that no other run on this host has, and turns for those who make machines.

A host's inotify instances suffice for the machines of one lab, so whoever makes machines has them to itself.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpp.adapters.locks import exclusive
from dpp.adapters.podman import Podman
from dpp.adapters.progress import Reporter
from dpp.lab import wires
from dpp.lab.lifecycle import Lab
from dpp.model.folders import Folders

LOCK = Path("/run/lock/dpp-machines.lock")
"""Held, on the whole host, by whoever makes machines."""
HELD = "DPP_MACHINES"
"""Environment variable that tells descendants of the holder that the turn is theirs."""

OURS = re.compile(r"dpp-([a-z]\d{7})-.*")
"""How the machines and namespaces of runs are called."""


def instance(letter: str) -> str:
    """Return this process's instance of a kind; nobody calls a lab of their own a letter and seven digits."""
    return f"{letter}{os.getpid():07d}"


@contextmanager
def turn(lock: Path = LOCK) -> Iterator[None]:
    """Be the only one on this host who makes machines; first wait for another, and remove what killed ones have left."""
    if HELD in os.environ:
        yield
        return
    with exclusive(lock, tell=lambda text: print(text, file=sys.stderr, flush=True)):
        os.environ[HELD] = str(os.getpid())
        try:
            _clean()
            yield
            _clean()
        finally:
            del os.environ[HELD]


def _clean() -> None:
    for name in _left():
        _remove(name)


def _remove(name: str) -> None:
    Lab(Folders(name), Reporter(quiet=True)).down()


def _left() -> set[str]:
    """Return the instances that runs have left behind: at one's own turn no other makes any."""
    containers = Podman().run("ps", "--all", "--format={{.Names}}").split()
    namespaces = [path.name for path in wires.NAMESPACES.glob("dpp-*")]
    return {found[1] for name in (*containers, *namespaces) if (found := OURS.fullmatch(name))}
