"""Run an `up` that kills itself at a boundary: `crash.py FOLDER BACKEND STACK NUMBER`; number 0 counts boundaries instead.

A boundary is the start or end of a call to the provider, or the instant after a checkpoint is on disk.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

from dpp.engine import Event, Workspace
from dpp.engine.transcript import Transcript

folder, backend, stack, number = sys.argv[1:]
counter = itertools.count(1)
reached = [0]


def boundary() -> None:
    reached[0] = next(counter)
    if reached[0] == int(number):
        os.kill(os.getpid(), signal.SIGKILL)


class Watched(Transcript):
    """Counts the calls to providers."""

    def start(self, method: str, *args: Any, **more: str) -> float:
        began = super().start(method, *args, **more)
        if method.startswith("ResourceProvider/"):
            boundary()
        return began

    def end(self, method: str, *args: Any, **more: str) -> None:
        super().end(method, *args, **more)
        if method.startswith("ResourceProvider/"):
            boundary()


def listen(event: Event) -> None:
    if event.kind == "checkpoint":
        boundary()


import dpp.engine.operation as under_test  # noqa: E402

under_test.Transcript = Watched  # type: ignore[misc]
result = Workspace(Path(folder), backend).up(stack, listen)
print(reached[0])
sys.exit(0 if result.ok else 1)
