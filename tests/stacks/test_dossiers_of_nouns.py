"""For each kind of noun a seeded change on both inventories: its dossier names what it touches, and nothing else.

They take minutes and belong to a proof. ``DPP_UPDATE=1`` writes the golden pages anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dpp.build.tools import tool
from stacks.reviewed import Reviewed
from stacks.test_dossier import dossier_of, expect, reviewed, steps, workshop

__all__ = ["reviewed", "workshop"]
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Seed:
    """A change, and what its dossier must say.

    Parameters
    ----------
    noun
        Kind of what is declared otherwise.
    edits
        File, what stands there, what is to.
    environments
        Those in which something is deployed.
    direct
        Services that are touched, where it is few.
    gains
        Whether somebody gains a right.
    """

    noun: str
    edits: tuple[tuple[str, str, str], ...]
    environments: frozenset[str]
    direct: frozenset[str] = field(default_factory=frozenset)
    gains: bool = False


BOTH = frozenset({"lab", "production"})
NONE: frozenset[str] = frozenset()
SEEDS = {
    "host": Seed("host", (("inventories/lab/hosts.yml", "st01.in2p3: {dpp_address: 10.84.0.21}", "st01.in2p3: {dpp_address: 10.84.0.22}"),), frozenset({"lab"})),
    "role": Seed("role", (("roles/container_registry/templates/etc/docker/registry/config.yml.j2", "version: 0.1", "# A registry.\nversion: 0.1"),), BOTH),
    "contract": Seed(
        "contract",
        (("services/main-camera-prompt-processing.yml", "{bucket: raw, may: [read, list]", "{bucket: raw, may: [read, list, delete]"),),
        BOTH, gains=True,
    ),
    "unit": Seed("unit", (("stacks/units/wan.py", '"circuits", sorted', '"ways", sorted'),), NONE),
    "manifest": Seed("manifest", (("k8s/broker/deployment.yaml", "replicas: 1", "replicas: 2"),), frozenset({"lab"}), frozenset({"level-1-test-environment"})),
    "objective": Seed("objective", (("services/wide-area-network.yml", "within 72 hours", "within 48 hours"),), NONE),
    "runbook": Seed("runbook", (("docs/runbooks/event-streaming.md", "# ", "# The "),), NONE),
    "test": Seed("test", (("tests/instances.py", '"""', '"""So: '),), NONE),
    "image": Seed("image", (("workloads/src/workloads/broker/__main__.py", '"""', '"""Once more: '),), BOTH),
}  # fmt: skip


@pytest.mark.parametrize("name", SEEDS)
def test_a_seeded_change(name: str, reviewed: Reviewed, workshop: Path) -> None:
    seed = SEEDS[name]
    for file, old, new in seed.edits:
        reviewed.edit(file, old, new)
    reviewed.commit(f"Change a {name}")
    found = dossier_of(reviewed, workshop)

    assert {one.kind for one in found.nouns} == {seed.noun}
    assert {one.environment for one in found.plans if one.deploys} == seed.environments
    assert [error for plan in found.plans for preview in plan.previews for error in preview.errors] == []
    assert [error for plan in found.plans for error in plan.errors] == []
    assert any(plan.gained for plan in found.plans) == seed.gains
    for plan in found.plans:
        if seed.direct and plan.deploys:
            assert {one.name for one in plan.services if one.direct} == seed.direct
    expect(f"seed.{name}", found)


def test_a_harmless_change_of_one_host_of_production(reviewed: Reviewed, workshop: Path) -> None:
    about = "# Its logs are read where they are, and it has the room."
    settings = f"---\n{about}\nbase_system_journal_megabytes: 2048\n"
    reviewed.write("inventories/production/host_vars/ops02.slac.yml", settings)
    reviewed.commit("Keep more of the journal at SLAC")
    found = dossier_of(reviewed, workshop)
    [plan] = found.plans
    assert plan.judgement is not None
    assert (plan.environment, plan.judgement.risk) == ("production", "moderate")
    assert steps(found) == {("update", "Convergence", "slac-services")}
    touched = {service.name for service in plan.services if service.direct}
    critical = {"authentication-and-authorization", "itc-provisioning", "monitoring"}
    assert touched == {*critical, "miscellaneous", "satellite-itc"}


def test_tools_are_there() -> None:
    """A proof that skips everything proves nothing."""
    needed: Callable[[str], bool] = lambda one: tool(one).built  # noqa: E731
    assert [one for one in ("kubernetes", "pulumi") if not needed(one)] == []
