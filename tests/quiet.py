"""Quiet for what is timed: tests of other processes end before it begins, and wait until it is over.

A night's latency is a requirement on the observatory, not on one that shares two cores with another's tests.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path


class Quiet:
    """Locks that the processes of a test run share.

    Whoever asks for quiet shuts the gate first, so that nobody starts while it waits for those at work.

    Parameters
    ----------
    folder
        Where the locks' files lie.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._gate = (folder / "gate.lock").open("w")
        self._work = (folder / "work.lock").open("w")

    @contextmanager
    def work(self) -> Iterator[None]:
        """Count as one that is at work; waits while somebody has quiet or asks for it."""
        self._begin()
        try:
            yield
        finally:
            fcntl.flock(self._work, fcntl.LOCK_UN)

    def rest(self) -> None:
        """Let those have quiet who ask for it, between two steps of a long test; called from within `work`."""
        fcntl.flock(self._work, fcntl.LOCK_UN)
        self._begin()

    def _begin(self) -> None:
        fcntl.flock(self._gate, fcntl.LOCK_SH)
        fcntl.flock(self._work, fcntl.LOCK_SH)
        fcntl.flock(self._gate, fcntl.LOCK_UN)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one at work; called from within `work`."""
        fcntl.flock(self._work, fcntl.LOCK_UN)
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        fcntl.flock(self._work, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._work, fcntl.LOCK_SH)
            fcntl.flock(self._gate, fcntl.LOCK_UN)


_shared: list[Quiet] = []


def share(folder: Path) -> None:
    """Share quiet with the other processes of this run."""
    _shared[:] = [Quiet(folder)]


def work() -> AbstractContextManager[None]:
    """Be at work, if other processes run tests as well."""
    return _shared[0].work() if _shared else nullcontext()


def rest() -> None:
    """Rest between two steps, if other processes run tests as well."""
    if _shared:
        _shared[0].rest()


def alone() -> AbstractContextManager[None]:
    """Have quiet, if other processes run tests as well."""
    return _shared[0].alone() if _shared else nullcontext()
