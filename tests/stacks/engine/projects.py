"""Projects and backends in a temporary folder, and what is in them."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dpp.engine import Event, Result, Workspace
from dpp.engine.passphrase import Passphrase
from dpp.engine.references import salt_of
from dpp.engine.state import Resource, State, decode

DATA = Path(__file__).parents[1] / "data"
RECORDED = DATA / "recorded"
PASSPHRASE = "sample"  # noqa: S105 - of the recorded states


@dataclass
class Project:
    """A copy of a project with a backend beside it."""

    folder: Path
    backend: Path
    stack: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "SAMPLE_PYTHON": sys.executable,
            "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
            "LEDGER": str(self.ledger),
            "PULUMI_DEBUG_GRPC": str(self.transcript),
        }

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def ledger(self) -> Path:
        return self.folder.parent / "objects"

    @property
    def transcript(self) -> Path:
        return self.folder.parent / "grpc.jsonl"

    @property
    def checkpoint(self) -> Path:
        return self.backend / ".pulumi/stacks" / self.name / f"{self.stack}.json"

    def workspace(self, **environment: str) -> Workspace:
        return Workspace(self.folder, self.backend.as_uri(), environment={**self.environment, **environment})

    def configure(self, **values: str) -> None:
        path = self.folder / f"Pulumi.{self.stack}.yaml"
        found = yaml.safe_load(path.read_text())
        found["config"] = {
            key: value for key, value in found["config"].items() if isinstance(value, dict) or "upstream" in key
        }
        found["config"] |= {f"{self.name}:{key}": value for key, value in values.items()}
        path.write_text(yaml.safe_dump(found))

    def put_state(self, deployment: dict[str, Any]) -> None:
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint = {"stack": f"organization/{self.name}/{self.stack}", "latest": deployment}
        self.checkpoint.write_text(json.dumps({"version": 3, "checkpoint": checkpoint}))

    def state(self) -> State:
        return open_state(json.loads(self.checkpoint.read_text())["checkpoint"]["latest"], self.stack, self.name)

    def living(self) -> dict[str, Resource]:
        """Return the managed resources of the state by the id of their object."""
        return {found.id: found for found in self.state().resources if found.managed}

    def objects(self) -> dict[str, dict[str, Any]]:
        """Return the objects of the ledger by their id."""
        return {path.name: json.loads(path.read_text()) for path in self.ledger.iterdir() if path.name[0] != "."}

    def calls(self, method: str) -> list[dict[str, Any]]:
        """Return the ended calls of a method."""
        lines = map(json.loads, self.transcript.read_text().splitlines())
        return [
            line for line in lines if line["method"].endswith(f"/{method}") and line["progress"] == "response_completed"
        ]


def open_state(deployment: dict[str, Any], stack: str, project: str) -> State:
    secrets = Passphrase(PASSPHRASE, salt_of(deployment), "test")
    return decode(deployment, secrets, State(stack, project, secrets))


def make_sample(folder: Path) -> Project:
    """Make the sample project in `folder`, with the recorded configuration and the stack that it refers to."""
    shutil.copytree(DATA / "sample", folder / "sample")
    shutil.copy(RECORDED / "Pulumi.lab.sample.yaml", folder / "sample")
    project = Project(folder / "sample", folder / "state", "lab.sample")
    upstream = project.checkpoint.with_name("lab.upstream.json")
    upstream.parent.mkdir(parents=True)
    shutil.copy(RECORDED / "upstream.checkpoint.json", upstream)
    project.configure()
    return project


def make_ledger(folder: Path) -> Project:
    """Make a ledger project in `folder`."""
    shutil.copytree(DATA / "ledger", folder / "ledger")
    project = Project(folder / "ledger", folder / "state", "lab.ledger")
    project.ledger.mkdir()
    secrets = Passphrase(
        PASSPHRASE, yaml.safe_load((RECORDED / "Pulumi.lab.sample.yaml").read_text())["encryptionsalt"], "test"
    )
    config = {"ledger:token": {"secure": secrets.encrypt_text("hidden-token")}}
    path = project.folder / "Pulumi.lab.ledger.yaml"
    path.write_text(yaml.safe_dump({"encryptionsalt": secrets.salt, "config": config}))
    return project


def steps(result: Result) -> dict[str, str]:
    """Return the last verb of each resource's step, by name."""
    return {step.urn.rpartition("::")[2]: step.verb if step.progress != "failed" else "failed" for step in result.steps}


def messages(events: list[Event]) -> str:
    """All lines of an operation."""
    return "\n".join(event.message for event in events if event.kind == "log")
