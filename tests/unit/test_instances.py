"""Two runs on one host share no instance, and take turns with machines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import instances
from dpp.model.folders import Folders

_OTHER = """
import sys
from pathlib import Path
import instances
instances._left = lambda: set()
with instances.turn(Path(sys.argv[1])):
    print("its turn", flush=True)
    sys.stdin.read()
print("over", flush=True)
"""


def other(lock: Path) -> subprocess.Popen[str]:
    variables = {name: value for name, value in os.environ.items() if name != instances.HELD}
    return subprocess.Popen(
        [sys.executable, "-c", _OTHER, str(lock)], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, cwd=Path(instances.__file__).parent, env=variables,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def outside_of_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(instances.HELD, raising=False)
    monkeypatch.setattr(instances, "_left", set)


def test_an_instance_is_named_after_its_process() -> None:
    assert instances.instance("t") != instances.instance("m")
    assert Folders(instances.instance("t")).instance.endswith(str(os.getpid()))


def test_who_waits_says_for_whom(tmp_path: Path) -> None:
    lock = tmp_path / "machines.lock"
    with instances.turn(lock), instances.turn(lock):
        waiting = other(lock)
        assert waiting.stderr is not None
        assert f"process {os.getpid()} " in waiting.stderr.readline()
        assert waiting.poll() is None
    said, _ = waiting.communicate("")
    assert said == "its turn\nover\n"


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    lock = tmp_path / "machines.lock"
    killed = other(lock)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "its turn\n"
    killed.kill()
    killed.communicate()
    with instances.turn(lock):
        assert str(os.getpid()) in lock.read_text()


def test_what_killed_runs_have_left_goes_before_a_turn_and_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, gone = {"t0000042"}, []
    monkeypatch.setattr(instances, "_left", lambda: set(left))
    monkeypatch.setattr(instances, "_remove", lambda name: (left.discard(name), gone.append(name)))
    with instances.turn(tmp_path / "machines.lock"):
        assert gone == ["t0000042"]
        left.add("m0000042")
    assert gone == ["t0000042", "m0000042"]


def test_only_names_of_runs_are_taken_for_theirs() -> None:
    names = ("dpp-t0000042-svc01-ncsa", "dpp-lab-svc01-ncsa", "dpp-t42-rt01-base", "dpp-mylab007-wires")
    assert [name for name in names if instances.OURS.fullmatch(name)] == ["dpp-t0000042-svc01-ncsa"]
