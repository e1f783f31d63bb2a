"""The engine is killed while the lab's own provider makes and removes machines and circuits: nothing is lost or doubled."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from chaos import tiny
from dpp.adapters.progress import Reporter
from dpp.engine import Workspace
from dpp.lab.access import write_access
from dpp.lab.lifecycle import Lab
from dpp.lab.links import Links
from dpp.lab.machines import Machines
from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY, Folders
from instances import instance

INSTANCE = instance("k")
STACK = "lab.killed"
CIRCUIT = "ncsa-in2p3-primary"
KILLS = 5
PROGRAM = """import sys

sys.path.insert(0, {stacks!r})
import pulumi
from resources import Link, Machine

from dpp.model.environment import Environment

environment = Environment.load("lab")
circuit = environment.circuits[{circuit!r}]
machines = {{}}
for name in (circuit.a.host, circuit.b.host):
    host, place = environment.host(name), environment.attachment(name)
    machines[name] = Machine(
        name, environment="lab", host=name, site=host.site, network=place.network.name, address=str(place.address),
        gateway="", functions=sorted(host.groups), image={image!r}, operations=False,
    )
Link(
    circuit.name, environment="lab", circuit=circuit.name, rate_mbps=circuit.rate_mbps * environment.circuit_scale,
    delay_ms=circuit.delay_ms, loss_percent=circuit.loss_percent,
    ends={{end.host: {{"interface": end.interface, "machine": machines[end.host].identity}} for end in (circuit.a, circuit.b)}},
    opts=pulumi.ResourceOptions(depends_on=list(machines.values())),
)
"""
OPERATION = (
    "import sys; from pathlib import Path; from dpp.engine import Workspace;"
    "result = getattr(Workspace(Path(sys.argv[1]), sys.argv[2]), sys.argv[3])(sys.argv[4], print);"
    "sys.exit('; '.join(result.errors) or None)"
)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """Return a stack of two routers and the circuit between them, in an instance of its own."""
    image = tiny.base_image()
    monkeypatch.setenv("DPP_LAB", INSTANCE)
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "of this test")
    folders = Folders.current()
    Lab(folders, Reporter(quiet=True)).down()
    write_access(folders, Environment.load("lab"))
    project = tmp_path / "project"
    project.mkdir()
    plugin = {"name": "dpp", "path": os.path.relpath(REPOSITORY / "src/dpp/provider", project)}
    settings = {"name": "killed", "runtime": "python", "plugins": {"providers": [plugin]}}
    (project / "Pulumi.yaml").write_text(yaml.safe_dump(settings))
    text = PROGRAM.format(stacks=str(REPOSITORY / "stacks"), circuit=CIRCUIT, image=image)
    (project / "__main__.py").write_text(text)
    yield Workspace(project, (tmp_path / "state").as_uri())
    Lab(folders, Reporter(quiet=True)).down()


def run(workspace: Workspace, operation: str, seconds: float | None) -> bool:
    """Run an operation, and kill it after `seconds`; return whether it was killed."""
    arguments = [str(workspace.project_dir), workspace.backend_url, operation, STACK]
    process = subprocess.Popen(
        [sys.executable, "-c", OPERATION, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        text, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        workspace.cancel(STACK)
        return True
    assert process.returncode == 0, text
    return False


def compare(workspace: Workspace) -> None:
    """Hold state and reality side by side."""
    folders = Folders.current()
    exported = workspace.export(STACK)["deployment"]
    custom = [found for found in exported["resources"] if found["custom"] and "provider" in found]
    recorded = {found["id"]: found["urn"] for found in custom if ":Machine::" in found["urn"]}
    machines = Machines(folders).all()
    assert {state.name: state.urn for state in machines} == recorded
    assert len(machines) == 2
    link = Links(folders, Environment.load("lab")).read(CIRCUIT)
    assert link
    assert link.sound
    assert [found["id"] for found in custom if ":Link::" in found["urn"]] == [CIRCUIT]
    assert "pending_operations" not in exported


def seconds_of(workspace: Workspace, operation: str) -> float:
    begun = time.monotonic()
    run(workspace, operation, None)
    return time.monotonic() - begun


def test_killed_at_five_instants(workspace: Workspace) -> None:
    chance = random.Random(1605)  # noqa: S311 - the same parts of an operation every time
    lasts = {operation: seconds_of(workspace, operation) for operation in ("up", "destroy")}
    killed = 0
    for attempt in range(KILLS):
        operation = "destroy" if attempt % 2 else "up"
        killed += run(workspace, operation, chance.uniform(0.2, 0.9) * lasts[operation])
        run(workspace, "up", None)
        compare(workspace)
        if operation == "destroy":
            run(workspace, "destroy", None)
            assert not Machines(Folders.current()).all()
    assert killed >= KILLS // 2, lasts
