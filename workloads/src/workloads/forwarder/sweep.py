"""Finds what no event told of: folder by folder, at most a tenth of the time, however much the store holds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from workloads.common.errors import WorkloadError
from workloads.common.names import INSTRUMENT
from workloads.common.s3 import Store
from workloads.common.serve import Health, Stop
from workloads.common.times import recent_nights
from workloads.forwarder.forward import BUCKET

LOG = logging.getLogger(__name__)
SWEEP_SECONDS = 30.0
_PAUSES_PER_COST = 9.0
"""How many times as long as a sweep took the next one waits: a night of 400,000 objects takes a minute to list."""
_FREE_SECONDS = SWEEP_SECONDS / _PAUSES_PER_COST
"""What a sweep may cost at no price: a store that is small is looked at as a whole each time."""


class Notes(Protocol):
    """Where what is found goes."""

    def note_swept(self, folder: str, keys: Iterable[str], beat: Callable[[], None]) -> int:
        """Take up what is new of a folder; return how many transfers that is. `beat` is called as it goes on."""

    def keep_only(self, folders: set[str]) -> int:
        """Forget what is over of all folders but these; return how many transfers that was."""


class Sweep:
    """Sweeps the source store.

    Each time this observing day, the last, what lies in no folder, and other folders in turn are looked at, at least one: an
    event can be lost, and what it told of is found, whatever its age.

    Parameters
    ----------
    source
        The store.
    forwarder
        Who takes what is found.
    clock
        Seconds of a clock that is never set.
    """

    def __init__(self, source: Store, forwarder: Notes, clock: Callable[[], float] = time.monotonic) -> None:
        self._source, self._forwarder, self._clock = source, forwarder, clock
        self._others: list[str] = []

    def run(self, stop: Stop, health: Health, name: str) -> None:
        """Sweep until told to stop."""
        pause = 0.0
        while not stop.wait(min(pause, 1.0)):
            health.beat(name)
            pause -= 1.0
            if pause > 0.0:
                continue
            begun = self._clock()
            try:
                if found := self.once(lambda: health.beat(name)):
                    LOG.info("sweep found %d transfers to make", found)
            except WorkloadError as error:
                LOG.warning("%s; again later", error)
            pause = self.pause(self._clock() - begun)

    @staticmethod
    def pause(cost: float) -> float:
        """Return how many seconds the next sweep waits after one that took `cost` seconds."""
        return max(SWEEP_SECONDS, _PAUSES_PER_COST * cost)

    def once(self, beat: Callable[[], None] = lambda: None) -> int:
        """Sweep once and return how many transfers were unknown; `beat` is called as it goes on."""
        begun, root = self._clock(), f"{INSTRUMENT}/"
        recent = [f"{root}{night}/" for night in recent_nights()]
        found = self._forwarder.note_swept(root, (item.key for item in self._source.directly(BUCKET, root)), beat)
        for folder in (*recent, *self._others_in_turn(root, recent, begun)):
            keys = (item.key for item in self._source.list(BUCKET, folder))
            found += self._forwarder.note_swept(folder, keys, beat)
        return found

    def _others_in_turn(self, root: str, recent: list[str], begun: float) -> Iterator[str]:
        """Yield the next of the folders that are not looked at each time: one, and more as long as no pause grows by it."""
        yield from self._another(root, recent)
        while self._others and self._clock() - begun < _FREE_SECONDS:
            yield from self._another(root, recent)

    def _another(self, root: str, recent: list[str]) -> list[str]:
        """Return the next of the folders that are not looked at each time, the newest first."""
        if not self._others:
            there = set(self._source.folders(BUCKET, root))
            if there and (forgotten := self._forwarder.keep_only(there | {root} | set(recent))):
                LOG.info("forgot %d transfers of what the store does not have any more", forgotten)
            self._others = sorted(there - set(recent))
        return [self._others.pop()] if self._others else []
