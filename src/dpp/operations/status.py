"""What stands in an environment, piece by piece, each with what is amiss."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from dpp.adapters.kubernetes import Cluster
from dpp.adapters.pulumi.backend import Backend
from dpp.lab.links import Links
from dpp.lab.machines import Machines
from dpp.model.environment import Environment
from dpp.model.errors import DppError
from dpp.model.folders import Folders
from dpp.model.units import UNITS
from dpp.operations.messages import Messages, heaps
from dpp.operations.stacks import backend_of

_MANIFESTS = "dpp:clusters:Manifests"


@dataclass(frozen=True)
class Piece:
    """One piece of an environment.

    Parameters
    ----------
    kind, name
        What it is.
    state
        How it is, in a few words.
    sound
        Whether it is as it should be.
    """

    kind: str
    name: str
    state: str
    sound: bool


def pieces(environment: Environment) -> list[Piece]:
    """Return stacks, machines, circuits and clusters of an environment with their state."""
    backend, folders = backend_of(environment), environment.folders
    found = [_stack(backend, f"{environment.name}.{unit}") for unit in UNITS]
    if environment.made:
        found += [*_machines(environment, folders), *_circuits(environment, folders)]
    known = _owners(backend, environment.name)
    owners = {name: known.get(name, []) for name in environment.clusters}
    with ThreadPoolExecutor(len(owners)) as pool:
        found += pool.map(lambda item: _cluster(environment.name, folders, *item), owners.items())
    if any(known.values()):
        found += _messages(environment, folders)
    return found


def _stack(backend: Backend, name: str) -> Piece:
    checkpoint = backend.checkpoint(name)
    if checkpoint is None:
        return Piece("stack", name, "never applied", sound=False)
    resources = checkpoint.get("resources") or []
    pending = checkpoint.get("pending_operations") or []
    when = datetime.fromisoformat(checkpoint["manifest"]["time"]).astimezone(UTC)
    state = f"{len(resources)} resources, changed {when:%Y-%m-%d %H:%M} UTC"
    cut = f", {len(pending)} operations cut short: apply it again" if pending else ""
    return Piece("stack", name, state + cut, sound=bool(resources) and not pending)


def _owners(backend: Backend, environment: str) -> dict[str, list[str]]:
    """Return the owners of objects on each cluster, as the stack of the workloads knows them."""
    owners: dict[str, list[str]] = {}
    for resource in (backend.checkpoint(f"{environment}.workloads") or {}).get("resources") or []:
        if resource["type"] == _MANIFESTS:
            owners.setdefault(resource["inputs"]["cluster"], []).append(resource["urn"])
    return owners


def _machines(environment: Environment, folders: Folders) -> Iterator[Piece]:
    there = {state.host: state for state in Machines(folders).all()}
    for host in environment.hosts:
        state = there.get(host)
        if state is None:
            yield Piece("machine", host, "missing", sound=False)
        else:
            words = state.system if state.plugged else f"{state.system}, off its network"
            yield Piece("machine", host, words, sound=state.system == "running" and state.plugged)


def _circuits(environment: Environment, folders: Folders) -> Iterator[Piece]:
    links = Links(folders, environment)
    for circuit in environment.circuits:
        state = links.read(circuit)
        if state is None:
            yield Piece("circuit", circuit, "missing", sound=False)
        else:
            amiss = [*state.faults, *(f"cut {way}" for way in state.cut)]
            yield Piece(
                "circuit", circuit, ", ".join(amiss) or ("sound" if state.sound else "degraded"), sound=state.sound
            )


def _messages(environment: Environment, folders: Folders) -> Iterator[Piece]:
    """Yield what consumers have set aside, by site and group; somebody still owes those messages an answer."""
    messages = Messages(environment, folders)
    for site in messages.sites:
        try:
            found = heaps(messages.at(site))
        except DppError as error:
            yield Piece("message list", site, str(error), sound=False)
            continue
        if not found:
            yield Piece("message list", site, "none set aside", sound=True)
        for heap in found:
            state = f"{heap.count} set aside, the newest: {heap.reason}"
            yield Piece("message list", f"{site} {heap.group}", state, sound=False)


def _cluster(environment: str, folders: Folders, name: str, owners: list[str]) -> Piece:
    cluster = Cluster(name, environment, folders)
    try:
        waiting = {key: words for owner in owners for key, words in cluster.unready(owner).items()}
    except DppError as error:
        return Piece("cluster", name, str(error), sound=False)
    words = "; ".join(f"{key}: {reason}" for key, reason in waiting.items())
    return Piece("cluster", name, words or f"{len(owners)} services ready", sound=bool(owners) and not waiting)
