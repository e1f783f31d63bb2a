"""Locks: one at a time, whoever takes the file away; the holder has a name, and loses all when it dies."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dpp.adapters.locks import exclusive
from dpp.adapters.progress import Reporter
from dpp.lab.lifecycle import Lab
from dpp.lab.machines import Machines
from dpp.model.errors import RetriableError
from dpp.model.folders import Folders

_HOLD = """
import sys, time
from pathlib import Path
from dpp.adapters.locks import exclusive
lock, log = Path(sys.argv[1]), Path(sys.argv[2])
def say(word):
    with log.open("a") as stream:
        stream.write(word + "\\n")
with exclusive(lock, tell=lambda _: say("waits")):
    say("enters")
    time.sleep(float(sys.argv[3]))
    say("leaves")
"""


@contextmanager
def holder(lock: Path, log: Path, seconds: float = 1000.0) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", _HOLD, lock, log, str(seconds)]) as process:
        yield process
        process.kill()


def wait_for(log: Path, word: str, times: int = 1) -> None:
    while not log.exists() or log.read_text().split().count(word) < times:
        time.sleep(0.01)


def test_the_holder_is_named_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    lock, log = tmp_path / "lock", tmp_path / "log"
    with holder(lock, log) as process:
        wait_for(log, "enters")
        with pytest.raises(RetriableError, match=rf"^lab x: process {process.pid} \({lock}.*\) is at work on it; "):
            exclusive(lock, subject="lab x", seconds=0).__enter__()
        process.kill()
        process.wait()
        with exclusive(lock, seconds=0):
            pass


def test_those_who_wait_enter_one_after_the_other_though_the_file_was_taken_away(tmp_path: Path) -> None:
    lock, log = tmp_path / "run/lock", tmp_path / "log"
    with exclusive(lock), holder(lock, log, 0.3) as first, holder(lock, log, 0.3) as second:
        wait_for(log, "waits", 2)
        lock.unlink()
        with suppress(OSError):  # one that waits may have made it anew already
            lock.parent.rmdir()
        with holder(lock, log, 0.3) as third:  # finds no file, and makes it
            for process in (first, second, third):
                assert process.wait(60) == 0
    assert [word for word in log.read_text().split() if word != "waits"] == ["enters", "leaves"] * 3


@pytest.mark.parametrize("verb", ["restart", "stop"])
def test_a_machine_is_not_touched_while_another_command_is_at_work(
    tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Folders, "run", property(lambda self: tmp_path / self.instance))
    monkeypatch.setattr(Machines, "existing", lambda *_: None)
    lab = Lab(Folders("busy"), Reporter(quiet=True))
    with holder(tmp_path / "busy.lock", tmp_path / "log") as process:
        wait_for(tmp_path / "log", "enters")
        with pytest.raises(RetriableError, match=rf"lab busy: process {process.pid} .*at work"):
            getattr(lab, verb)("svc01.summit")
