"""Dossiers of seeded changes, whole: trees, programs, Ansible's rendering, the engine. Golden pages say what reviewers see.

``DPP_UPDATE=1`` writes the pages anew: look at the difference before it is committed. Those of all kinds of nouns on both
inventories take minutes and belong to a proof.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dpp.build.tools import tool
from dpp.operations.change.dossier import html, markdown
from dpp.operations.change.findings import Dossier
from dpp.operations.change.plan import plan
from dpp.operations.change.sides import Workshop
from stacks.reviewed import Reviewed, without_hashes

PAGES = Path(__file__).parent / "data/dossiers"


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which all reviews of a session work: they have their base in common."""
    return tmp_path_factory.mktemp("workshop")


@pytest.fixture
def reviewed(tmp_path: Path) -> Reviewed:
    missing = [name for name in ("kubernetes", "pulumi") if not tool(name).built]
    if missing:
        pytest.skip(f"tools are not built: dpp tools build {' '.join(missing)}")
    return Reviewed.make(tmp_path / "repository")


def dossier_of(reviewed: Reviewed, workshop: Path) -> Dossier:
    return plan(Workshop(reviewed.root, workshop), "HEAD~1..HEAD")


def expect(name: str, dossier: Dossier) -> None:
    page, golden = without_hashes(markdown(dossier)), PAGES / f"{name}.md"
    if os.environ.get("DPP_UPDATE"):
        golden.write_text(page)
    assert page == golden.read_text(), f"{golden} says otherwise; if that is meant, run with DPP_UPDATE=1"


def steps(dossier: Dossier) -> set[tuple[str, str, str]]:
    return {(step.verb, step.kind.rpartition(":")[2], step.name) for one in dossier.plans for step in one.steps}


def test_a_topic_and_a_workload_of_the_lab(reviewed: Reviewed, workshop: Path) -> None:
    reviewed.edit(
        "inventories/lab/group_vars/all/topics.yml", "next-visit: {partitions: 1}", "next-visit: {partitions: 2}"
    )
    reviewed.edit("k8s/clusters/lab/commissioning/kustomization.yaml", "---", "---\n# Looked at.")
    reviewed.edit("docs/runbooks/event-streaming.md", "# ", "# The ")
    reviewed.commit("Read visits by two")
    found = dossier_of(reviewed, workshop)

    assert [one.environment for one in found.plans] == ["lab"]
    assert steps(found) == {("update", "Convergence", "summit-services"), ("update", "Convergence", "ncsa-services")}
    assert ("topic", "next-visit") in {(one.kind, one.name) for one in found.nouns}
    direct = {one.name for one in found.plans[0].services if one.direct}
    assert direct == {"event-streaming", "chilean-itc", "ncsa-itc", "miscellaneous"}, (
        "runbooks come with what is converged"
    )
    assert not found.plans[0].gained
    expect("lab.topic", found)
    assert "<script" not in html(found)
    again = plan(Workshop(reviewed.root, workshop), "HEAD~1..")
    assert again.digest == found.digest, "the plan of a working tree is that of its commit"


def test_a_circuit_of_production(reviewed: Reviewed, workshop: Path) -> None:
    circuits = "inventories/production/group_vars/all/circuits.yml"
    reviewed.edit(
        circuits, "path: primary, rate_mbps: 100000, delay_ms: 75", "path: primary, rate_mbps: 40000, delay_ms: 75"
    )
    reviewed.commit("Let a slower circuit")
    found = dossier_of(reviewed, workshop)

    assert [one.environment for one in found.plans] == ["production"]
    assert [(one.kind, one.name, one.file) for one in found.nouns] == [("circuit", "base-ncsa-primary", circuits)]
    [wan] = found.plans[0].previews
    assert (wan.stack, wan.errors) == ("production.wan", ())
    assert {one.name for one in found.plans[0].services if one.direct} == {"wide-area-network"}
    expect("production.circuit", found)


def test_a_change_of_documents_and_tests_is_one_line(tmp_path: Path, workshop: Path) -> None:
    reviewed = Reviewed.make(tmp_path / "repository")
    reviewed.edit("docs/operators/README.md", "# ", "# How to ")
    reviewed.write("tests/unit/test_nothing.py", '"""Nothing."""\n')
    reviewed.commit("Say it better")
    page = without_hashes(markdown(dossier_of(reviewed, workshop)))
    assert page == "**This change deploys nothing**: 1 document, 1 test in 2 files; plan #.\n"
