"""A command that is killed leaves nothing behind that goes on without it, or that keeps the next one out."""

from __future__ import annotations

import os
import select
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
import sys
from dpp.model.environment import Environment
from dpp.model.folders import Folders
from dpp.operations.data_plane import DataPlane
plane = DataPlane(Environment.load("production"), "report", "ncsa", Folders("sample"))
program = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
for line in plane.lines("timeit", "-n1", "-r1", program, seconds=600):
    print(line, flush=True)
"""


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(Folders, "run", property(lambda _: tmp_path / "run"))
    return Folders("sample")


def test_a_workload_ends_with_the_command_that_started_it(folders: Folders) -> None:
    del folders
    with subprocess.Popen([sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        workload = os.pidfd_open(int(process.stdout.readline()))
        process.kill()
        ended, _, _ = select.select([workload], [], [], 60)
    os.close(workload)
    assert ended


def test_one_night_at_a_time_and_a_killed_one_keeps_nobody_out(folders: Folders) -> None:
    lab = Environment.load("lab")
    first, second = (Night(lab, folders, Plan(name=name), Reporter(quiet=True)) for name in ("first", "second"))
    with first._alone(), pytest.raises(RetriableError, match=r"night second: process \d+ .* is at work on it"):
        second.run()
    lock = folders.run / "night.lock"
    assert lock.read_text(), "as a killed one leaves it"
    with second._alone():
        pass
