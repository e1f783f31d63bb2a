"""The full facility is previewed whole, by the offline engine and without a machine; nobody applies it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from dpp.build.tools import tool
from dpp.cli.stack import app as stack_app
from dpp.cli.up import app as up_app
from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY
from dpp.model.units import UNITS

HERE = Path(__file__).parent
SOONEST = ("wan", "workloads")
"""The other units register hundreds of hosts, all by the same component as the first."""


@pytest.mark.parametrize(
    "unit", [unit if unit in SOONEST else pytest.param(unit, marks=pytest.mark.slow) for unit in UNITS]
)
def test_every_unit_is_previewed_without_machines(unit: str, tmp_path: Path) -> None:
    if not tool("kubernetes").built:
        pytest.skip("tool kubernetes is not built: dpp tools build kubernetes")
    command = [str(Path(sys.executable).with_name("dpp")), "stack", "preview", f"production.{unit}", "--json"]
    variables = os.environ | {"XDG_STATE_HOME": str(tmp_path), "DPP_ENGINE": "offline"}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=300, check=False)

    assert done.returncode == 3, done.stdout[-2000:] + done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert (found["ok"], found["errors"]) == (True, [])
    assert set(found["counts"]) == {"create"}
    assert found["changes"] > 5
    assert not list(tmp_path.glob("dpp/production/pulumi/.pulumi/stacks/*/*.json")), "a preview leaves no state"


@pytest.mark.parametrize(
    ("app", "words"),
    [
        (stack_app, ("up", "production.wan", "--yes")),
        (stack_app, ("up", "production.wan")),
        (stack_app, ("refresh", "production.wan")),
        (stack_app, ("destroy", "production.wan", "--yes")),
        (up_app, ("production", "--yes")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_applying_is_refused_with_the_reason(
    app: typer.Typer, words: tuple[str, ...], tmp_path: Path, monkeypatch: Any
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    error = CliRunner().invoke(app, list(words)).exception

    assert isinstance(error, FatalError)
    assert error.subject == "environment production"
    assert error.found.startswith("for previews only: roles make no control plane of several hosts")
    assert "dpp stack preview" in error.remedy


def test_its_programs_refuse_whatever_engine_applies_them() -> None:
    command = [sys.executable, str(HERE / "graph.py"), "--apply", "production.wan"]
    variables = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=300, check=False)

    assert done.returncode != 0
    assert "environment production: for previews only" in done.stderr
