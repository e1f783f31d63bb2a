"""Where things are: the folders of environments, and the sites that a plan touches, derived from what it does; what cannot be told is everywhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from dpp.model.errors import FatalError
from dpp.model.folders import Folders
from dpp.model.types import Observing, Provisioning
from dpp.operations.change.compare import Row, State, resources
from dpp.operations.change.findings import Plan

_SAYS_WHERE: Final[Mapping[str, str]] = {
    "dpp:machines:Machine": "host",
    "dpp:network:DeviceConfiguration": "host",
    "dpp:hosts:Convergence": "digests",
    "dpp:links:Link": "circuit",
    "dpp:images:PlatformImages": "site",
    "dpp:images:WorkloadImages": "site",
    "dpp:clusters:Manifests": "cluster",
}
"""By type of a resource, the input that names the host, hosts, circuit, site or cluster that it is about."""
_WORDS: Final = ("cluster ", "circuit ", "registry of ")
"""What effects and differences put before a name."""
_ENDS: Final = "both ends"
_PROVISIONING: Final = "dpp_provisioning"


def touched(plan: Plan, base: State, head: State) -> frozenset[str]:
    """Return the sites that a plan touches; all of them where something of it cannot be told.

    Parameters
    ----------
    base, head
        What both sides declare: a host that moves touches the site that it leaves and the one that it comes to.
    """
    known = _known(base, head)
    every = frozenset(known["site"])
    if plan.errors or any(one.errors for one in plan.previews):
        return every
    found: set[str] = set()
    for name in {*_of_steps(plan, base, head), *_of_effects(plan)}:
        found |= frozenset().union(*(names.get(name, ()) for names in known.values())) or every
    return frozenset(found)


def sites_of(plan: Plan, base: State, head: State) -> dict[str, frozenset[str]]:
    """Return the sites that each stack of a plan touches; what no stack's steps explain counts for every stack."""
    every = touched(plan, base, head)
    alone = {
        one.stack: touched(plan.model_copy(update={"previews": (one,), "effects": (), "differences": ()}), base, head)
        for one in plan.previews
    }
    shared = every - frozenset().union(*alone.values())
    return {stack: sites | shared for stack, sites in alone.items()}


def folders_of(root: Path) -> dict[str, Folders]:
    """Return the folders of every environment that a tree declares; of each, only where its hosts come from is read.

    Raises
    ------
    FatalError
        If one does not say that as the model wants it.
    """
    return {
        path.parent.name: Folders.of(path.parent.name, instances=provisioning_of(path.parent).hosts == "made")
        for path in sorted(root.glob("inventories/*/hosts.yml"))
    }


def provisioning_of(inventory: Path) -> Provisioning:
    """Return how an environment is provisioned; nothing else of it is read, so that it may be wrong.

    Raises
    ------
    FatalError
        If it does not say that as the model wants it.
    """
    for path in sorted(inventory.glob("group_vars/all/*.yml")):
        text = path.read_text()
        if _PROVISIONING in text and (found := (yaml.safe_load(text) or {}).get(_PROVISIONING)):
            try:
                return Provisioning.model_validate(found)
            except ValidationError as error:
                raise FatalError(str(path), " ".join(str(error).split())[:300], f"a {_PROVISIONING} of the model", f"dpp model check {inventory.name}") from error  # fmt: skip
    return Provisioning()


def telescopes(base: State, head: State) -> dict[str, Observing]:
    """Return when the telescope of each site observes: as the base says, and the change only of sites that the base has none for."""  # fmt: skip
    found: dict[str, Observing] = {}
    for side in (head, base):
        for row in side["nouns"]:
            if row["kind"] == "site" and row["value"].get("observing"):
                found[row["name"]] = Observing.model_validate(row["value"]["observing"])
    return found


def _known(base: State, head: State) -> dict[str, dict[str, frozenset[str]]]:
    """Return, by kind, at which sites hosts, clusters and circuits are, on either side."""
    found: dict[str, dict[str, frozenset[str]]] = {kind: defaultdict(frozenset) for kind in ("host", "site", "cluster", "circuit")}  # fmt: skip
    rows = [row for side in (base, head) for row in side["nouns"] if row["kind"] in found]
    for row in sorted(rows, key=lambda one: str(one["kind"]) == "circuit"):  # once the hosts at their ends are known
        found[row["kind"]][row["name"]] |= _sites(row["kind"], row["name"], row["value"], found["host"])
    return found


def _sites(kind: str, name: str, value: Row, hosts: Mapping[str, frozenset[str]]) -> frozenset[str]:
    if kind == "site":
        return frozenset({name})
    if kind == "circuit":
        return hosts[value["a"]["host"]] | hosts[value["b"]["host"]]
    return frozenset({value["site"]})


def _of_steps(plan: Plan, base: State, head: State) -> Iterator[str]:
    for preview in plan.previews:
        sides = [resources(side, preview.stack) for side in (base, head)]
        for step in preview.steps:
            inputs = [side[step.kind, step.name] for side in sides if (step.kind, step.name) in side]
            told = [one[key] for one in inputs if (key := _SAYS_WHERE.get(step.kind, "")) in one]
            if not told:
                yield f"an unknown place of {step.kind} {step.name}"
            for one in told:
                yield from _names(one)


def _names(value: Any) -> Iterator[str]:
    yield from value if isinstance(value, Mapping) else [str(value)]


def _of_effects(plan: Plan) -> Iterator[str]:
    for effect in plan.effects:
        yield from (_plain(effect.name if place == _ENDS else place) for place in effect.places)
    for difference in plan.differences:
        yield from map(_plain, difference.places)


def _plain(place: str) -> str:
    return next((place.removeprefix(word) for word in _WORDS if place.startswith(word)), place)
