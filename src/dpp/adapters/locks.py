"""Work that only one process may do at a time: the lock of a file, whose holder has a name."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from dpp.model.errors import RetriableError

FOREVER = -1.0
_POLL_SECONDS = 0.02


@contextmanager
def exclusive(
    path: Path, *, subject: str = "", seconds: float = FOREVER, tell: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold the lock `path` while the body of the ``with`` runs; a holder that died holds nothing.

    Parameters
    ----------
    path
        The lock, a file whose content names its holder.
    subject
        What it guards, for the error.
    seconds
        How long to wait for another holder.
    tell
        Called with who holds it, where that has to be waited for.

    Raises
    ------
    RetriableError
        Another still holds it then; the error names it.
    """
    lock = FileLock(path, poll_interval=_POLL_SECONDS, on_acquired=_sign)
    try:
        try:
            _acquire(lock, path, 0)
        except Timeout:
            if tell is not None:
                tell(f"{_holder(path)} holds {path}: waiting for it")
            _acquire(lock, path, seconds)
    except Timeout:
        found = f"{_holder(path)} is at work on it"
        raise RetriableError(subject or str(path), found, "nobody else", "wait for it") from None
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, path: Path, seconds: float) -> None:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=seconds)
        except FileNotFoundError:  # its last holder took the folder along
            continue
        return


def _sign(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} ({' '.join(sys.argv[1:]) or 'dpp'})".encode(), 0)


def _holder(path: Path) -> str:
    with suppress(FileNotFoundError):
        return path.read_text(errors="replace") or "another process"
    return "another process"
