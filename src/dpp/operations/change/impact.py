"""What goes through something, and which services feel it: pure functions of what differs."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from dpp.model.units import UNITS
from dpp.operations.change.compare import Key, Row, State, differing_stacks, resources
from dpp.operations.change.findings import Affected, Effect, TextDifference

_WORKLOADS: Final = {"Deployment", "StatefulSet", "DaemonSet"}
_TIERS: Final = ("real-time", "critical", "operational")
_ROUTERS, _PLATFORM = "border_router", "kubernetes_control_plane"
Away = Mapping[str, int]
"""Seconds for which a thing is away, by verb and name or verb alone: ``restarts kafka``."""


# -- effects -------------------------------------------------------------------------------------------------------------


def effects(base: State, head: State, hosts: Mapping[str, Row], differences: Iterable[TextDifference], away: Away) -> tuple[Effect, ...]:  # fmt: skip
    """Return what machines, hosts, units, routers and workloads go through.

    Parameters
    ----------
    hosts
        What roles bring about on the hosts that are converged, as rendered for `head`.
    differences
        Those of the same hosts.
    away
        Declared figures.
    """
    found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for stack in differing_stacks(base, head):
        before, after = resources(base, stack), resources(head, stack)
        for key in sorted(before.keys() | after.keys()):
            for verb, name, because, place in _of_resource(key, before.get(key), after.get(key)):
                found[verb, name, because].append(place)
    for verb, name, because, place in _of_units(hosts, list(differences)):
        found[verb, name, because].append(place)
    return tuple(
        Effect(verb=verb, name=name, places=tuple(sorted(set(places))), seconds=_seconds(away, verb, name), because=because)
        for (verb, name, because), places in sorted(found.items())
    )  # fmt: skip


def _seconds(away: Away, verb: str, name: str) -> int | None:
    return away.get(f"{verb} {name}", away.get(f"{verb} {name.partition(' ')[0]}", away.get(verb)))


Told = tuple[str, str, str, str]
"""Verb, name, reason, place."""


def _of_resource(key: Key, old: Row | None, new: Row | None) -> Iterator[Told]:
    kind, name = key
    if old == new:
        return
    if kind == "dpp:machines:Machine":
        yield "is made" if not old else "goes" if not new else "is made anew", "machine", _which(old, new), name
    elif kind == "dpp:hosts:Convergence":
        before, after = (_converged(side) for side in (old, new))
        yield from (
            ("converges", "host", "its roles or variables differ", host)
            for host, digest in after.items()
            if before.get(host) != digest
        )
    elif kind == "dpp:network:DeviceConfiguration" and new:
        yield "is reconfigured", "router", "lines are taken on trial and confirmed from another site", name
    elif kind == "dpp:links:Link":
        yield (
            "is made" if not old else "goes" if not new else "is reconfigured",
            f"circuit {name}",
            _which(old, new),
            "both ends",
        )
    elif kind.startswith("dpp:images:"):
        yield "is made", "set of images", "what they are made from differs", f"registry of {(new or old or {})['site']}"
    elif kind == "dpp:clusters:Manifests":
        yield from _of_objects(old or {}, new or {})


def _which(old: Row | None, new: Row | None) -> str:
    if not old or not new:
        return "it is declared" if new else "it is declared no more"
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return f"its {' and '.join(keys)} {'differs' if len(keys) == 1 else 'differ'}"


def _converged(inputs: Row | None) -> dict[str, str]:
    return (
        {host: f"{digest} {inputs['machines'].get(host)}" for host, digest in inputs["digests"].items()}
        if inputs
        else {}
    )


def _of_objects(old: Row, new: Row) -> Iterator[Told]:
    before, after = old.get("objects", {}), new.get("objects", {})
    cluster = (new or old)["cluster"]
    for key in sorted(before.keys() | after.keys()):
        kind, name = key.partition(" ")[0], key.rpartition("/")[2]
        one, other = before.get(key), after.get(key)
        if kind not in _WORKLOADS | {"Job"} or one == other:
            continue
        thing, place = f"{kind} {name}", f"cluster {cluster}"
        if not one or not other:
            yield "starts" if other else "stops", thing, _which(one, other), place
        elif (because := _new_pods(one, other)) and kind == "Job":
            yield "runs again", thing, because, place
        elif because:
            recreated = other["spec"].get("strategy", {}).get("type") == "Recreate"
            yield ("restarts" if recreated else "rolls"), thing, because + "; the old pod goes first" * recreated, place


def _new_pods(old: Row, new: Row) -> str:
    """Return why an object makes other pods than before; empty where it does not."""
    one, other = ((side["spec"].get("template") or {}) for side in (old, new))
    if one == other:
        return ""
    notes = [(side.get("metadata") or {}).get("annotations") or {} for side in (one, other)]
    if one.get("spec") == other.get("spec"):
        keys = sorted(key.rpartition("/")[2] for key in notes[0].keys() | notes[1].keys() if notes[0].get(key) != notes[1].get(key))  # fmt: skip
        return (
            f"its {' and '.join(keys)} {'differs' if len(keys) == 1 else 'differ'}"
            if keys
            else "its pods' labels differ"
        )
    images = [[container["image"] for container in side["spec"]["containers"]] for side in (one, other)]
    return "its image differs" if images[0] != images[1] else "its pods differ"


def _of_units(hosts: Mapping[str, Row], differences: list[TextDifference]) -> Iterator[Told]:
    """Yield the units that restart or reload by the files that differ, and those whose state is to be another."""
    files = [(one.name, set(one.places)) for one in differences if one.kind == "host file"]
    settings = {(one.name, host) for one in differences if one.kind == "host unit" for host in one.places}
    for host, rendered in hosts.items():
        changed = [path for path, places in files if host in places]
        for name, unit in rendered["units"].items():
            if unit.get("running") is False or unit.get("masked"):
                if (name, host) in settings:
                    yield "stops", name, "it is asked not to run", host
                continue
            restart, reload = (_matching(changed, unit.get(key) or ()) for key in ("restart_on", "reload_on"))
            if restart:
                yield "restarts", name, f"reads {', '.join(restart)}", host
            elif reload:
                yield "reloads", name, f"reads {', '.join(reload)}", host


def _matching(paths: Iterable[str], patterns: Iterable[str]) -> list[str]:
    return sorted({path for path in paths for pattern in patterns if fnmatch.fnmatch(path, pattern)})


# -- services ------------------------------------------------------------------------------------------------------------


def services(
    base: State, head: State, touched: Mapping[str, Iterable[str]], declared: Mapping[str, str]
) -> tuple[Affected, ...]:
    """Return the services that feel a change: those that it touches, then those that depend on them.

    Parameters
    ----------
    touched
        By role whose files, units or tasks differ, the hosts.
    declared
        By service whose own declaration differs (contracts, objectives), what of it.
    """
    known = {**base["services"], **head["services"]}
    direct: dict[str, list[str]] = defaultdict(list)
    for name, why in declared.items():
        direct[name].append(why)
    places = {**_places(base), **_places(head)}
    for role, hosts in touched.items():
        for name in _with_role(known, role):
            if mine := [host for host in hosts if _is_of(name, host, places)]:
                direct[name].append(f"role {role} on {_count(mine)}")
    for name, why in _by_resources(base, head, known, places):
        direct[name].append(why)
    return (*_direct(known, direct), *_indirect(known, set(direct) & set(known)))


def _places(state: State) -> dict[str, str]:
    """Return the unit of provisioning that each host belongs to."""
    return {
        name: stack.partition(".")[2]
        for stack in state["resources"]
        for kind, name in resources(state, stack)
        if kind == "dpp:machines:Machine"
    }


def _is_of(service: str, host: str, places: Mapping[str, str]) -> bool:
    """Say whether a host counts for a service: one that is a unit of provisioning has its own hosts, others have any."""
    return service not in UNITS or places.get(host, service) == service


def _count(hosts: Iterable[str]) -> str:
    names = sorted(hosts)
    return names[0] if len(names) == 1 else f"{len(names)} hosts"


def _with_role(known: Mapping[str, Row], role: str) -> list[str]:
    return [name for name, one in known.items() if role in one["roles"]]


def _by_resources(
    base: State, head: State, known: Mapping[str, Row], places: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    owners = {**base["principals"], **head["principals"]}
    folders = {folder: name for name, one in known.items() for folder in one["manifests"]}
    groups = {**base["groups"], **head["groups"]}
    for stack in differing_stacks(base, head):
        before, after = resources(base, stack), resources(head, stack)
        for key in sorted(before.keys() | after.keys()):
            old, new = before.get(key), after.get(key)
            if old == new:
                continue
            kind, name = key
            inputs: Mapping[str, Any] = new or old or {}
            if kind == "dpp:clusters:Manifests":
                service = owners.get(inputs["service"]) or folders.get(inputs["service"])
                if service:
                    yield service, f"{inputs['service']} on cluster {inputs['cluster']}"
            elif kind == "dpp:machines:Machine":
                for role in groups.get(name, ()):
                    mine = (service for service in _with_role(known, role) if _is_of(service, name, places))
                    yield from ((service, f"machine {name}") for service in mine)
            elif kind in {"dpp:network:DeviceConfiguration", "dpp:links:Link"}:
                yield from ((service, _what(kind, name)) for service in _with_role(known, _ROUTERS))
            elif kind == "dpp:images:PlatformImages":
                yield from ((service, f"images of {name}") for service in _with_role(known, _PLATFORM))


def _what(kind: str, name: str) -> str:
    return f"{'router' if kind.startswith('dpp:network') else 'circuit'} {name}"


def _order(known: Mapping[str, Row], name: str) -> tuple[int, str]:
    return _TIERS.index(known[name]["tier"]), name


def _direct(known: Mapping[str, Row], direct: Mapping[str, list[str]]) -> Iterator[Affected]:
    for name in sorted(set(direct) & set(known), key=lambda one: _order(known, one)):
        reasons = list(dict.fromkeys(direct[name]))
        more = f" and {len(reasons) - 4} more" if len(reasons) > 4 else ""
        yield _affected(known, name, direct=True, because=", ".join(reasons[:4]) + more)


def _indirect(known: Mapping[str, Row], touched: set[str]) -> Iterator[Affected]:
    """Yield those that depend on touched services, each with the shortest way by which it does."""
    way: dict[str, tuple[str, ...]] = dict.fromkeys(touched, ())
    reached = sorted(touched)
    for name in reached:
        for other in sorted(known):
            if name in known[other]["dependencies"] and other not in way:
                way[other] = (name, *way[name])
                reached.append(other)
    for name in sorted(set(way) - touched, key=lambda one: _order(known, one)):
        yield _affected(known, name, direct=False, because=f"needs {', which needs '.join(way[name])}")


def _affected(known: Mapping[str, Row], name: str, *, direct: bool, because: str) -> Affected:
    one = known[name]
    return Affected(name=name, title=one["title"], tier=one["tier"], owner=one["owner"], direct=direct, because=because)


def touched_roles(
    differences: Iterable[TextDifference], rendered: Mapping[str, Mapping[str, Row]]
) -> dict[str, set[str]]:
    """Return, by role, the hosts on which what it brings about differs.

    Parameters
    ----------
    rendered
        By host, what each of its roles brings about.
    """
    found: dict[str, set[str]] = defaultdict(set)
    parts = {"host file": "files", "host unit": "units", "host task": "tasks"}
    for one in differences:
        for host in one.places if one.kind in parts else ():
            for role, brought in rendered.get(host, {}).items():
                if one.name in brought[parts[one.kind]]:
                    found[role].add(host)
    return dict(found)


def merged(rendered: Mapping[str, Mapping[str, Row]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what all roles of each host bring about together."""
    parts = ("files", "units", "tasks", "unseen")
    return {
        host: {part: {name: value for one in roles.values() for name, value in one[part].items()} for part in parts}
        for host, roles in rendered.items()
    }
