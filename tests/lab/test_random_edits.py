"""One change of ten random edits, applied to the lab: what its dossier says is what is found before, and what then happens.

Its dossier is compared with the engine's preview of what stands, each object read again; with each router's own comparison of
the candidate with what it runs; with a check run over all hosts; and then with what applying it does. At the end the lab stands
as before.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dpp.adapters.devices import DeviceConfigurations
from dpp.model.units import UNITS
from dpp.operations.change.findings import Plan
from dpp.operations.change.plan import plan
from dpp.operations.change.sides import Side, Workshop, lead_to_this_environment, own_command, own_variables
from lab.observatory import Observatory
from stacks.edits import Edit, Kind, drawn, make, more, note
from stacks.reviewed import Reviewed

pytestmark = pytest.mark.slow
SEED, EDITS = 2938, 10
STACKS = tuple(f"lab.{unit}" for unit in UNITS)
CHANGING = frozenset({"create", "update", "replace", "delete"})
RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
_ALL = "inventories/lab/group_vars/all"
KINDS = (
    Kind("topic", f"{_ALL}/topics.yml", r"retention_hours: (\d+)", more(1, 48)),
    Kind("topic", "services/data-backbone.yml services/level-1-test-environment.yml", r"retention_hours: (\d+)", more(1, 48)),
    Kind("circuit", f"{_ALL}/circuits.yml", r"delay_ms: (\d+)", more(1, 9)),
    Kind("circuit", f"{_ALL}/circuits.yml", r"rate_mbps: (\d+)", more(100, 900)),
    Kind("routing", f"{_ALL}/circuits.yml", r"bfd_interval_ms: (\d+)", more(10, 90)),
    Kind("setting", "roles/postgresql/templates/etc/postgresql/dpp.conf.j2", r"tcp_keepalives_\w+ = (\d+)", more(1, 9)),
    Kind("template", "roles/operations_host/templates/etc/profile.d/*.j2", r"\A()", note),
    Kind("sysctl", "roles/border_router/files/etc/sysctl.d/*", r"^net\S+send_redirects = (0)$", lambda *_: "1"),
    Kind("unit", "roles/container_registry/templates/etc/systemd/system/**/*.j2", r"^RestartSec=(\d+)$", more(1, 9)),
    Kind("default", "roles/summit_storage/defaults/main.yml", r"interval_seconds: (\d+)", more(1, 30)),
    Kind("default", "roles/border_router/defaults/main.yml", r"queue_milliseconds: (\d+)", more(1, 30)),
    Kind("limit", "k8s/broker/*.yaml k8s/visit-ledger/*.yaml k8s/alert-distribution/*.yaml", r"limits: \{memory: (\d+)Mi\}", more(1, 63)),
    Kind("replicas", "k8s/broker/*.yaml", r"replicas: (1)$", lambda *_: "2"),
    Kind("quota", "k8s/platform/quota.yaml", r'pods: "(\d+)"', more(1, 9)),
)  # fmt: skip
"""Edits that are taken back as they were made, and that nothing waits for long."""
SERVICES = ("containerd", "docker-registry", "dpp-router-classes", "frr", "kafka", "kafka-mirror", "keepalived", "kubelet", "object-store",
    "postgresql@15-main", "prometheus-node-exporter")  # fmt: skip
"""Units that are asked whether they were restarted."""
ROUTER_TEXT = """
import json, sys
from dpp.adapters.devices import router_text
from dpp.model.environment import Environment
lab = Environment.load("lab")
json.dump({host.name: router_text(lab, host.name) for host in lab.hosts_of(group="border_router")}, sys.stdout)
"""
Pods = dict[tuple[str, str], frozenset[str]]


@dataclass
class Edited:
    """A repository of which a change was made, and what was found of it in the lab.

    Parameters
    ----------
    plan
        What the dossier says of the lab.
    """

    reviewed: Reviewed
    observatory: Observatory
    base: str
    head: str
    edits: list[Edit]
    plan: Plan
    applied: list[dict[str, Any]] = field(default_factory=list)

    def run(self, *command: str, more: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command with the code of the repository's tree."""
        tree = Side("edited", self.reviewed.root)
        variables = os.environ | own_variables(tree) | (more or {})
        return subprocess.run(command, cwd=tree.root, env=variables, capture_output=True, text=True, check=False)

    def dpp(self, *words: str, codes: tuple[int, ...] = (0,)) -> str:
        """Run ``dpp`` of the repository's tree and return its standard output."""
        done = self.run(*own_command(*words))
        assert done.returncode in codes, f"dpp {' '.join(words)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def checkout(self, commit: str) -> None:
        self.reviewed.git("checkout", "--quiet", "--force", "--detach", commit)

    @property
    def steps(self) -> set[tuple[str, str, str, str]]:
        """What the dossier says that the engine does: stack, verb, type, name."""
        return {(one.stack, step.verb, step.kind, step.name) for one in self.plan.previews for step in one.steps}

    @property
    def hosts(self) -> set[str]:
        """The hosts that the dossier names as converged."""
        return {place for effect in self.plan.effects if effect.verb == "converges" for place in effect.places}

    def shown(self, kind: str) -> Iterator[tuple[str, str, str]]:
        """Yield name, place and difference of what the dossier shows of a kind."""
        for one in self.plan.differences:
            if one.kind == kind:
                yield from ((one.name, place, one.diff) for place in one.places)


@pytest.fixture(scope="module")
def edited(observatory: Observatory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edited]:
    """Return a change of the lab, which stands as its base; at the end it does so again."""
    observatory.dpp("up", "lab", "--yes", "--refresh")
    for stack in STACKS:  # else what is found is of somebody else
        observatory.dpp("stack", "preview", stack, "--refresh", "--expect-no-changes")
    top = tmp_path_factory.mktemp("edited")
    reviewed = Reviewed.make(top / "repository")
    for folder in ("inventories/production", "k8s/clusters/production"):  # the lab is what can be compared with
        shutil.rmtree(reviewed.root / folder, ignore_errors=True)
    base = reviewed.commit("Begin with the lab")
    lead_to_this_environment(reviewed.root)
    edits = drawn(SEED, reviewed.root, EDITS, KINDS)
    print(f"\nseed {SEED}:", *edits, sep="\n  ")
    make(reviewed.root, edits)
    head = reviewed.commit("Edit at random")
    [found] = plan(Workshop(reviewed.root, top / "workshop"), f"{base}..{head}").plans
    change = Edited(reviewed, observatory, base, head, edits, found)
    try:
        yield change
    finally:
        change.checkout(base)
        try:
            change.dpp("up", "lab", "--yes")
        finally:
            observatory.dpp("up", "lab", "--yes")


def test_the_dossier_is_whole(edited: Edited) -> None:
    assert edited.plan.errors == ()
    assert [error for preview in edited.plan.previews for error in preview.errors] == []
    assert len(edited.edits) == EDITS
    assert edited.steps
    assert edited.hosts


def test_the_engine_previews_what_the_dossier_says(edited: Edited) -> None:
    """Of all stacks, also of those of which the dossier says nothing."""
    edited.checkout(edited.head)
    previewed = set()
    for stack in STACKS:
        said = edited.dpp("stack", "preview", stack, "--refresh", "--json", codes=(0, 3))
        previewed |= steps_of(stack, json.loads(said))
    assert previewed == edited.steps


def steps_of(stack: str, result: dict[str, Any]) -> set[tuple[str, str, str, str]]:
    """Return the steps of the engine that change a resource: those of components, which are nothing by themselves, do not."""
    kinds = ("Machine", "Link", "Convergence", "DeviceConfiguration", "PlatformImages", "WorkloadImages", "Manifests")
    found = set()
    for step in result["steps"]:
        kind, name = step["urn"].split("::")[2].rpartition("$")[2], step["urn"].rpartition("::")[2]
        if step["verb"] in CHANGING and kind.rpartition(":")[2] in kinds:
            found.add((stack, step["verb"], kind, name))
    return found


def test_routers_compare_as_the_dossier_shows(edited: Edited) -> None:
    """Each router compares the candidate with what it runs: the lines that come are those that the dossier adds."""
    edited.checkout(edited.head)
    done = edited.run(sys.executable, "-P", "-c", ROUTER_TEXT)
    assert done.returncode == 0, done.stderr
    devices = DeviceConfigurations(edited.observatory.environment, edited.observatory.folders)
    changes = {host: devices.diff(host, text) for host, text in json.loads(done.stdout).items()}
    shown = {host: diff for _, host, diff in edited.shown("router")}
    assert {host for host, change in changes.items() if change} == shown.keys()
    for host, diff in shown.items():
        assert {line.rpartition(" / ")[2].strip() for line in changes[host].add} == lines(diff, "+"), (host, diff)
        gone = {line.rpartition(" / ")[2].strip().removeprefix("no ") for line in changes[host].delete}
        assert gone <= lines(diff, "-"), (host, diff)


def lines(diff: str, sign: str) -> set[str]:
    return {line[1:].strip() for line in diff.splitlines() if line.startswith(sign)} - {"", "!", "exit"}


def test_a_check_run_changes_what_the_dossier_names_and_nothing_else(edited: Edited) -> None:
    edited.checkout(edited.head)
    said = check_run(edited)
    found = {host: int(changed) for host, changed, _, _ in RECAP.findall(said)}
    assert found.keys() == edited.observatory.environment.hosts.keys()
    changed = {host for host, count in found.items() if count}
    files = [(name, host) for name, host, _ in edited.shown("host file")]
    assert changed <= edited.hosts, "a host is changed that the dossier does not name"
    assert {host for _, host in files} <= changed, "a file of a host differs, and the check run does not see it"
    assert [name for name, _ in files if name not in said] == []


def check_run(edited: Edited) -> str:
    """Run the playbook of the tree over all hosts, changing nothing, and return what it prints."""
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "--inventory=inventories/lab",
        "--check",
        "--diff",
        "playbooks/site.yml",
    ]
    settings = {"DPP_SSH_CONFIG": str(edited.observatory.folders.ssh_config), "ANSIBLE_NOCOLOR": "1"}
    done = edited.run(*command, more=settings)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_applying_does_what_the_dossier_says(edited: Edited) -> None:
    edited.checkout(edited.head)
    pods, runs = pods_of(edited), runs_of(edited)
    result = json.loads(edited.dpp("up", "lab", "--yes", "--json"))
    assert result["ok"]
    applied = {step for stack in result["stacks"] for step in steps_of(stack["stack"], stack)}
    assert applied == edited.steps

    new_pods, new_runs = pods_of(edited), runs_of(edited)
    replaced = {key for key, old in pods.items() if old and not old & new_pods.get(key, frozenset())}
    said = {
        (place.removeprefix("cluster "), effect.name.partition(" ")[2])
        for effect in edited.plan.effects
        for place in effect.places
        if effect.verb in {"restarts", "rolls"} and effect.name.startswith("Deployment ")
    }
    assert replaced == said
    restarted = {key for key, run in runs.items() if new_runs[key] != run}
    restarts = {
        (place, effect.name) for effect in edited.plan.effects if effect.verb == "restarts" for place in effect.places
    }
    assert restarted == {key for key in restarts if key in runs}


def pods_of(edited: Edited) -> Pods:
    """Return the pods of each Deployment, by cluster and name."""
    found: Pods = {}
    for cluster in edited.observatory.environment.clusters:
        done = edited.observatory.kubectl(cluster, "get", "deployments,pods", "--output=json")
        assert done.returncode == 0, done.stderr
        items = json.loads(done.stdout)["items"]
        for name in (one["metadata"]["name"] for one in items if one["kind"] == "Deployment"):
            found[cluster, name] = frozenset(
                one["metadata"]["uid"]
                for one in items
                if one["kind"] == "Pod"
                and "deletionTimestamp" not in one["metadata"]
                and one["metadata"].get("labels", {}).get("app.kubernetes.io/name") == name
            )
    return found


def runs_of(edited: Edited) -> dict[tuple[str, str], str]:
    """Return what names the current run of each unit that runs, by host and unit: another one was restarted."""
    found = {}
    for host in edited.observatory.environment.hosts:
        said = edited.observatory.on(
            host, f"systemctl show --property=Id,ActiveState,InvocationID {' '.join(SERVICES)}"
        )
        for block in said.strip().split("\n\n"):
            values = dict(line.split("=", 1) for line in block.splitlines())
            if values["ActiveState"] == "active":
                found[host, values["Id"].removesuffix(".service")] = values["InvocationID"]
    return found


def test_what_the_dossier_shows_is_there_now(edited: Edited) -> None:
    """After the change: files, routers' lines and objects are as their differences say, and nothing is left to do."""
    for name, host, diff in edited.shown("host file"):
        there = {line.strip() for line in edited.observatory.on(host, f"cat {name}").splitlines()}
        assert lines(diff, "+") <= there, (host, name)
    devices = DeviceConfigurations(edited.observatory.environment, edited.observatory.folders)
    for _, host, diff in edited.shown("router"):
        assert lines(diff, "+") <= {line.strip() for line in devices.read(host).splitlines()}, host
    topics = edited.observatory.topics("svc01.ncsa")
    for edit in edited.edits:
        if edit.noun == "topic":
            assert f"retention.ms={int(edit.new) * 3_600_000}" in topics, edit
    edited.checkout(edited.head)
    for stack in STACKS:
        edited.dpp("stack", "preview", stack, "--refresh", "--expect-no-changes")
    assert {host for host, changed, _, _ in RECAP.findall(check_run(edited)) if int(changed)} == set()


def test_the_lab_goes_back_to_what_it_was(edited: Edited) -> None:
    edited.checkout(edited.base)
    edited.dpp("up", "lab", "--yes")
    edited.dpp("up", "lab", "--yes", "--expect-no-changes")
    for stack in STACKS:
        edited.observatory.dpp("stack", "preview", stack, "--refresh", "--expect-no-changes")
