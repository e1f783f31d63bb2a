"""Long commands that report as they go, and work that only one process may do at a time."""

from __future__ import annotations

import fcntl
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dpp.adapters.progress import Reporter
from dpp.model.errors import FatalError

_TAIL = 40
"""Lines of a failed command that are shown."""


@contextmanager
def exclusive(lock: Path, reporter: Reporter) -> Iterator[None]:
    """Hold the file `lock` while the body of the ``with`` runs, waiting for another holder first."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reporter.note(f"another process holds {lock}: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def lines(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield what `command` prints, on both streams, line by line.

    Raises
    ------
    FatalError
        The command failed; the error ends with the last lines that it printed.
    """
    printed: list[str] = []
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - PIPE was asked for
        try:
            for line in process.stdout:
                printed = [*printed[1 - _TAIL :], line.rstrip()]
                yield line.rstrip()
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise FatalError(shlex.join(command[:4]), f"exit code {process.returncode}:\n" + "\n".join(printed))
