"""Every step of every workflow is run as a forge would: a pull request of a fork is planned, shown, tested and proven."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dpp.build.tools import tool
from forge.runner import Done, Runner, forget
from proofs.catalogue import Catalogue, Tree
from proofs.records import FILE as RECORDS
from stacks.reviewed import Reviewed
from unit.change import forges
from unit.change.forges import Served
from unit.change.workflows import FILES, load, steps, text_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

PROVEN = "playbooks-profile"
"""The one proof that the proposed change owes without a lab: it takes seconds."""
ON_A_LAB = "reboot"
GATE = {"make test": "it runs all of this, and is what everybody runs: .ci/run, and whoever reads README.md"}
TOPICS = "inventories/lab/group_vars/all/topics.yml"


@dataclass
class Proposed:
    """A pull request from a fork.

    Parameters
    ----------
    root
        Where the forge's repositories are.
    main, head, merge
        Commits: of the branch, of what is proposed, and of both together.
    """

    root: Path
    main: str
    head: str
    merge: str

    def github(self, event: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"event": event, "token": "a-token-that-may-read", "sha": self.merge, "ref": "refs/pull/7/merge", "event_name": "pull_request", **more}  # fmt: skip

    def variables(self, folder: Path) -> dict[str, str]:
        return {
            "CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": self.root.as_uri(), "GITHUB_REPOSITORY": forges.REPOSITORY,
            "GITHUB_RUN_ID": "42", "XDG_STATE_HOME": str(folder / "state"), "DPP_LAB": os.environ.get("DPP_LAB", "lab"),
        }  # fmt: skip


@pytest.fixture(scope="module")
def proposed(tmp_path_factory: pytest.TempPathFactory) -> Proposed:
    """Return a pull request that owes one proof without a lab and one on a lab."""
    root = tmp_path_factory.mktemp("forge")
    reviewed = Reviewed.make(root / "work")
    reviewed.write("README.md", "# An observatory\n")  # a package needs one, whatever it says
    main = reviewed.commit("Say what it is")
    reviewed.edit(TOPICS, "next-visit: {partitions: 1}", "next-visit: {partitions: 2}")
    catalogue, tree = Catalogue.load(reviewed.root / "tests/proofs/proofs.yml"), Tree(reviewed.root)
    owed = {PROVEN, ON_A_LAB}
    green = {proof.id: tree.digest(proof) for proof in catalogue.proofs if proof.id not in owed}
    assert len(green) == len(catalogue.proofs) - len(owed)
    lines = "".join(f"{name} {digest} 1 green\n" for name, digest in sorted(green.items()))
    reviewed.write(f"tests/proofs/{RECORDS.name}", lines)
    head = reviewed.commit("Read visits by two")
    reviewed.git("checkout", "--quiet", "--detach", main)
    reviewed.git("merge", "--quiet", "--no-ff", "--no-edit", head)
    merge = reviewed.git("rev-parse", "HEAD").strip()
    reviewed.git("branch", "--force", "main", main)
    bare = root / forges.REPOSITORY
    reviewed.git("init", "--quiet", "--bare", str(bare))
    subprocess.run(["git", "-C", bare, "config", "uploadpack.allowAnySHA1InWant", "true"], check=True)
    reviewed.git("push", "--quiet", str(bare), f"{main}:refs/heads/main", f"{head}:refs/pull/7/head", f"{merge}:refs/pull/7/merge")  # fmt: skip
    return Proposed(root, main, head, merge)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    found = tmp_path_factory.mktemp("runner")
    yield found
    forget(found)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with forges.served() as found:
        yield found


@pytest.fixture(scope="module")
def planned(proposed: Proposed, folder: Path) -> dict[str, bytes]:
    """Return what the run of the change's own code leaves."""
    event = {"pull_request": {"number": 7, "head": {"sha": proposed.head}}}
    runner = Runner(folder, proposed.github(event), proposed.variables(folder))
    assert well(runner.job("plan.yml", "plan")) == ["Check out", "Environment", "Engine", "Plan", "Keep the dossier"]
    assert not (folder / "plan.yml-plan/.git/config").read_text().count("token")
    return runner.kept["dossier"]


def well(done: list[Done]) -> list[str]:
    """Return the names of the steps that ran, all of them well."""
    for step in done:
        assert not step.code, f"{step.name}: code {step.code}\n{step.said[-4000:]}"
    return [step.name for step in done if step.code is not None]


def test_a_change_of_a_fork_is_planned(planned: dict[str, bytes], proposed: Proposed) -> None:
    assert set(planned) == {"dossier.json"}
    dossier = json.loads(planned["dossier.json"])
    assert (dossier["base"], dossier["head"]) == (proposed.main, proposed.head)
    assert [plan["environment"] for plan in dossier["plans"]] == ["lab"]
    assert {proof["id"] for proof in dossier["proofs"]} >= {PROVEN, ON_A_LAB}


def test_what_was_planned_is_shown(planned: dict[str, bytes], proposed: Proposed, folder: Path, server: Served) -> None:
    server.put(pulls=[forges.pull(proposed.head)], artifacts=[forges.artifact(planned)], comments=[], labels_of={"7": ["bug"]})  # fmt: skip
    event = forges.event(proposed.head)
    file = forges.write_event(folder, event)
    secret = {"GITHUB_EVENT_PATH": str(file), "GITHUB_API_URL": server.url}
    told = proposed.github(event, sha=proposed.main, token=server.variables()["GITHUB_TOKEN"])
    runner = Runner(folder, told, proposed.variables(folder) | secret)
    names = ["Check out main", "Environment", "Take the dossier", "Keep the page", "Comment and label"]
    assert well(runner.job("review.yml", "review")) == names

    assert set(runner.kept["page"]) == {"dossier.json", "dossier.html"}
    [comment] = server.comments()
    assert f"{proposed.main[:12]}..{proposed.head[:12]}" in comment
    assert "event-streaming (real-time, alert-production)" in comment
    assert f"{proposed.root.as_uri()}/{forges.REPOSITORY}/actions/runs/42" in comment
    has = server.state["labels_of"]["7"]
    assert {"bug", "service: event-streaming"} < set(has)
    assert len([name for name in has if name.startswith("risk: ")]) == 1


def test_what_is_owed_and_needs_no_lab_is_proven(proposed: Proposed, folder: Path) -> None:
    event = {"pull_request": {"number": 7, "head": {"sha": proposed.head}}}
    runner = Runner(folder, proposed.github(event), proposed.variables(folder), GATE)
    done = {step.name: step for step in runner.job("tests.yml", "tests")}
    assert done["Test"].code is None
    assert done["Test"].said == GATE["make test"]
    proven = done["Prove what is owed and needs no lab"]
    assert proven.code == 0, proven.said[-4000:]
    assert f"{PROVEN}: green" in proven.said
    assert "1 passed, 0 failed" in proven.said
    owed = done["Say what is still owed"]
    assert owed.code
    assert "owed: 1 proofs" in owed.said
    assert f"{ON_A_LAB} (lab, on a lab): never proven" in owed.said


def test_no_step_is_left_out() -> None:
    """Those above run the jobs that there are, whole, but for the gate."""
    jobs = {(file, name) for file in FILES for name, _ in steps(load(text_of(file)))}
    assert jobs == {("plan.yml", "plan"), ("review.yml", "review"), ("tests.yml", "tests")}
    assert [name for name in ("kubernetes", "pulumi") if not tool(name).built] == [], (
        "built by the first phase of make test"
    )
