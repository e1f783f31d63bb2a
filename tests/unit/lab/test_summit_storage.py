"""The summit's operators see how many nights of room are left, and by the exit code when less than one is."""

from __future__ import annotations

import importlib.util
import json
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

from dpp.model.folders import REPOSITORY


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = REPOSITORY / "roles/summit_storage/files/summit-storage"
    spec = importlib.util.spec_from_loader("summit_storage", SourceFileLoader("summit_storage", str(path)))
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    (tmp_path / "data").mkdir()
    settings = {"folder": str(tmp_path / "data"), "capacity_bytes": 10 * 1024**2, "nights": 10, "metrics": ""}
    (tmp_path / "capacity.json").write_text(json.dumps(settings))
    monkeypatch.setattr(found, "SETTINGS", tmp_path / "capacity.json")
    monkeypatch.setattr(sys, "argv", ["summit-storage", "status", "--json"])
    return found


@pytest.mark.parametrize(("megabytes", "code"), [(0, 0), (8, 0), (9.5, 1), (12, 1)])
def test_the_exit_code_says_whether_a_night_fits(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], megabytes: float, code: int
) -> None:
    (tmp_path / "data/objects").write_bytes(b"x" * int(megabytes * 1024**2))

    assert program.main() == code
    figures = json.loads(capsys.readouterr().out)
    assert figures["nights_left"] == pytest.approx(max(0, 10 - megabytes), abs=0.1)


def test_measuring_rests_in_proportion_to_its_work(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many folders of few files: each look costs 20 ms, so that a tenth of the time is work, and none of it waits for a person."""
    clock, rests = [0.0], []

    def look() -> float:
        clock[0] += 0.01
        return clock[0]

    def rest(seconds: float) -> None:
        rests.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(program.time, "monotonic", look)
    monkeypatch.setattr(program.time, "sleep", rest)
    for number in range(100):
        (tmp_path / f"data/{number}").mkdir()
        (tmp_path / f"data/{number}/object").touch()
    settings = json.loads(program.SETTINGS.read_text())
    assert program.measure(settings)["objects"] == 100
    assert rests == []
    assert program.measure(settings, program.SHARE)["objects"] == 100
    worked = clock[0] - sum(rests)
    assert sum(rests) == pytest.approx(9 * worked, rel=0.3)
