"""Killed at any instant, the engine loses nothing: the next `up` leaves exactly the objects that the program asks for."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stacks.engine.projects import Project, make_ledger

SCRIPT = Path(__file__).with_name("crash.py")
SOURCE = Path(__file__).parents[3] / "src"
FIRST = {"base", "moved", "after", "twin-here", "user", "old", "older"}
SECOND = {"base", "moved", "after", "twin-there", "user", "fresh0", "fresh1"}
RANDOM_KILLS = 50
PATIENCE = 180
"""Seconds that one `up` may take on a busy machine; it needs two."""
AT_ONCE = 2


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
    process = begin(project, 0)
    text, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, text
    objects, living, state = project.objects(), project.living(), project.state()
    assert objects.keys() == living.keys() == wanted
    assert all(record["finished"] for record in objects.values()), objects
    for name, found in living.items():
        assert objects[name]["urn"] == found.urn
        assert objects[name]["inputs"]["size"] == found.inputs["size"]
    assert not state.pending
    assert not any(found.condemned or found.gone or found.fields.get("initErrors") for found in state.resources)
    standing: set[str] = set()
    for what, name in map(str.split, (project.ledger / ".log").read_text().splitlines()):
        assert what == "delete" or name not in standing, f"{name} was created while it stood"
        (standing.discard if what == "delete" else standing.add)(name)
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
    text, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, text
    assert project.objects().keys() == SECOND
    return int(text.split()[-1]), time.monotonic() - began


def kill_at(project: Project, boundary: int) -> None:
    process = begin(project, boundary)
    text, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == -9, text


@pytest.mark.parametrize("boundary", [40, *(pytest.param(number, marks=pytest.mark.slow) for number in (20, 60))])
def test_some_boundaries(standing: Project, tmp_path: Path, boundary: int) -> None:
    project = copy(standing, tmp_path / "project")
    project.configure(mode="second")
    kill_at(project, boundary)
    recover(project, SECOND, again=boundary != 40)


def side_by_side(attempt: Callable[[int], object], numbers: range) -> None:
    """Make all attempts, two at a time, and raise what went wrong first."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for outcome in [pool.submit(attempt, number) for number in numbers]:
            outcome.result()


@pytest.mark.slow
def test_every_boundary_of_a_change(standing: Project, boundaries: tuple[int, float], tmp_path: Path) -> None:
    def attempt(boundary: int) -> None:
        project = copy(standing, tmp_path / str(boundary))
        project.configure(mode="second")
        kill_at(project, boundary)
        recover(project, SECOND)

    assert boundaries[0] > 60
    side_by_side(attempt, range(1, boundaries[0] + 1))


@pytest.mark.slow
def test_every_boundary_of_a_creation(tmp_path: Path) -> None:
    counted = make_ledger(tmp_path / "counted")
    text, _ = begin(counted, 0).communicate(timeout=PATIENCE)
    assert counted.objects().keys() == FIRST, text

    def attempt(boundary: int) -> None:
        project = make_ledger(tmp_path / str(boundary))
        kill_at(project, boundary)
        recover(project, FIRST)

    side_by_side(attempt, range(1, int(text.split()[-1]) + 1))


@pytest.mark.slow
def test_random_instants(standing: Project, boundaries: tuple[int, float], tmp_path: Path) -> None:
    chance = random.Random(20260519)  # noqa: S311 - the same instants every time
    instants = [chance.uniform(0.3, boundaries[1]) for _ in range(RANDOM_KILLS)]
    killed = []

    def attempt(number: int) -> None:
        project = copy(standing, tmp_path / str(number))
        project.configure(mode="second")
        process = begin(project, 0)
        try:
            process.communicate(timeout=instants[number])
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed.append(number)
        recover(project, SECOND)

    side_by_side(attempt, range(RANDOM_KILLS))
    assert len(killed) > RANDOM_KILLS // 2


@pytest.mark.slow
def test_killed_again_and_again(standing: Project, tmp_path: Path) -> None:
    project = copy(standing, tmp_path / "project")
    project.configure(mode="second")
    chance = random.Random(7)  # noqa: S311 - the same instants every time
    for _ in range(12):
        begin(project, chance.randint(1, 40)).communicate(timeout=PATIENCE)
        project.workspace().cancel(project.stack)
    recover(project, SECOND)
