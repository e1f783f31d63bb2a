"""What the workers tell their parent, which answers for them: memory that they share."""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Sequence

_ENTRY = struct.Struct("dd")
"""When a worker has beaten last, by the clock that is never set and the same in all processes; when it was prepared."""


class Board:
    """One entry for each worker, written by it alone; made before the workers are forked.

    Parameters
    ----------
    names
        The workers.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._places = {name: number * _ENTRY.size for number, name in enumerate(names)}
        self._memory = mmap.mmap(-1, max(1, len(names) * _ENTRY.size))

    def begin(self, name: str) -> None:
        """Say that a worker begins: it is not prepared, and has nothing to say yet."""
        self._write(name, 0.0, 0.0)

    def prepared(self, name: str) -> None:
        """Say that a worker has all that exposures need."""
        self._write(name, time.monotonic(), time.monotonic())

    def beat(self, name: str) -> None:
        """Say that a worker goes on."""
        self._write(name, time.monotonic(), self._read(name)[1])

    def beats(self) -> dict[str, float]:
        """Return when each worker has beaten last; one that has not begun to is its parent's to replace if it ends."""
        return {name: beat for name in self._places if (beat := self._read(name)[0]) > 0.0}

    def unprepared(self) -> list[str]:
        """Return the workers that are not prepared yet."""
        return [name for name in self._places if self._read(name)[1] == 0.0]

    def hung(self, seconds: float) -> list[str]:
        """Return the workers that have not beaten for so long."""
        now = time.monotonic()
        return [name for name, beat in self.beats().items() if now - beat > seconds]

    def _read(self, name: str) -> tuple[float, float]:
        beat, prepared = _ENTRY.unpack_from(self._memory, self._places[name])
        return float(beat), float(prepared)

    def _write(self, name: str, beat: float, prepared: float) -> None:
        _ENTRY.pack_into(self._memory, self._places[name], beat, prepared)
