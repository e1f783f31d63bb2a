"""Killed at any instant, the engine loses nothing: the next `up` leaves exactly the objects that the program asks for."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from stacks.engine.projects import Project, make_ledger

SCRIPT = Path(__file__).with_name("crash.py")
SOURCE = Path(__file__).parents[3] / "src"
FIRST = {"base", "moved", "after", "twin-here", "user", "old", "older"}
SECOND = {"base", "moved", "after", "twin-there", "user", "fresh0", "fresh1"}
RANDOM_KILLS = 50


def begin(project: Project, boundary: int) -> subprocess.Popen[str]:
    arguments = [
        sys.executable,
        str(SCRIPT),
        str(project.folder),
        project.backend.as_uri(),
        project.stack,
        str(boundary),
    ]
    environment = {**os.environ, **project.environment, "PYTHONPATH": str(SOURCE)}
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def copy(project: Project, folder: Path) -> Project:
    shutil.copytree(project.folder.parent, folder)
    return Project(folder / "ledger", folder / "state", project.stack)


def recover(project: Project, wanted: set[str], *, again: bool = False) -> None:
    """Apply once more, then hold state, objects and program side by side."""
    workspace = project.workspace()
    workspace.cancel(project.stack)
    result = workspace.up(project.stack)
    assert result.ok, result.errors
    objects, living = project.objects(), project.living()
    assert objects.keys() == living.keys() == wanted
    assert all(record["finished"] for record in objects.values()), objects
    assert {name: record["urn"] for name, record in objects.items()} == {
        name: found.urn for name, found in living.items()
    }
    assert {name: record["inputs"]["size"] for name, record in objects.items()} == {
        name: found.inputs["size"] for name, found in living.items()
    }
    assert not project.state().pending
    assert not any(
        found.condemned or found.gone or found.fields.get("initErrors") for found in project.state().resources
    )
    log = (project.ledger / ".log").read_text().splitlines()
    balance = Counter(line.partition(" ")[2] for line in log if line.startswith("create "))
    balance.subtract(line.partition(" ")[2] for line in log if line.startswith("delete "))
    assert all(balance[name] <= 1 for name in balance), log  # never created while it stood
    if again:
        result = workspace.up(project.stack)
        assert result.ok
        assert result.changes == 0, result.as_json()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return the program's first form, applied."""
    project = make_ledger(tmp_path_factory.mktemp("standing") / "project")
    assert project.workspace().up(project.stack).ok
    assert project.objects().keys() == FIRST
    return project


@pytest.fixture(scope="module")
def boundaries(standing: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, float]:
    """Return the number of boundaries of the change to the second form, and its seconds."""
    project = copy(standing, tmp_path_factory.mktemp("counted") / "project")
    project.configure(mode="second")
    began = time.monotonic()
    process = begin(project, 0)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 0, text
    assert project.objects().keys() == SECOND
    return int(text.split()[-1]), time.monotonic() - began


def kill_at(project: Project, boundary: int) -> None:
    process = begin(project, boundary)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == -9, text


@pytest.mark.parametrize(
    "fraction", [0.55, pytest.param(0.3, marks=pytest.mark.slow), pytest.param(0.8, marks=pytest.mark.slow)]
)
def test_some_boundaries(standing: Project, boundaries: tuple[int, float], tmp_path: Path, fraction: float) -> None:
    project = copy(standing, tmp_path / "project")
    project.configure(mode="second")
    kill_at(project, int(boundaries[0] * fraction))
    recover(project, SECOND, again=True)


@pytest.mark.slow
def test_every_boundary_of_a_change(standing: Project, boundaries: tuple[int, float], tmp_path: Path) -> None:
    for boundary in range(1, boundaries[0] + 1):
        project = copy(standing, tmp_path / str(boundary))
        project.configure(mode="second")
        kill_at(project, boundary)
        recover(project, SECOND)


@pytest.mark.slow
def test_every_boundary_of_a_creation(tmp_path: Path) -> None:
    for boundary in range(1, 200):
        project = make_ledger(tmp_path / str(boundary))
        process = begin(project, boundary)
        text, _ = process.communicate(timeout=60)
        if process.returncode == 0:
            assert int(text.split()[-1]) < boundary
            assert boundary > 40
            return
        assert process.returncode == -9, text
        recover(project, FIRST)
    pytest.fail("the creation has no end")


@pytest.mark.slow
def test_random_instants(standing: Project, boundaries: tuple[int, float], tmp_path: Path) -> None:
    chance = random.Random(20260519)  # noqa: S311 - the same instants every time
    killed = 0
    for attempt in range(RANDOM_KILLS):
        project = copy(standing, tmp_path / str(attempt))
        project.configure(mode="second")
        process = begin(project, 0)
        try:
            process.communicate(timeout=chance.uniform(0.3, boundaries[1]))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
        recover(project, SECOND)
    assert killed > RANDOM_KILLS // 2


@pytest.mark.slow
def test_killed_again_and_again(standing: Project, tmp_path: Path) -> None:
    project = copy(standing, tmp_path / "project")
    project.configure(mode="second")
    chance = random.Random(7)  # noqa: S311 - the same instants every time
    for _ in range(12):
        begin(project, chance.randint(1, 40)).communicate(timeout=60)
        project.workspace().cancel(project.stack)
    recover(project, SECOND)
