"""Long work of other layers, shown by the engine: their steps become lines of a resource."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from dpp.adapters.progress import Reporter, Step

_SECONDS = 0.5
"""Shortest time between two lines of one step: the engine redraws its display for each."""


@dataclass
class _TellingStep(Step):
    tell: Callable[[str], None] = print
    _told: float = field(default=0.0)

    def advance(self, detail: str = "", by: int = 1, total: int | None = None) -> None:
        """Record progress and tell it."""
        self.total = total if total is not None else self.total
        self.done = self.done + by if self.total is None else min(self.done + by, self.total)
        if time.monotonic() - self._told >= _SECONDS:
            self._told = time.monotonic()
            count = f" {self.done}/{self.total}" if self.total else ""
            self.tell(f"{self.title}{count} {detail}".rstrip())


class TellingReporter(Reporter):
    """A reporter whose steps go to `tell`.

    Parameters
    ----------
    tell
        Takes a line for the resource that is worked on.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(quiet=True)
        self._tell = tell

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Step]:
        """Tell of one step while the body of the ``with`` runs."""
        self._tell(title)
        yield _TellingStep(title, total, tell=self._tell)

    def note(self, text: str) -> None:
        """Tell one line."""
        self._tell(text)
