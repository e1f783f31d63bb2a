"""Killed at any instant, nothing is lost: the next `up` leaves exactly the objects that the program asks for.

Boundaries are the start and end of each call to the provider, the middle of its work, where it kills its engine or itself;
and the instant after each checkpoint. Counters and sequences of events are the judges, no clock.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import struct
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from dpp.adapters.pulumi.events import Event
from dpp.adapters.pulumi.stacks import Stacks
from stacks.projects import FIRST, SECOND, Ledger

VICTIMS = ("engine", "provider")
RANDOM_KILLS = 50
AT_ONCE = 2
SOME = (3, 21, 34)
_MOVED_TO = 0x80


def cut_short(ledger: Ledger) -> None:
    """Run an operation that somebody is to be killed in, one step after the other."""
    result = Stacks(ledger.backend, parallel=1).up(ledger.stack)
    assert not result.ok
    ledger.spare()


def recover(ledger: Ledger, wanted: set[str], *, again: bool = False) -> None:
    """Apply once more, then hold state, objects and program side by side."""
    result = ledger.stacks.up(ledger.stack)
    assert result.ok, result.errors
    objects, living, state = ledger.objects(), ledger.living(), ledger.state()
    assert objects.keys() == living.keys() == wanted
    assert all(record["finished"] for record in objects.values()), objects
    for name, found in living.items():
        assert objects[name]["urn"] == found["urn"]
        assert objects[name]["inputs"]["size"] == found["inputs"]["size"]
    assert not state.get("pending_operations")
    assert not [found for found in state["resources"] if found.get("delete") or found.get("initErrors")]
    standing: set[str] = set()
    for what, name in ledger.log():
        assert what == "delete" or name not in standing, f"{name} was created while it stood"
        (standing.discard if what == "delete" else standing.add)(name)
    if again:
        assert ledger.stacks.up(ledger.stack).changes == 0


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """Return the program's first form, applied."""
    ledger = Ledger.make(tmp_path_factory.mktemp("standing") / "project")
    result = ledger.stacks.up(ledger.stack)
    assert result.ok, result.errors
    assert ledger.objects().keys() == FIRST
    ledger.spare()
    return ledger


def changing(standing: Ledger, top: Path) -> Ledger:
    ledger = standing.copy(top)
    ledger.configure(mode="second")
    return ledger


def counted(ledger: Ledger) -> int:
    """Apply undisturbed and return the number of boundaries."""
    assert Stacks(ledger.backend, parallel=1).up(ledger.stack).ok
    return ledger.boundaries


@pytest.fixture(scope="module")
def total(standing: Ledger, tmp_path_factory: pytest.TempPathFactory) -> int:
    """Return the number of boundaries of the change."""
    return counted(changing(standing, tmp_path_factory.mktemp("counted") / "project"))


def side_by_side(attempt: Callable[[str, int], object], numbers: Iterable[tuple[str, int]]) -> None:
    """Make all attempts, two at a time, and raise what went wrong first."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for outcome in [pool.submit(attempt, *one) for one in numbers]:
            outcome.result()


def test_some_boundaries(standing: Ledger, tmp_path: Path) -> None:
    def attempt(victim: str, boundary: int) -> None:
        ledger = changing(standing, tmp_path / f"{victim}{boundary}")
        ledger.kill(victim, boundary)
        cut_short(ledger)
        recover(ledger, SECOND, again=boundary == SOME[0])

    side_by_side(attempt, [(victim, boundary) for victim in VICTIMS for boundary in SOME])


@pytest.mark.parametrize("instant", ["half", "over"])
def test_what_is_no_longer_wanted_is_deleted(tmp_path: Path, instant: str) -> None:
    """An object whose creation was cut short is known by its owner, also to a program that does not ask for it."""
    ledger = Ledger.make(tmp_path / "project")
    ledger.configure(mode="protected")
    ledger.program.write_text(ledger.program.read_text().replace(", opts=options(protect=True)", ""))
    ledger.kill("engine", f"Create kept {instant}")
    cut_short(ledger)
    pending = ledger.state().get("pending_operations") or []
    assert [operation["resource"]["urn"].rpartition("::")[2] for operation in pending] == ["kept"]
    assert ledger.objects()["kept"]["finished"] == (instant == "over")
    ledger.configure(mode="first")
    recover(ledger, FIRST)


@pytest.mark.slow
def test_every_boundary_of_a_change(standing: Ledger, total: int, tmp_path: Path) -> None:
    def attempt(victim: str, boundary: int) -> None:
        ledger = changing(standing, tmp_path / f"{victim}{boundary}")
        ledger.kill(victim, boundary)
        cut_short(ledger)
        recover(ledger, SECOND)

    assert total > 60
    side_by_side(attempt, [(victim, boundary) for victim in VICTIMS for boundary in range(1, total + 1)])


@pytest.mark.slow
def test_every_boundary_of_a_creation(tmp_path: Path) -> None:
    def attempt(victim: str, boundary: int) -> None:
        ledger = Ledger.make(tmp_path / f"{victim}{boundary}")
        ledger.kill(victim, boundary)
        cut_short(ledger)
        recover(ledger, FIRST)

    total = counted(Ledger.make(tmp_path / "counted"))
    assert total > 20
    side_by_side(attempt, [(victim, boundary) for victim in VICTIMS for boundary in range(1, total + 1)])


class Checkpoints:
    """Counts the checkpoints of a stack as they are written, and kills their writer at one."""

    def __init__(self, ledger: Ledger, kill_at: int = 0) -> None:
        self.count, self._kill_at = 0, kill_at
        self._ledger = ledger
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._watch = self._libc.inotify_init1(os.O_CLOEXEC)
        folder = ledger.backend.folder / ".pulumi/stacks/ledger"
        assert self._libc.inotify_add_watch(self._watch, os.fsencode(folder), _MOVED_TO) > 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while found := os.read(self._watch, 4096):
            while found:
                length = struct.unpack_from("iIII", found)[3]
                name = found[16 : 16 + length].rstrip(b"\0").decode()
                found = found[16 + length :]
                self.count += name == f"{self._ledger.stack}.json"
                if self.count == self._kill_at:
                    self._kill()

    def _kill(self) -> None:
        for holder in self._ledger.backend.locks(self._ledger.stack).glob("*.json"):
            pid = int(holder.read_text().partition('"pid":')[2].partition(",")[0])
            psutil.Process(pid).send_signal(signal.SIGKILL)


@pytest.mark.slow
def test_after_every_checkpoint(standing: Ledger, tmp_path: Path) -> None:
    def attempt(_: str, number: int) -> None:
        ledger = changing(standing, tmp_path / str(number))
        Checkpoints(ledger, number)
        Stacks(ledger.backend, parallel=1).up(ledger.stack)
        ledger.spare()
        recover(ledger, SECOND)

    ledger = changing(standing, tmp_path / "counted")
    watched = Checkpoints(ledger)
    counted(ledger)
    assert watched.count > 10
    side_by_side(attempt, [("", number) for number in range(1, watched.count + 1)])


@pytest.mark.slow
def test_random_kills(standing: Ledger, total: int, tmp_path: Path) -> None:
    """Twenty-five times the engine, twenty-five times the provider, with steps side by side, one to three times in a row."""
    chance = random.Random(20260519)  # noqa: S311 - the same instants every time
    kills = [
        [(chance.choice(VICTIMS), chance.randint(1, total)) for _ in range(chance.randint(1, 3))]
        for _ in range(RANDOM_KILLS)
    ]

    def attempt(_: str, number: int) -> None:
        ledger = changing(standing, tmp_path / str(number))
        for victim, boundary in kills[number]:
            ledger.kill(victim, boundary)
            ledger.stacks.up(ledger.stack)
        ledger.spare()
        recover(ledger, SECOND)

    side_by_side(attempt, [("", number) for number in range(RANDOM_KILLS)])


def test_a_change_taken_back_after_a_kill(standing: Ledger, total: int, tmp_path: Path) -> None:
    """What an update or deletion that was cut short did is undone, though the program asks for what is recorded."""
    for boundary in (total // 2, total - 3):
        ledger = changing(standing, tmp_path / str(boundary))
        ledger.kill("engine", boundary)
        cut_short(ledger)
        ledger.configure(mode="first")
        recover(ledger, FIRST)


def test_what_is_settled_is_said(standing: Ledger, total: int, tmp_path: Path) -> None:
    ledger = changing(standing, tmp_path / "project")
    ledger.kill("engine", total - 1)
    cut_short(ledger)
    events: list[Event] = []
    assert ledger.stacks.up(ledger.stack, events.append).ok
    said = [event.message for event in events if event.severity == "warning"]
    assert any(message.startswith("broke the lock of") for message in said), said
    assert any("was cut short while" in message for message in said), said
