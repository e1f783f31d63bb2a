"""Projects and backends in a temporary folder, and what is in them."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml

from dpp.adapters.pulumi.backend import Backend
from dpp.adapters.pulumi.events import Event, Result
from dpp.adapters.pulumi.stacks import Stacks
from dpp.build.tools import tool

DATA = Path(__file__).parent / "data"
FIRST = {"base", "moved", "after", "twin-here", "user", "old", "older"}
"""Objects of the ledger's program in its first form, and in its second."""
SECOND = {"base", "moved", "after", "twin-there", "user", "fresh0", "fresh1"}


@dataclass
class Ledger:
    """A copy of the project whose objects are files, with a backend beside it."""

    top: Path
    stack: str = "lab.ledger"

    @classmethod
    def make(cls, top: Path) -> Ledger:
        shutil.copytree(DATA / "ledger", top / "ledger")
        (top / "objects").mkdir()
        plugins = {
            "providers": [{"name": "ledger", "path": "./provider"}],
            "languages": [{"name": "python", "path": str(Path(sys.executable).parent)}],
        }
        declared = {"name": "ledger", "runtime": "python", "main": "stacks/", "plugins": plugins}
        (top / "ledger/Pulumi.yaml").write_text(yaml.safe_dump(declared))
        return cls(top)

    def copy(self, top: Path) -> Ledger:
        shutil.copytree(self.top, top, symlinks=True)
        return Ledger(top)

    @cached_property
    def backend(self) -> Backend:
        return Backend("lab", self.top / "state", engine(), self.top / "ledger")

    @cached_property
    def stacks(self) -> Stacks:
        return Stacks(self.backend)

    @property
    def program(self) -> Path:
        return self.top / "ledger/stacks/__main__.py"

    def configure(self, **values: str) -> None:
        found = yaml.safe_load(self.backend.config_file.read_text()) if self.backend.config_file.exists() else {}
        found["config"] = {f"ledger:{key}": value for key, value in values.items()}
        self.backend.config_file.parent.mkdir(parents=True, exist_ok=True)
        self.backend.config_file.write_text(yaml.safe_dump(found))

    def kill(self, victim: str, boundary: int | str) -> None:
        """Have the engine or the provider killed at a boundary of the next operation, by its number or name."""
        (self.top / "boundaries").unlink(missing_ok=True)
        (self.top / "kill").write_text(f"{victim} {boundary}")

    def spare(self) -> None:
        (self.top / "kill").unlink(missing_ok=True)
        (self.top / "boundaries").unlink(missing_ok=True)

    @property
    def boundaries(self) -> int:
        return len((self.top / "boundaries").read_text().splitlines())

    def objects(self) -> dict[str, dict[str, Any]]:
        """Return the objects by their id."""
        folder = self.top / "objects"
        return {path.name: json.loads(path.read_text()) for path in folder.iterdir() if path.name[0] != "."}

    def state(self) -> dict[str, Any]:
        return self.backend.checkpoint(self.stack) or {}

    def living(self) -> dict[str, dict[str, Any]]:
        """Return the resources of the state that a provider manages, by the id of their object."""
        found = self.state().get("resources") or []
        return {one["id"]: one for one in found if one["custom"] and not one["type"].startswith("pulumi:")}

    def log(self) -> list[list[str]]:
        return [line.split() for line in (self.top / "objects/.log").read_text().splitlines()]


def engine() -> Path:
    """Return the engine's command, or skip."""
    found = tool("pulumi")
    if not found.built:
        pytest.skip("tool pulumi is not built: dpp tools build pulumi")
    return found.folder / "bin/pulumi"


def steps(result: Result) -> dict[str, str]:
    """Return the last verb of each resource's step, by name."""
    return {step.urn.rpartition("::")[2]: step.verb if step.progress != "failed" else "failed" for step in result.steps}


def messages(events: list[Event]) -> str:
    """All lines of an operation."""
    return "\n".join(event.message for event in events if event.kind == "log")
