"""The engine is killed while the lab's own provider makes and removes machines and circuits: nothing is lost or doubled."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from chaos import tiny
from dpp.adapters.progress import Reporter
from dpp.adapters.pulumi.backend import Backend
from dpp.adapters.pulumi.events import Event, Result
from dpp.adapters.pulumi.locks import holders
from dpp.adapters.pulumi.stacks import Stacks
from dpp.lab.access import write_access
from dpp.lab.lifecycle import Lab
from dpp.lab.links import Links
from dpp.lab.machines import Machines
from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY, Folders
from instances import instance
from stacks.projects import engine

INSTANCE = instance("k")
STACK = "lab.killed"
CIRCUIT = "ncsa-in2p3-primary"
KILLS = 5
PROGRAM = """import sys

sys.path.insert(0, {stacks!r})
import pulumi
from resources import Link, Machine

from dpp.lab.machine_spec import recipe, volumes_of
from dpp.model.environment import Environment
from dpp.provider import kinds

environment = Environment.load("lab")
circuit = environment.circuits[{circuit!r}]
machines = {{}}
for name in (circuit.a.host, circuit.b.host):
    host, place = environment.host(name), environment.attachment(name)
    machines[name] = Machine(name, kinds.Machine(
        environment="lab", host=name, site=host.site, network=place.network.name, address=str(place.address),
        gateway="", functions=sorted(host.groups), operations=False, image={image!r},
        volumes=list(volumes_of(tuple(host.groups))), recipe=recipe(),
    ))
Link(circuit.name, kinds.Link(
    environment="lab", circuit=circuit.name, rate_mbps=circuit.rate_mbps * environment.circuit_scale,
    delay_ms=circuit.delay_ms, loss_percent=circuit.loss_percent,
    ends={{end.host: {{"interface": end.interface, "machine": machines[end.host].identity}} for end in (circuit.a, circuit.b)}},
), pulumi.ResourceOptions(depends_on=list(machines.values())))
"""


@pytest.fixture
def stacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stacks]:
    """Return a stack of two routers and the circuit between them, in an instance of its own."""
    command, image = engine(), tiny.base_image()
    monkeypatch.setenv("DPP_LAB", INSTANCE)
    folders = Folders.current()
    Lab(folders, Reporter(quiet=True)).down()
    write_access(folders, Environment.load("lab"))
    project = tmp_path / "project"
    project.mkdir()
    provider = {"name": "dpp", "path": os.path.relpath(REPOSITORY / "src/dpp/provider", project)}
    language = {"name": "python", "path": str(Path(sys.executable).parent)}
    declared = {"name": "killed", "runtime": "python", "plugins": {"providers": [provider], "languages": [language]}}
    (project / "Pulumi.yaml").write_text(yaml.safe_dump(declared))
    text = PROGRAM.format(stacks=str(REPOSITORY / "stacks"), circuit=CIRCUIT, image=image)
    (project / "__main__.py").write_text(text)
    yield Stacks(Backend("lab", tmp_path / "state", command, project))
    Lab(folders, Reporter(quiet=True)).down()


class Killer:
    """Counts the news of an operation, and kills the engine at one."""

    def __init__(self, stacks: Stacks, at: int = 0) -> None:
        self._stacks, self._at = stacks, at
        self._count = itertools.count(1)
        self.heard = 0

    def __call__(self, _: Event) -> None:
        self.heard = next(self._count)
        if self.heard == self._at:
            [holder] = holders(self._stacks.backend.locks(STACK))
            os.kill(holder.pid, signal.SIGKILL)


def run(stacks: Stacks, operation: str, at: int = 0) -> tuple[Result, int]:
    killer = Killer(stacks, at)
    result: Result = getattr(stacks, operation)(STACK, killer)
    assert result.ok or at, result.errors
    return result, killer.heard


def compare(stacks: Stacks) -> None:
    """Hold state and reality side by side."""
    folders = Folders.current()
    state = stacks.backend.checkpoint(STACK) or {}
    custom = [found for found in state["resources"] if found["custom"] and "provider" in found]
    recorded = {found["id"]: found["urn"] for found in custom if ":Machine::" in found["urn"]}
    machines = Machines(folders).all()
    assert {state.name: state.urn for state in machines} == recorded
    assert len(machines) == 2
    link = Links(folders, Environment.load("lab")).read(CIRCUIT)
    assert link
    assert link.sound
    assert [found["id"] for found in custom if ":Link::" in found["urn"]] == [CIRCUIT]
    assert not state.get("pending_operations")


def test_killed_at_five_instants(stacks: Stacks) -> None:
    chance = random.Random(1605)  # noqa: S311 - the same parts of an operation every time
    news = {operation: run(stacks, operation)[1] for operation in ("up", "destroy")}
    killed = 0
    for attempt in range(KILLS):
        operation = "destroy" if attempt % 2 else "up"
        result, _ = run(stacks, operation, chance.randint(2, max(2, news[operation] - 1)))
        killed += not result.ok
        run(stacks, "up")
        compare(stacks)
        if operation == "destroy":
            run(stacks, "destroy")
            assert not Machines(Folders.current()).all()
    assert killed >= KILLS // 2, news
