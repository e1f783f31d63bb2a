"""Which raws of an observing day are in the Butler: asked once a day, and remembered only of those that are swept each time."""

from __future__ import annotations

import threading
from collections.abc import Callable

from workloads.common.names import RawName

Raws = set[tuple[int, str]]
"""Numbers of exposures with names of detectors."""


class Days:
    """Raws by day; a registry of years holds more of them than a process can.

    Parameters
    ----------
    ask
        Returns the raws of a day that are in the Butler.
    """

    def __init__(self, ask: Callable[[int], Raws]) -> None:
        self._ask, self._lock = ask, threading.Lock()
        self._kept: dict[int, Raws] = {}
        self._added: dict[int, Raws] = {}
        """What was ingested here, of any day, until it is asked for anew."""
        self._wanted: set[int] = set()

    def keep(self, days: set[int]) -> None:
        """Remember these days and forget all others."""
        with self._lock:
            self._wanted = set(days)
            for kept in (self._kept, self._added):
                for day in set(kept) - days:
                    del kept[day]

    def add(self, name: RawName) -> None:
        """Note that a raw was ingested; another thread may ask for its day meanwhile."""
        day, raw = name.exposure.day_obs, (name.exposure.exposure_id, name.detector)
        with self._lock:
            if day in self._kept:
                self._kept[day].add(raw)
            else:
                self._added.setdefault(day, set()).add(raw)

    def known(self, day: int) -> Raws:
        """Return the raws of a day as they are now."""
        with self._lock:
            if day in self._kept:
                return set(self._kept[day])
        asked = self._ask(day)
        with self._lock:
            asked |= self._added.pop(day, set())
            if day in self._wanted:
                self._kept[day] = asked
            return set(asked)
