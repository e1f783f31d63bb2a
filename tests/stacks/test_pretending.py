"""The provider that pretends serves throw-away stacks alone, and does nothing to anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dpp.model.errors import FatalError
from dpp.operations.change.programs import pretending
from dpp.operations.change.sides import PROGRAMS
from dpp.provider import kinds
from dpp.provider.resources import KINDS, resource_of


@pytest.fixture
def throw_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / pretending.MARK).touch()
    monkeypatch.setenv("DPP_THROW_AWAY", str(tmp_path))
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"{(tmp_path / 'pulumi').as_uri()}?metadata=skip")
    return tmp_path


def test_throw_away_stacks_are_served(throw_away: Path) -> None:
    pretending.require_throw_away()
    (throw_away / pretending.MARK).unlink()
    with pytest.raises(FatalError, match="provider that pretends"):
        pretending.require_throw_away()


@pytest.mark.usefixtures("throw_away")
@pytest.mark.parametrize("url", ["", "file:///var/lib/elsewhere", "https://api.example.org"])
def test_other_stacks_are_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", url)
    with pytest.raises(FatalError, match="dpp change plan alone"):
        pretending.require_throw_away()


def test_the_executable_refuses_before_it_serves(tmp_path: Path) -> None:
    variables = os.environ | {
        "DPP_PYTHON": sys.executable,
        "PULUMI_BACKEND_URL": tmp_path.as_uri(),
        "DPP_THROW_AWAY": "",
    }
    command = [PROGRAMS / "pretend/pulumi-resource-dpp", "127.0.0.1:1"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "provider that pretends" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_is_pretended_with_its_outputs(kind: type[kinds.Kind]) -> None:
    given: dict[str, Any] = {name: {} if name in {"sources", "recipes"} else name for name in kind.model_fields}
    wanted = kind.model_construct(**given)
    made = pretending._Pretended(resource_of(kind.token))
    identifier, outputs = made.create("urn:pulumi:lab.wan::observatory::a::name", wanted, print)
    assert identifier == "name"
    assert set(outputs) == kind.outputs
    assert made.probe(identifier, {}) == {}


def test_what_the_provider_refuses_is_refused() -> None:
    made = pretending._pretended("dpp:network:DeviceConfiguration")
    state = {"environment": "lab", "host": "rt01.base", "configuration": "router bgp 65001\n", "machine": "m"}
    wanted = kinds.DeviceConfiguration(**state | {"configuration": "router bgp 65002\n"})
    with pytest.raises(FatalError, match="AS number 65002"):
        made.refuse(state, wanted)
