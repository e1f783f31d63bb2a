"""What differs between two states of an environment: pure functions of what both sides told of themselves."""

from __future__ import annotations

import difflib
import fnmatch
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

import yaml

from dpp.adapters.git import ChangedPath
from dpp.operations.change.findings import Noun, Right, TextDifference, Verb

State = Mapping[str, Any]
Row = Mapping[str, Any]
EMPTY: Final[State] = {
    "stacks": [], "resources": {}, "failed": {}, "night": {}, "nouns": [], "rights": [], "services": {}, "principals": {}, "groups": {}, "roles": {},
}  # fmt: skip
"""The state of an environment that a side does not have."""
EVERYWHERE: Final = frozenset({"service", "contract", "objective"})
"""Kinds of nouns that are declared once for all environments."""
_CONTEXT: Final = 2
_PLACES: Final = (
    ("roles/*/molecule/*", "test", 1),
    ("roles/*", "role", 1),
    ("k8s/clusters/*", "manifest", 3),
    ("k8s/*", "manifest", 1),
    ("stacks/units/*", "unit", 2),
    ("stacks/*", "unit", 1),
    ("workloads/*", "image", 0),
    ("uv.lock", "image", 0),
    ("playbooks/*", "playbook", 1),
    ("docs/runbooks/*", "runbook", 2),
    ("docs/*", "document", 1),
    ("tests/*", "test", 1),
    ("changes/rules.yml", "rule", 0),
    ("changes/people.yml", "person", 0),
    ("changes/forge.yml", "tool", 0),
    ("changes/freezes.yml", "freeze", 0),
    ("changes/*", "change record", 2),
    ("*.md", "document", 0),
    ("*", "tool", 0),
)
"""Pattern of a path, what it declares, and which part of the path is the name; 0 is all of it. The first that fits counts."""
_DECLARED: Final = ("inventories/*", "services/*")
"""Files whose nouns the states tell, one by one."""
INERT: Final = ("docs/*", "tests/*", "changes/*", "roles/*/molecule/*", "roles/*/README.md", "*.md", ".github/*", ".ci/*", "Makefile",
    "src/dpp/cli/*", "src/dpp/operations/*",
)  # fmt: skip
"""What no host, stack or cluster is made from: a change of these alone needs no look at any state."""


def is_inert(path: str) -> bool:
    """Say whether a file deploys nothing, whatever is in it."""
    return any(fnmatch.fnmatch(path, pattern) for pattern in INERT)


# -- nouns ---------------------------------------------------------------------------------------------------------------


def nouns(states: Mapping[str, tuple[State, State]], paths: Iterable[ChangedPath]) -> tuple[Noun, ...]:
    """Return what is declared otherwise, each with its file.

    Parameters
    ----------
    states
        By environment, those of both sides.
    paths
        The files that differ; what states do not tell of is known by these.
    """
    found: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for environment, (base, head) in states.items():
        for key in _declared(base, head):
            found[key].append(environment)
    told = {file for _, _, _, file in found}
    declared = [
        Noun(kind=kind, name=name, verb=cast("Verb", verb), file=file, environments=() if kind in EVERYWHERE else tuple(where))
        for (kind, name, verb, file), where in found.items()
    ]  # fmt: skip
    by_path = {_by_path(path) for path in paths if path.path not in told}
    return tuple(sorted({*declared, *by_path}, key=lambda one: (one.kind, one.name, one.file)))


def _declared(base: State, head: State) -> Iterator[tuple[str, str, str, str]]:
    before, after = ({(row["kind"], row["name"], row["file"]): row["value"] for row in side["nouns"]} for side in (base, head))  # fmt: skip
    for kind, name, file in sorted(before.keys() | after.keys()):
        key = (kind, name, file)
        if key not in before:
            yield kind, name, "added", file
        elif key not in after:
            yield kind, name, "removed", file
        elif before[key] != after[key]:
            yield kind, name, "changed", file


def _by_path(path: ChangedPath) -> Noun:
    if any(fnmatch.fnmatch(path.path, pattern) for pattern in _DECLARED):
        return Noun(kind="declaration", name=path.path, verb=cast("Verb", path.verb), file=path.path)
    kind, part = next((kind, part) for pattern, kind, part in _PLACES if fnmatch.fnmatch(path.path, pattern))
    parts = path.path.split("/")
    name = (
        "/".join(parts[1 : part + 1]).removesuffix(".md").removesuffix(".yml").removesuffix(".py")
        if part
        else path.path
    )
    if path.path.startswith("k8s/clusters/"):
        name = "/".join(parts[2:4])
    elif part == 2:
        name = parts[-1].partition(".")[0]
    verb = path.verb if len(parts) == part + 1 or not part else "changed"
    return Noun(kind=kind, name=name, verb=cast("Verb", verb), file=path.path)


# -- resources -----------------------------------------------------------------------------------------------------------

Key = tuple[str, str]
"""Type and name of a resource."""


def resources(state: State, stack: str) -> dict[Key, dict[str, Any]]:
    """Return the inputs of a stack's resources."""
    return {(row["type"], row["name"]): row["inputs"] for row in state["resources"].get(stack, ())}


def differing_stacks(base: State, head: State) -> list[str]:
    """Return the stacks whose programs register something else, in the order of units."""
    both = list(dict.fromkeys([*head["resources"], *head["failed"], *base["resources"]]))
    return [one for one in both if one in head["failed"] or resources(base, one) != resources(head, one)]


def paths_of(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield path, old and new value wherever two values differ; ``None`` where there is none."""
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from paths_of(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    else:
        yield path, old, new


# -- texts ---------------------------------------------------------------------------------------------------------------


def text_differences(base: State, head: State) -> Iterator[TextDifference]:
    """Yield how routers' configurations and clusters' objects differ, equal differences of several places once."""
    found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for stack in differing_stacks(base, head):
        before, after = resources(base, stack), resources(head, stack)
        for key in sorted(before.keys() | after.keys()):
            for kind, name, place, diff in _texts(key, before.get(key, {}), after.get(key, {})):
                found[kind, name, diff].append(place)
    for cluster in sorted(base["night"].keys() | head["night"].keys()):
        old, new = base["night"].get(cluster, {}), head["night"].get(cluster, {})
        for name, diff in _objects(old, new):
            found["manifest", f"{name} (of a night)", diff].append(f"cluster {cluster}")
    yield from grouped(found)


def grouped(found: Mapping[tuple[str, str, str], list[str]]) -> Iterator[TextDifference]:
    """Yield differences by kind, name and text, each once, with the places that have it."""
    for (kind, name, diff), places in sorted(found.items()):
        yield TextDifference(kind=kind, name=name, places=tuple(sorted(places)), diff=diff)


def _texts(key: Key, old: Row, new: Row) -> Iterator[tuple[str, str, str, str]]:
    kind, name = key
    if kind == "dpp:network:DeviceConfiguration":
        diff = unified(old.get("configuration", ""), new.get("configuration", ""))
        if diff:
            yield "router", "configuration", name, diff
    elif kind == "dpp:clusters:Manifests":
        cluster = (new or old)["cluster"]
        for about, diff in _objects(old.get("objects", {}), new.get("objects", {})):
            yield "manifest", about, f"cluster {cluster}", diff


def _objects(old: Row, new: Row) -> Iterator[tuple[str, str]]:
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield key, unified(*(as_text(side[key]) if key in side else "" for side in (old, new)))


def as_text(value: Any) -> str:
    """Return a value as YAML, for people."""
    return str(yaml.dump(json.loads(json.dumps(value)), Dumper=_Dumper, sort_keys=True, width=160))


class _Dumper(yaml.SafeDumper):
    """Keeps the lines of texts, so that their differences are lines."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def unified(old: str, new: str) -> str:
    """Return a difference without names and numbers of lines, so that equal ones are equal; empty where there is none."""
    lines = [*difflib.unified_diff(old.splitlines(), new.splitlines(), n=_CONTEXT, lineterm="")][2:]
    return "\n".join("@@" if line.startswith("@@") else line for line in lines)


# -- hosts ---------------------------------------------------------------------------------------------------------------


def changed_hosts(base: State, head: State) -> dict[str, str]:
    """Return the hosts that are to be converged, each with the stack that does so."""
    found: dict[str, str] = {}
    for stack in differing_stacks(base, head):
        before, after = (dict(_digests(side, stack)) for side in (base, head))
        found |= {host: stack for host, digest in after.items() if before.get(host) != digest}
    return found


def _digests(state: State, stack: str) -> Iterator[tuple[str, str]]:
    for (kind, _), inputs in resources(state, stack).items():
        if kind == "dpp:hosts:Convergence":
            for host, digest in inputs["digests"].items():
                yield host, f"{digest} {inputs['machines'].get(host)}"


def roles_to_render(base: State, head: State, hosts: Iterable[str], *, variables: bool) -> dict[str, list[str]]:
    """Return the roles of each host that may bring about something else.

    Parameters
    ----------
    hosts
        Those that are to be converged.
    variables
        Whether variables may differ: then all roles of a host may, else only those whose own files do.
    """
    changed = {name for name, digest in head["roles"].items() if base["roles"].get(name) != digest}
    there = set(head["roles"]) | set(base["roles"])
    return {
        host: sorted(there.intersection(head["groups"].get(host, ()), there if variables else changed))
        for host in hosts
    }  # fmt: skip


def host_differences(before: Mapping[str, Row], after: Mapping[str, Row]) -> Iterator[TextDifference]:
    """Yield how what roles bring about on hosts differs, equal differences of several hosts once."""
    found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for host in sorted(after):
        old, new = before.get(host, {}), after[host]
        for kind, part in (("host file", "files"), ("host unit", "units"), ("host task", "tasks")):
            one, other = old.get(part, {}), new.get(part, {})
            for name in one.keys() | other.keys():
                if one.get(name) != other.get(name):
                    found[kind, name, _host_difference(one.get(name), other.get(name))].append(host)
    yield from grouped(found)


def _host_difference(old: Any, new: Any) -> str:
    return unified(*("" if side is None else side if isinstance(side, str) else as_text(side) for side in (old, new)))


# -- rights --------------------------------------------------------------------------------------------------------------


def rights(base: State, head: State) -> tuple[tuple[Right, ...], tuple[Right, ...]]:
    """Return the rights that are gained, and those that are lost."""
    before, after = ({*map(tuple, side["rights"]), *_of_objects(side)} for side in (base, head))
    return _sorted(after - before), _sorted(before - after)


def _sorted(found: Iterable[tuple[str, str, str]]) -> tuple[Right, ...]:
    return tuple(Right(principal=who, verb=verb, resource=what) for who, verb, what in sorted(found))


def _of_objects(state: State) -> Iterator[tuple[str, str, str]]:
    """Yield the rights that objects of clusters give: ways through the network, verbs at the API."""
    for stack in state["resources"]:
        for (kind, _), inputs in resources(state, stack).items():
            if kind == "dpp:clusters:Manifests":
                for content in inputs["objects"].values():
                    yield from _of_object(content, inputs["cluster"])


def _of_object(content: Row, cluster: str) -> Iterator[tuple[str, str, str]]:
    name, spec = content["metadata"]["name"], content.get("spec") or {}
    if content["kind"] == "NetworkPolicy":
        for peer, port in _ways(spec.get("ingress"), "from"):
            yield peer, "connect to", f"port {port} of {name} on {cluster}"
        for peer, port in _ways(spec.get("egress"), "to"):
            yield name, "connect to", f"port {port} of {peer} from {cluster}"
    elif content["kind"] == "CiliumNetworkPolicy":
        for rule in spec.get("egress") or ():
            yield from ((name, "connect to", f"{entity} of {cluster}") for entity in rule.get("toEntities") or ())
    elif content["kind"] in {"Role", "ClusterRole"}:
        for rule in content.get("rules") or ():
            for resource in rule["resources"]:
                yield from ((name, verb, f"{resource} at the API of {cluster}") for verb in rule["verbs"])


def _ways(rules: Iterable[Row] | None, side: str) -> Iterator[tuple[str, str]]:
    for rule in rules or ():
        yield from ((peer, port) for peer in _peers(rule, side) for port in _ports(rule))


def _ports(rule: Row) -> list[str]:
    return [f"{one.get('port', 'any')}" for one in rule.get("ports") or [{}]]


def _peers(rule: Row, side: str) -> Iterator[str]:
    for peer in rule.get(side) or [{}]:
        if "ipBlock" in peer:
            yield str(peer["ipBlock"]["cidr"])
        else:
            labels = (peer.get("podSelector") or {}).get("matchLabels") or {}
            yield ", ".join(labels.values()) or ("all pods" if peer else "everyone")
