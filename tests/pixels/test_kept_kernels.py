"""What one tree has compiled serves another of the same kernels, wherever it lies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dpp.model.folders import REPOSITORY
from workloads.pixels import compile as kernels

SOURCE = REPOSITORY / "workloads/src"


def _compile(source: Path, kept: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "workloads.pixels.compile", "--json", "--kept", str(kept)]
    environment = os.environ | {"PYTHONPATH": str(source)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=source)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_another_tree_compiles_nothing(tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    first = _compile(SOURCE, tmp_path / "kept")
    second = _compile(tmp_path / "src", tmp_path / "kept")

    assert second["kernels"] == first["kernels"]
    assert second["compiled"] == 0


def test_another_kernel_is_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(kernels._SOURCES, tmp_path / "kernels")
    monkeypatch.setattr(kernels, "_SOURCES", tmp_path / "kernels")
    before = kernels.kept_in(tmp_path)
    with (tmp_path / "kernels/rice.py").open("a") as stream:
        stream.write("# changed\n")
    assert kernels.kept_in(tmp_path) != before
