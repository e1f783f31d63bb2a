"""Whoever has quiet is alone: those at work end first, and nobody starts before it is over."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from quiet import Quiet

TESTS = Path(__file__).parents[1]
_WORKER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from quiet import Quiet
quiet, times, rests = Quiet(Path(sys.argv[2])), int(sys.argv[3]), sys.argv[4] == "rests"
def step():
    print("begins", time.monotonic(), flush=True)
    time.sleep(0.2)  # the work: long enough that the other finds it going on
    print("ends", time.monotonic(), flush=True)
if rests:
    with quiet.work():
        step()
        for number in range(times - 1):
            quiet.rest()
            step()
else:
    for number in range(times):
        with quiet.work():
            step()
"""


@pytest.fixture
def worker(tmp_path):
    """Return a function: start another process that works some times, or once with rests, and return it at work."""
    started = []

    def start(times, how="works"):
        command = [sys.executable, "-c", _WORKER, str(TESTS), str(tmp_path), str(times), how]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        started[-1].stdout.readline()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("how", ["works", "rests"])
def test_nobody_works_while_somebody_has_quiet(worker, tmp_path, how):
    here = Quiet(tmp_path)
    with here.work():
        other = worker(5, how)
        with here.alone():
            began = time.monotonic()
            time.sleep(0.6)  # three times a work: one that did not wait would begin or end within
            ended = time.monotonic()
    said, _ = other.communicate(timeout=30)
    moments = [float(line.split()[1]) for line in said.splitlines()]
    assert len(moments) == 9
    assert not [moment for moment in moments if began < moment < ended]
    assert moments[0] < began
    assert moments[-1] > ended


def test_two_work_at_once(worker, tmp_path):
    with Quiet(tmp_path).work():
        said, _ = worker(1).communicate(timeout=30)
    assert said.startswith("ends")
