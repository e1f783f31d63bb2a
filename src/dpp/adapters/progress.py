"""Progress of long work: bars on a terminal, one line every few seconds elsewhere, always on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

_LINE_INTERVAL = 10.0
"""Seconds between two lines of one step where there is no terminal."""


@dataclass
class Step:
    """One long step; made by `Reporter.step`.

    Parameters
    ----------
    title
        What is being done, for people.
    total
        How many units it has, or None where that is unknown.
    """

    title: str
    total: int | None = None
    done: int = 0
    _bars: Progress | None = None
    _task: TaskID | None = None
    _started: float = field(default_factory=time.monotonic)
    _printed: float = field(default_factory=time.monotonic)

    def advance(self, detail: str = "", by: int = 1, total: int | None = None) -> None:
        """Record that `by` more units are done and that `detail` is being worked on; `total` corrects the total."""
        self.total = total if total is not None else self.total
        self.done = self.done + by if self.total is None else min(self.done + by, self.total)
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=self.done, total=self.total, detail=detail[-60:])
        elif time.monotonic() - self._printed >= _LINE_INTERVAL:
            self._printed = time.monotonic()
            self._print(detail)

    def finish(self) -> None:
        """Say that the step is done, and how long it took."""
        self.done = self.total or self.done
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=self.done or 1, total=self.done or 1, detail="done")
        else:
            self._print("done")

    def _print(self, detail: str) -> None:
        of = f" {self.done}/{self.total}" if self.total else ""
        seconds = time.monotonic() - self._started
        print(f"{self.title}:{of} {detail} ({seconds:.0f} s)", file=sys.stderr, flush=True)


class Reporter:
    """Shows the steps of one command.

    Parameters
    ----------
    quiet
        Show nothing (for machine-readable output).
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bars: Progress | None = None

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Step]:
        """Show one step while the body of the ``with`` runs; steps may be nested."""
        if self._quiet:
            yield Step(title, total, _printed=float("inf"))
        elif sys.stderr.isatty():
            with self._live() as bars:
                step = Step(title, total, _bars=bars, _task=bars.add_task(title, total=total, detail=""))
                yield step
                step.finish()
        else:
            print(f"{title} ...", file=sys.stderr, flush=True)
            step = Step(title, total)
            yield step
            step.finish()

    def note(self, text: str) -> None:
        """Print one line of its own."""
        if self._bars is not None:
            self._bars.console.print(text)
        elif not self._quiet:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def _live(self) -> Iterator[Progress]:
        if self._bars is not None:  # a step inside a step shares the display
            yield self._bars
            return
        columns = (
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("[dim]{task.fields[detail]}"),
        )  # fmt: skip
        with Progress(*columns, console=Console(stderr=True)) as bars:
            self._bars = bars
            try:
                yield bars
            finally:
                self._bars = None
