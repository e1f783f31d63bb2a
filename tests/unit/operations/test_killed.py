"""A command that is killed leaves nothing behind that goes on without it, or that keeps the next one out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dpp.adapters.progress import Reporter
from dpp.model.environment import Environment
from dpp.model.errors import RetriableError
from dpp.model.folders import Folders
from dpp.operations.night import Night, Plan

_PROGRAM = """
import subprocess, sys
from dpp.model.environment import Environment
from dpp.model.folders import Folders
from dpp.operations.data_plane import DataPlane
plane = DataPlane(Environment.load("production"), "ncsa", Folders("sample"))
child = plane.start("timeit", "-n1", "-r1", "import time; print('begun', flush=True); time.sleep(600)", out=sys.stdout.fileno())
child.wait()
"""


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(Folders, "run", property(lambda _: tmp_path / "run"))
    return Folders("sample")


def test_a_workload_ends_with_the_command_that_started_it(folders: Folders) -> None:
    del folders
    reading, writing = os.pipe()
    with subprocess.Popen([sys.executable, "-c", _PROGRAM], stdout=writing) as process:
        os.close(writing)
        with os.fdopen(reading) as said:
            assert said.readline() == "begun\n"
            process.send_signal(signal.SIGKILL)
            assert said.read() == "", "the pipe ends with the last process that holds it"


def test_one_night_at_a_time_and_a_killed_one_keeps_nobody_out(folders: Folders) -> None:
    lab = Environment.load("lab")
    first, second = (Night(lab, folders, Plan(name=name), Reporter(quiet=True)) for name in ("first", "second"))
    with first._alone(), pytest.raises(RetriableError, match="night second: night first is being taken"):
        second.run()
    lock = folders.run / "night.lock"
    assert lock.read_text() == "first", "as a killed one leaves it"
    with second._alone():
        assert lock.read_text() == "second"
