"""Which sites a plan touches follows from what it does; what cannot be told is everywhere."""

from __future__ import annotations

from typing import Any

import pytest

from dpp.operations.change.findings import Effect, Plan, Preview, Step, TextDifference
from dpp.operations.change.places import telescopes, touched
from unit.change.states import State, deployment, noun, row, state

OBSERVING = {"latitude_degrees": -30.0, "longitude_degrees": -70.0, "height_metres": 2663, "sun_below_degrees": -12}
EVERY = {"summit", "base", "ncsa"}


def placed() -> State:
    """Return a state that says where its hosts, circuits and clusters are."""
    found = state()
    sites = "inventories/lab/group_vars/all/sites.yml"
    found["nouns"] += [
        noun("site", name, {"observing": OBSERVING if name == "summit" else None}, sites) for name in EVERY
    ]
    hosts = {
        "rt01.base": "base",
        "rt01.summit": "summit",
        "rt01.ncsa": "ncsa",
        "st01.ncsa": "ncsa",
        "svc01.ncsa": "ncsa",
    }
    found["nouns"] += [noun("host", name, {"site": site}, "inventories/lab/hosts.yml") for name, site in hosts.items()]
    ends = {"base-ncsa-primary": ("rt01.base", "rt01.ncsa"), "summit-base-primary": ("rt01.summit", "rt01.base")}
    found["nouns"] = [
        one for one in found["nouns"] if one["kind"] != "circuit" and one["value"] != {"address": "10.83.0.11"}
    ]
    found["nouns"] += [
        noun("circuit", name, {"a": {"host": a}, "b": {"host": b}}, "circuits.yml") for name, (a, b) in ends.items()
    ]
    found["nouns"] += [noun("cluster", "ncsa", {"site": "ncsa"}, "clusters.yml"), noun("cluster", "mountain", {"site": "summit"}, "clusters.yml")]  # fmt: skip
    return found


def plan(stack: str = "", kind: str = "", name: str = "", **more: Any) -> Plan:
    steps = (Step(verb="update", kind=kind, name=name),) if kind else ()
    previews = (Preview(stack=stack, steps=steps, source="the engine"),) if stack else ()
    return Plan(environment="lab", applied=True, previews=previews, **more)


@pytest.mark.parametrize(
    ("done", "sites"),
    [
        (plan("lab.wan", "dpp:network:DeviceConfiguration", "rt01.base"), {"base"}),
        (plan("lab.wan", "dpp:links:Link", "base-ncsa-primary"), {"base", "ncsa"}),
        (plan("lab.ncsa-itc", "dpp:machines:Machine", "svc01.ncsa"), {"ncsa"}),
        (plan("lab.ncsa-itc", "dpp:hosts:Convergence", "ncsa-services"), {"ncsa"}),
        (plan("lab.workloads", "dpp:images:WorkloadImages", "ncsa-workloads"), {"ncsa"}),
        (plan("lab.workloads", "dpp:clusters:Manifests", "ncsa-broker"), {"ncsa"}),
        (plan("lab.wan", "dpp:network:Firewall", "fw01.base"), EVERY),
        (plan("lab.wan", "dpp:network:DeviceConfiguration", "rt09.base"), EVERY),
        (plan(effects=(Effect(verb="restarts", name="kafka", places=("rt01.summit",), because="a file"),)), {"summit"}),
        (plan(effects=(Effect(verb="is made", name="circuit summit-base-primary", places=("both ends",), because="it is declared"),)), {"summit", "base"}),
        (plan(effects=(Effect(verb="rolls", name="Deployment broker", places=("cluster mountain",), because="its pods differ"),)), {"summit"}),
        (plan(effects=(Effect(verb="is made", name="set of images", places=("registry of base",), because="sources"),)), {"base"}),
        (plan(effects=(Effect(verb="restarts", name="kafka", places=("svc77.moon",), because="a file"),)), EVERY),
        (plan(differences=(TextDifference(kind="manifest", name="Job a/b (of a night)", places=("cluster mountain",), diff="+a"),)), {"summit"}),
        (plan("lab.wan", errors=("no engine",)), EVERY),
        (plan(), set()),
    ],
    ids=lambda value: "-".join(sorted(value)) or "nowhere" if isinstance(value, set) else None,
)  # fmt: skip
def test_what_is_done_says_where(done: Plan, sites: set[str]) -> None:
    assert touched(done, placed(), placed()) == sites


def test_what_the_engine_cannot_preview_is_everywhere() -> None:
    broken = Plan(
        environment="lab", applied=True, previews=(Preview(stack="lab.wan", errors=("no",), source="the engine"),)
    )
    assert touched(broken, placed(), placed()) == EVERY


def test_what_moves_touches_where_it_was_and_where_it_comes_to() -> None:
    base, head = placed(), placed()
    for one in head["nouns"]:
        if (one["kind"], one["name"]) == ("cluster", "ncsa"):
            one["value"] = {"site": "base"}
    assert touched(plan("lab.workloads", "dpp:clusters:Manifests", "ncsa-broker"), base, head) == {"base", "ncsa"}


def test_what_comes_or_goes_is_known_from_the_side_that_has_it() -> None:
    base, head = placed(), placed()
    objects = {"Deployment workloads/new": deployment("new")}
    head["resources"]["lab.workloads"].append(row("dpp:clusters:Manifests", "mountain-new", cluster="mountain", service="new", objects=objects))  # fmt: skip
    for one, other in ((base, head), (head, base)):
        assert touched(plan("lab.workloads", "dpp:clusters:Manifests", "mountain-new"), one, other) == {"summit"}


def test_a_change_does_not_take_a_telescope_away() -> None:
    base, head = placed(), placed()
    for one in head["nouns"]:
        if one["kind"] == "site":
            one["value"] = {"observing": OBSERVING | {"sun_below_degrees": -18} if one["name"] != "base" else None}
    found = telescopes(base, head)
    assert {name: one.sun_below_degrees for name, one in found.items()} == {"summit": -12, "ncsa": -18}
