"""Figures that follow from the camera: what is too small is refused, with what is expected and why."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dpp.model import capacity
from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY
from dpp.model.problems import DeclarationError, Problem

VOLUMES = "inventories/production/group_vars/all/volumes.yml"
CAMERA = "inventories/production/group_vars/all/camera.yml"
POSTGRESQL = "inventories/production/group_vars/postgresql/figures.yml"
ARCHIVER = "k8s/clusters/production/summit/figures.yaml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("inventories/production", "k8s/clusters/production", "k8s/archiver"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    for specs in REPOSITORY.glob("roles/*/meta/argument_specs.yml"):
        copy = tmp_path / specs.relative_to(REPOSITORY)
        copy.parent.mkdir(parents=True)
        shutil.copy(specs, copy)
    return tmp_path


def problems(root: Path, file: str, old: str, new: str) -> list[Problem]:
    """Return what is wrong after an edit of one file."""
    path = root / file
    text = path.read_text()
    assert old in text, f"{file} has changed: {old!r} is not in it; correct this test"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DeclarationError) as caught:
        Environment.load("production", root)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("file", "old", "new", "subject", "found", "expected"),
    [
        (VOLUMES, "gib: 512", "gib: 367", "dpp_volumes/archiver-journal/gib", "367 GiB", "at least 368 GiB: 1 h without the store x a visit each 37 s x 4.05 GB, and 1 GiB of second copies"),
        (POSTGRESQL, "max_connections: 1500", "max_connections: 1355", "postgresql/postgresql_settings/max_connections", "1355 connections", "at least 1356 connections: 432 prompt workers x 3, and 60 of everybody else"),
        (POSTGRESQL, "max_connections: 1500", "max_connections: many", "postgresql/postgresql_settings/max_connections", "'many'", "at least 1356 connections"),
        (POSTGRESQL, "max_connections: 1500", "work_memory: 1MB", "postgresql/postgresql_settings/max_connections", "nothing", "at least 1356 connections"),
        (ARCHIVER, "parallel_puts: 48", "parallel_puts: 40", "archiver/parallel_puts", "40 at once", "at least 41 at once: 410 objects of a visit x 0.2 s within 2 s"),
        (ARCHIVER, "    parallel_puts: 48\n", "", "archiver/parallel_puts", "nothing", "at least 41 at once"),
    ],
)  # fmt: skip
def test_a_figure_that_the_camera_outgrows_is_refused(
    root: Path, file: str, old: str, new: str, subject: str, found: str, expected: str
) -> None:
    [problem] = problems(root, file, old, new)
    assert (problem.file, problem.subject, problem.found) == (file, subject, found)
    assert problem.expected.startswith(expected)
    assert problem.remedy
    if "parallel_puts" in new or file == VOLUMES:
        line = (root / file).read_text().splitlines()[(problem.line or 0) - 1]
        assert new.split(":", maxsplit=1)[0].strip() in line


def test_without_a_figure_of_its_own_an_environment_has_the_common_one(root: Path) -> None:
    path = root / ARCHIVER
    path.write_text(path.read_text().replace("metadata: {name: archiver}\ndata:", "metadata: {name: other}\ndata:", 1))
    with pytest.raises(DeclarationError) as caught:
        Environment.load("production", root)
    [problem] = caught.value.problems
    assert (problem.file, problem.found) == ("k8s/archiver/job.yaml", "4 at once")


@pytest.mark.parametrize(
    ("old", "new", "subjects"),
    [
        ("visit_seconds: 37", "visit_seconds: 20", {"dpp_volumes/archiver-journal/gib"}),
        ("detector_pixels: 4096", "detector_pixels: 8192", {"dpp_volumes/archiver-journal/gib"}),
    ],
)
def test_a_camera_that_grows_asks_for_more_of_all_that_follows(
    root: Path, old: str, new: str, subjects: set[str]
) -> None:
    assert {problem.subject for problem in problems(root, CAMERA, old, new)} == subjects


def test_more_workers_ask_for_more_connections(root: Path) -> None:
    found = problems(
        root, "inventories/production/group_vars/all/pools.yml", "prompt_workers: 12", "prompt_workers: 14"
    )
    assert [problem.expected for problem in found] == [
        "at least 1572 connections: 504 prompt workers x 3, and 60 of everybody else"
    ]


def test_a_visit_of_the_whole_camera_is_the_documented_one() -> None:
    """205 files of 20 MB, of which the eight wavefront halves have half a sensor each."""
    whole = capacity.visit_bytes(Environment.load("production"))
    assert whole == pytest.approx((189 + 8 + 4) * 20e6, rel=0.02)


@pytest.mark.parametrize("environment", ["lab", "production"])
def test_what_is_declared_bears_the_camera(environment: str) -> None:
    loaded = Environment.load(environment)
    assert loaded.volumes[capacity.JOURNAL].gib >= capacity.journal_gib(loaded).value
