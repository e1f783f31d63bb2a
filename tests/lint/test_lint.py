"""The linters and the type checker, configured once in the tree, are part of the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from filelock import FileLock

from dpp.model.folders import Folders

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def run(*command: str) -> None:
    done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


def test_python_is_free_of_lint():
    run("ruff", "check", ".")


def test_python_is_formatted():
    run("ruff", "format", "--check", ".")


def test_types_are_strict():
    """What mypy remembers is shared by all checkouts: it holds each piece against the content of its file, not against dates."""
    remembered = Folders.current().cache / "mypy"
    remembered.mkdir(parents=True, exist_ok=True)
    with FileLock(remembered.with_suffix(".lock")):
        run("mypy", "--cache-dir", str(remembered))


def test_yaml_is_free_of_lint():
    run("yamllint", "--strict", ".")
