"""`make test` ends at the first phase that fails, and always says what it came to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from proofs.catalogue import ROOT
from proofs.gate import Gate, Phase
from proofs.results import Results


class ThreePhases(Gate):
    """A gate whose second phase comes to what it is told."""

    second = Results(2, 0, 1, {"a::slow": 9.0, "a::fast": 0.1}, {"a::sky": "no sky"})

    def steps(self) -> dict[str, Callable[[Phase], None]]:
        return {
            "first": lambda phase: self.take(phase, Results(3)),
            "second": lambda phase: self.take(phase, self.second),
            "third": lambda phase: self.take(phase, Results(5)),
        }


def test_the_last_line_counts_all_phases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ThreePhases(tmp_path).run() == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "10 passed, 0 failed"
    assert "skipped: a::sky: no sky" in said
    assert (tmp_path / "summary.txt").read_text().splitlines()[-1] == said[-1]
    kept = json.loads((tmp_path / "summary.json").read_text())
    assert [phase["name"] for phase in kept["phases"]] == ["first", "second", "third", "all"]
    assert kept["seconds"]["a::slow"] == 9.0


def test_a_phase_that_fails_is_the_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gate = ThreePhases(tmp_path)
    gate.second = Results(2, 1)
    assert gate.run() == 1
    assert [phase.name for phase in gate.phases] == ["first", "second"]
    assert capsys.readouterr().out.splitlines()[-1] == "5 passed, 1 failed"


def test_a_phase_that_is_cut_short_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gate = ThreePhases(tmp_path)
    gate.take = None  # type: ignore[assignment,method-assign]
    with pytest.raises(TypeError):
        gate.run()
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 1 failed"


def test_a_test_that_hangs_is_said_to_hang(tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text("import pytest, time\n@pytest.mark.timeout(1)\ndef test_it(): time.sleep(600)\n")
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-c", os.devnull, f"--rootdir={tmp_path}", str(file)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "test_it.py::test_it hung: Timeout (>1.0s) from pytest-timeout." in done.stdout
