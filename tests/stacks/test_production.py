"""The full facility is previewed whole, without a machine; nobody applies it, whatever command is given."""

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

SOONEST = ("wan", "workloads")
"""The other units register hundreds of hosts, all by the same component as the first."""


@pytest.mark.parametrize(
    "unit", [unit if unit in SOONEST else pytest.param(unit, marks=pytest.mark.slow) for unit in UNITS]
)
def test_every_unit_is_previewed_without_machines(unit: str, tmp_path: Path) -> None:
    needed = [name for name in ("kubernetes", "pulumi") if not tool(name).built]
    if needed:
        pytest.skip(f"tools are not built: dpp tools build {' '.join(needed)}")
    command = [str(Path(sys.executable).with_name("dpp")), "stack", "preview", f"production.{unit}", "--json"]
    variables = os.environ | {"XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=300, check=False)

    assert done.returncode == 3, done.stdout[-2000:] + done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert (found["ok"], found["errors"]) == (True, [])
    assert set(found["counts"]) == {"create"}
    assert found["changes"] > 5
    state = tmp_path / f"dpp/production/pulumi/.pulumi/stacks/observatory/production.{unit}.json"
    assert not json.loads(state.read_text())["checkpoint"]["latest"].get("resources"), "a preview changes no state"


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


def test_the_plain_command_is_refused_too(tmp_path: Path) -> None:
    """The first resource that something would be done to says why it is not; nothing of it is in the state afterwards."""
    if not tool("pulumi").built:
        pytest.skip("tool pulumi is not built: dpp tools build pulumi")
    dpp = Path(sys.executable).with_name("dpp")
    variables = os.environ | {"XDG_STATE_HOME": str(tmp_path)}
    script = f'eval "$({dpp} stack env production)"; pulumi stack select --create production.satellite-itc; pulumi up --yes --skip-preview'
    command, salt = ["bash", "-c", script], REPOSITORY / "Pulumi.production.satellite-itc.yaml"
    salt.unlink(missing_ok=True)
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=variables, check=False)
    finally:
        salt.unlink(
            missing_ok=True
        )  # of this test's passphrase: a stack that the plain command makes has it beside the project

    assert done.returncode != 0
    assert "environment production: for previews only" in done.stdout + done.stderr
    [state] = tmp_path.glob("dpp/production/pulumi/.pulumi/stacks/*/*.json")
    kept = json.loads(state.read_text())["checkpoint"]["latest"].get("resources") or []
    assert not [one for one in kept if one["type"].startswith("dpp:") and one["custom"]]
