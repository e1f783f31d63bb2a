"""Where the time of a long command went: its phases, each with its seconds and its share of the whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Phases:
    """The phases of one command in the order in which they began.

    Parameters
    ----------
    seconds
        Duration of each phase.
    """

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure what runs meanwhile, also where it fails."""
        begun = time.monotonic()
        self.seconds[name] = 0.0
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - begun

    @property
    def total(self) -> float:
        """Seconds of all phases together."""
        return sum(self.seconds.values())

    def rows(self) -> list[dict[str, Any]]:
        """Return phase, seconds and share in percent, one mapping per phase."""
        whole = self.total or 1.0
        return [
            {"phase": name, "seconds": round(seconds, 1), "share": f"{100 * seconds / whole:.0f} %"}
            for name, seconds in self.seconds.items()
        ]
