"""Where a dossier and the truth do not agree: what it says beside what the engine did, what contracts say, what a server answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from dpp.operations.change.findings import Plan, Right
from k8s.deployed import Server
from stacks.trials import Done

_NIGHT: Final = " (of a night)"
_OWN_OF_SERVER: Final = ("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid")
_REFUSED = re.compile(r'(?:The (?P<kind>\w+) "(?P<name>[\w.-]+)" is invalid)')
_OF_KAFKA = re.compile(r"(topic|group|transactional_id) (\S+) of Kafka at \w+")
_OF_STORE = re.compile(r"bucket (\S+) of the store at \w+")
_OF_DATABASE = re.compile(r"database (\S+) on \S+")
_OPEN = re.compile(r"(.*) of (\w+) \(\d+ hosts?\)")
_WAY_IN = re.compile(r"port \S+ of (\S+) on (\w+)")
_WAY_OUT = re.compile(r"port \S+ of .* from (\w+)")
_DERIVED: Final = frozenset({"mirror", "ANONYMOUS"})
"""Who has no rights that a contract lists: theirs follow from those of others."""
_PORTS: Final = "inventories/lab/group_vars/base_system/derived.yml"

Row = tuple[str, str, str]
"""Principal, verb, and what, without its site."""


def difference(subject: str, said: Iterable[Any], true: Iterable[Any]) -> list[str]:
    """Return in words what is said and not true, and what is true and not said."""
    said, true = set(said), set(true)
    return [
        *(f"{subject}: the dossier says {one}, which is not so" for one in sorted(said - true, key=str)),
        *(f"{subject}: the dossier does not say {one}" for one in sorted(true - said, key=str)),
    ]


# -- the engine ----------------------------------------------------------------------------------------------------------


def with_engine(plan: Plan, done: Done) -> list[str]:
    """Return where a plan's steps are not those of the engine, or their inputs not those that came to differ."""
    said = {(preview.stack, step.verb, step.kind, step.name) for preview in plan.previews for step in preview.steps}
    inputs = {(step.kind.rpartition(":")[2], step.name, path) for step in plan.steps for path in step.changes}
    differing = {
        (*key.split(" ", 1), path)
        for key in done.before.keys() & done.after.keys()
        for path in _paths(done.before[key], done.after[key])
    }
    return [
        *(f"{preview.stack}: {error}" for preview in plan.previews for error in preview.errors),
        *difference("steps", said, done.applied),
        *difference("inputs", inputs, differing),
        *(f"the engine did {step} and had not previewed it" for step in sorted(done.applied - done.previewed)),
    ]


def _paths(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in old.keys() | new.keys():
        one, other = old.get(key), new.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from (f"{key}: {inner}" for inner in one.keys() | other.keys() if one.get(inner) != other.get(inner))
        elif one != other:
            yield key


def with_effects(plan: Plan, done: Done) -> list[str]:
    """Return where what a plan says of hosts, routers and pods is not what the objects came to be."""
    said = {(effect.verb, effect.name, place) for effect in plan.effects for place in effect.places}
    hosts = {place for verb, _, place in said if verb == "converges"}
    routers = {place for verb, name, place in said if (verb, name) == ("is reconfigured", "router")}
    pods = {one for one in said if one[1].partition(" ")[0] in {"Deployment", "Job"} and one[2].startswith("cluster ")}
    shown = {place for one in plan.differences if one.kind == "router" for place in one.places}
    converged = {
        host
        for _, old, new in changed(done, "Convergence")
        for host, digest in new["digests"].items()
        if old["digests"].get(host) != digest
    }
    configured = {name for name, _, _ in changed(done, "DeviceConfiguration")}
    return [
        *difference("converged hosts", hosts, converged),
        *difference("routers", routers, configured),
        *difference("routers whose lines are shown", shown, configured),
        *difference("pods", pods, _pods(done)),
    ]


def changed(done: Done, kind: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, inputs before and after of every object of a kind that came to differ."""
    for key in sorted(done.before.keys() | done.after.keys()):
        old, new = done.before.get(key), done.after.get(key)
        if key.startswith(f"{kind} ") and old != new:
            yield key.partition(" ")[2], old, new


def _pods(done: Done) -> Iterator[tuple[str, str, str]]:
    """Yield what happens to pods whose template came to differ."""
    for _, old, new in changed(done, "Manifests"):
        for key, content in new["objects"].items():
            before = old["objects"].get(key)
            if (
                before
                and "template" in content.get("spec", {})
                and before["spec"]["template"] != content["spec"]["template"]
            ):
                recreated = content["spec"].get("strategy", {}).get("type") == "Recreate"
                verb = "runs again" if content["kind"] == "Job" else "restarts" if recreated else "rolls"
                yield verb, f"{content['kind']} {content['metadata']['name']}", f"cluster {new['cluster']}"


# -- an API server -------------------------------------------------------------------------------------------------------


def objects_of(objects: Mapping[str, Any], cluster: str) -> dict[str, Any]:
    """Return what stands on a cluster, by key, the ground of all first."""
    found: dict[str, Any] = {}
    services = [one for name, one in objects.items() if name.startswith("Manifests ") and one["cluster"] == cluster]
    for inputs in sorted(services, key=lambda one: (one["service"] != "platform", one["service"])):
        found |= inputs["objects"]
    return found


def with_server(plan: Plan, done: Done, cluster: str, server: Server) -> list[str]:
    """Return where the objects that a plan names are not those that a server, which has the base's, sees differ."""
    said = {
        one.name
        for one in plan.differences
        if one.kind == "manifest" and f"cluster {cluster}" in one.places and not one.name.endswith(_NIGHT)
    }
    before, after = objects_of(done.before, cluster), objects_of(done.after, cluster)
    return difference(f"objects of {cluster}", said, answered(server, before, after))


def answered(server: Server, before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """Return the keys of the objects that come, go, or are others in a server's dry run."""
    standing = _listed(server, "get", before)
    refused: set[str] = set()
    while True:
        asked = {key: content for key, content in after.items() if key not in refused}
        done = server.kubectl(
            "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--output=json", "--filename=-",
            objects=list(asked.values()),
        )  # fmt: skip
        if done.returncode == 0:
            break
        new = {_key_of(after, match["kind"], match["name"]) for match in _REFUSED.finditer(done.stderr)}
        assert new, done.stderr  # what it does not let be changed differs, and is named
        refused |= new
    tried = {_key(one): _plain(one) for one in json.loads(done.stdout)["items"]}
    differing = {key for key, content in tried.items() if standing.get(key) != content}
    return refused | differing | (before.keys() - after.keys())


def _listed(server: Server, verb: str, objects: Mapping[str, Any]) -> dict[str, Any]:
    done = server.kubectl(verb, "--output=json", "--filename=-", objects=list(objects.values()))
    assert done.returncode == 0, done.stderr
    return {_key(one): _plain(one) for one in json.loads(done.stdout)["items"]}


def _key(content: Mapping[str, Any]) -> str:
    namespace = content["metadata"].get("namespace", "")
    return f"{content['kind']} {namespace}{'/' * bool(namespace)}{content['metadata']['name']}"


def _key_of(objects: Mapping[str, Any], kind: str, name: str) -> str:
    [found] = [key for key, one in objects.items() if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def _plain(content: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in content["metadata"].items() if key not in _OWN_OF_SERVER}
    return {key: value for key, value in content.items() if key != "status"} | {"metadata": metadata}


# -- rights --------------------------------------------------------------------------------------------------------------


def with_contracts(plan: Plan, base: Path, head: Path, present: Iterable[str]) -> list[str]:
    """Return where the rights that a plan names are not those that contracts and open ports of both trees list."""
    names = set(present)
    before, after = (_matrix(tree, names) for tree in (base, head))
    gained, lost = ({row for one in rights if (row := _row(one))} for rights in (plan.gained, plan.lost))
    return [
        *difference("rights that are gained", gained - before, after - before),
        *difference("rights that are lost", lost - after, before - after),
    ]


def with_policies(plan: Plan, done: Done) -> list[str]:
    """Return where the ways through the network that a plan names are not of the policies that came to differ."""
    said = {policy for right in (*plan.gained, *plan.lost) if (policy := _policy(right))}
    differing = set()
    for _, old, new in changed(done, "Manifests"):
        for key in old["objects"].keys() | new["objects"].keys():
            one, other = (side["objects"].get(key, {}) for side in (old, new))
            if key.startswith("NetworkPolicy ") and one.get("spec") != other.get("spec"):
                differing.add((key.rpartition("/")[2], new["cluster"]))
    return difference("network policies", said, differing)


def _policy(right: Right) -> tuple[str, str] | None:
    if right.verb != "connect to":
        return None
    if incoming := _WAY_IN.fullmatch(right.resource):
        return incoming[1], incoming[2]
    outgoing = _WAY_OUT.fullmatch(right.resource)
    assert outgoing, f"a way that this test does not know: {right}"
    return right.principal, outgoing[1]


def _row(right: Right) -> Row | None:
    """Return a right without its site; none for those that follow from others."""
    if right.principal in _DERIVED or right.verb in {"describe_configs", "know", "connect to"}:
        return None
    if match := _OF_KAFKA.fullmatch(right.resource):
        return right.principal, right.verb, f"{match[1]} {match[2]}"
    if match := _OF_STORE.fullmatch(right.resource):
        return right.principal, right.verb, f"bucket {match[1]}"
    if match := _OF_DATABASE.fullmatch(right.resource):
        return right.principal, right.verb, f"database {match[1]}"
    match = _OPEN.fullmatch(right.resource)
    assert match, f"a right that this test does not know: {right}"
    return right.principal, right.verb, f"{match[2]} {match[1]}"


def _matrix(tree: Path, present: set[str]) -> set[Row]:
    """Return every right that a tree's contracts list, as their files say, for the programs that run in the lab."""
    contracts: dict[str, Any] = {}
    for path in sorted((tree / "services").glob("*.yml")):
        contracts |= yaml.safe_load(path.read_text()).get("contracts") or {}
    names = {role: one["name"] for own in contracts.values() for role, one in (own.get("topics") or {}).items()}
    camera = yaml.safe_load((tree / "inventories/lab/group_vars/all/camera.yml").read_text())["dpp_camera"]
    rows = {row for name in present & contracts.keys() for row in _listed_rights(name, contracts[name], names)}
    ports = yaml.safe_load((tree / _PORTS).read_text())["base_system_open_ports"]
    return {
        *((who, verb, resource.format(camera=camera["component"], **camera)) for who, verb, resource in rows),
        *(("everyone", "reach", f"{group} {rule}") for group, rules in ports.items() for rule in rules),
    }


def _listed_rights(name: str, contract: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[Row]:
    for role in contract.get("publishes", ()):
        yield name, "write", f"topic {names.get(role, role)}"
    for role, groups in contract.get("consumes", {}).items():
        yield name, "read", f"topic {names.get(role, role)}"
        yield from ((name, "read", f"group {group}") for group in groups)
    yield from ((name, "write", f"transactional_id {one}") for one in contract.get("transactions", ()))
    yield from ((name, "describe", f"group {group}") for group in contract.get("observes", ()))
    for store in contract.get("stores", ()):
        for prefix in store.get("prefixes") or [""]:
            yield from ((name, verb, f"bucket {store['bucket']}/{prefix}") for verb in store["may"])
    yield from ((name, "write", f"database {one}") for one in contract.get("writes", ()))
    yield from ((name, "read", f"database {one}") for one in contract.get("reads", ()))
