"""A device lives as long as each of its loops goes on: one that stands still is seen by whoever asks for its health."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from unit.sal.test_sal_device import Rig
from workloads.common.serve import Health
from workloads.sal import run, twins
from workloads.sal.logs import LogEvents
from workloads.sal.twins import Twins

LOOPS = {"commands", "heartbeat", "log"}
WAIT_SECONDS = 60.0
"""What only ends a test that fails."""


class Beats(Health):
    """Counts how often each loop has said that it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()
        self.changed = threading.Condition()

    def beat(self, name: str = "main") -> None:
        super().beat(name)
        with self.changed:
            self.count[name] += 1
            self.changed.notify_all()

    def wait(self, *names: str, more: int = 3) -> None:
        """Wait until each of some loops has beaten so many times more."""
        with self.changed:
            wanted = {name: self.count[name] + more for name in names}
            reached = self.changed.wait_for(
                lambda: all(self.count[name] >= wanted[name] for name in names), WAIT_SECONDS
            )
        assert reached, f"{dict(self.count)}, expected {wanted}"


class Ended:
    """A `Stop` without signals: they are the main thread's."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.set = self.finish = self._event.set

    def __bool__(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        return self._event.wait(seconds)


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Beats]:
    monkeypatch.setattr(run, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(twins, "LISTEN_SECONDS", 0.0)
    rig, made = Rig(monkeypatch, tmp_path), Beats()
    stop: Any = Ended()
    process = threading.Thread(target=run.run_device, args=(rig.device, {}, made, stop))
    process.start()
    yield made
    stop.set()
    process.join(WAIT_SECONDS)
    assert not process.is_alive()


def test_every_loop_of_a_device_says_that_it_goes_on(health: Beats) -> None:
    health.wait(*LOOPS)
    assert set(health.count) == LOOPS
    assert health.unprepared() == []


@pytest.mark.parametrize(("loop", "owner", "step"), [("heartbeat", Twins, "watch"), ("log", LogEvents, "write")])
def test_a_loop_that_stands_still_says_so_no_more_and_the_others_go_on(
    health: Beats, monkeypatch: pytest.MonkeyPatch, loop: str, owner: type, step: str
) -> None:
    stands, goes_on = threading.Event(), threading.Event()

    def stand(*_: object) -> None:
        stands.set()
        assert goes_on.wait(WAIT_SECONDS)

    with monkeypatch.context() as changed:
        changed.setattr(owner, step, stand)
        assert stands.wait(WAIT_SECONDS)
        before = health.count[loop]
        health.wait(*LOOPS - {loop})
        assert health.count[loop] == before
        changed.setattr(health, "_patience", 0.0)
        assert loop in health.stale()
    goes_on.set()
    health.wait(loop)
