"""Circuits: netem is tried where nobody else is, both directions are read, and a delay line has one process."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from dpp.lab import wires
from dpp.lab.links import Links, shaping
from dpp.lab.links import delayline as module
from dpp.lab.links.delayline import DelayLine, stop_all
from dpp.lab.links.shaping import Shape
from dpp.lab.links.state import Condition, Wire
from dpp.model.environment import Environment
from dpp.model.errors import FatalError
from dpp.model.folders import Folders

CIRCUIT = "base-ncsa-primary"
ENVIRONMENT = Environment.load("lab")
DECLARED = Condition.declared(ENVIRONMENT.circuit(CIRCUIT), ENVIRONMENT)
_TC = """#!/bin/sh
state={folder}/$(readlink /proc/self/ns/net)
echo "$(readlink /proc/self/ns/net)" >> {folder}/asked
case "$*" in
*"qdisc add"*|*"qdisc replace"*) test ! -e "$state" || exit 2; sleep 0.1; touch "$state" ;;
*"qdisc del"*) rm "$state" ;;
esac
"""
_LINE = (
    f"#!{sys.executable}"
    """
import os, signal, sys, time
if sys.argv[1].startswith("--net="):
    os.execvp(sys.argv[3], sys.argv[3:])
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])  # none is lost between two that are waited for
{first}
while signal.sigwait([signal.SIGHUP]):
    with open("{folder}/told", "a") as told:
        told.write("told")
"""
)
_READY = 'print("ready", flush=True)'


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.root
def test_netem_is_tried_by_many_at_once_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path / "bin/tc", _TC.format(folder=tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: shaping.has_netem.__wrapped__(), range(8)))
    assert found == [True] * 8
    asked = (tmp_path / "asked").read_text().split()
    assert len(asked) == len(set(asked)) == 8
    assert str(Path("/proc/self/ns/net").readlink()) not in asked


def test_a_trial_that_says_nothing_of_netem_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path / "bin/unshare", "#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2; exit 1\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    with pytest.raises(FatalError, match=r"not permitted.*root"):
        shaping.has_netem.__wrapped__()


GOOD = Shape(DECLARED.rate_mbps, False, DECLARED.delay_ms, DECLARED.loss_percent)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Links, dict[str, dict[str, str]], list[Shape]]:
    """Show a circuit of netem whose interfaces and shapes a test may change."""
    links = Links(Folders("unit"), ENVIRONMENT)
    wire = links._wire(CIRCUIT)
    present = {port: {"master": wire.bridge, "ifalias": "urn"} for port in wire.ports}
    ends = {wire.router(end): {end.interface: {}} for end in wire.ends}
    shapes = [GOOD, GOOD]
    monkeypatch.setattr(Folders, "run", tmp_path)
    monkeypatch.setattr(wires, "exists", lambda _: True)
    monkeypatch.setattr(wires, "links", lambda name: ends.get(name, present))
    monkeypatch.setattr(shaping, "has_netem", lambda: True)
    monkeypatch.setattr(shaping, "read", lambda _, port: shapes[wire.ports.index(port)])
    return links, present, shapes


def test_a_circuit_is_sound_if_both_directions_are(seen: tuple[Links, dict[str, dict[str, str]], list[Shape]]) -> None:
    state = seen[0].read(CIRCUIT)
    assert state is not None
    assert (state.sound, state.actual, state.urn) == (True, DECLARED, "urn")


@pytest.mark.parametrize("end", [0, 1])
@pytest.mark.parametrize(
    "shape", [GOOD._replace(rate_mbps=1.0), GOOD._replace(delay_ms=1.0), GOOD._replace(loss_percent=50.0)]
)
def test_one_direction_that_differs_is_a_fault(
    seen: tuple[Links, dict[str, dict[str, str]], list[Shape]], end: int, shape: Shape
) -> None:
    links, _, shapes = seen
    shapes[end] = shape
    state = links.read(CIRCUIT)
    assert state is not None
    assert (state.sound, state.actual) == (False, None)
    assert state.faults[0].startswith("its directions differ: ")


def test_one_direction_may_be_cut_alone(seen: tuple[Links, dict[str, dict[str, str]], list[Shape]]) -> None:
    links, _, shapes = seen
    shapes[1] = Shape(DECLARED.rate_mbps, True, None, None)
    state = links.read(CIRCUIT)
    assert state is not None
    assert (state.cut, state.actual, state.faults) == (("a-to-b",), DECLARED, ())


def test_either_end_knows_the_owner_and_both_must_be_joined(
    seen: tuple[Links, dict[str, dict[str, str]], list[Shape]],
) -> None:
    links, present, _ = seen
    del present[links._wire(CIRCUIT).ports[0]]
    state = links.read(CIRCUIT)
    assert state is not None
    assert state.urn == "urn"
    assert state.faults == (f"no port towards {ENVIRONMENT.circuit(CIRCUIT).a.host}",)
    present[links._wire(CIRCUIT).ports[1]]["master"] = "other"
    state = links.read(CIRCUIT)
    assert state is not None
    assert "its ports are not joined" in state.faults


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DelayLine]:
    """Give a delay line whose program does nothing but obey."""
    for name in ("bin/delayline", "path/nsenter"):
        _program(tmp_path / name, _LINE.format(folder=tmp_path, first=_READY))
    monkeypatch.setenv("PATH", f"{tmp_path}/path:{os.environ['PATH']}")
    monkeypatch.setattr(module, "tool_folder", lambda _: tmp_path)
    monkeypatch.setattr(Folders, "run", tmp_path)
    line = DelayLine(Wire(ENVIRONMENT.circuit(CIRCUIT), Folders("unit")))
    yield line
    stop_all(tmp_path / "links")
    assert line.pid is None


def test_a_delay_line_is_started_told_and_ended(line: DelayLine, tmp_path: Path) -> None:
    line.ensure(DECLARED)
    pid = line.pid
    assert pid is not None
    assert line.read() == (DECLARED.delay_ms, DECLARED.loss_percent)
    line.ensure(DECLARED.model_copy(update={"delay_ms": 1.0}))
    assert line.pid == pid
    while not (tmp_path / "told").exists():
        time.sleep(0.01)
    line.stop()
    assert line.pid is None
    assert not list((tmp_path / "links").iterdir())


def test_who_is_killed_while_it_starts_a_delay_line_leaves_one_that_is_found(line: DelayLine, tmp_path: Path) -> None:
    """The tool dies before the line has said that it is ready; the next one finds it, and starts no other."""
    _program(tmp_path / "bin/delayline", _LINE.format(folder=tmp_path, first="time.sleep(1000)"))
    tool = os.fork()
    if tool == 0:
        with suppress(BaseException):
            line.ensure(DECLARED)
        os._exit(0)
    while line.pid is None:
        assert os.waitpid(tool, os.WNOHANG) == (0, 0)
        time.sleep(0.01)
    os.kill(tool, signal.SIGKILL)
    os.waitpid(tool, 0)
    pid = line.pid
    line.ensure(DECLARED)
    assert [process.pid for process in line._processes()] == [pid]
    line.stop()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
