"""Objects of a cluster as mappings: what names one, who owns it, in which order they are applied, how two differ."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from dpp.model.errors import FatalError

Manifest = dict[str, Any]

OWNER = "dpp.lsst.org/owner"
"""Annotation that holds the URN of the resource that owns an object."""

_ORDER = (
    "Namespace",
    "CustomResourceDefinition",
    "PriorityClass",
    "ResourceQuota",
    "LimitRange",
    "NetworkPolicy",
    "ServiceAccount",
    "ConfigMap",
    "Secret",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Service",
)
"""Kinds that others need, in the order in which they are applied; all other kinds come after."""

_SERVER_FIELDS = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink")


@dataclass(frozen=True, order=True)
class Key:
    """What names one object of a cluster."""

    api: str
    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, manifest: Manifest) -> Key:
        """Return the key of a manifest."""
        metadata = manifest["metadata"]
        return cls(manifest["apiVersion"], manifest["kind"], metadata.get("namespace", ""), metadata["name"])

    @property
    def rank(self) -> tuple[int, Key]:
        """What keys are sorted by, so that each object comes after those that it needs."""
        return (_ORDER.index(self.kind) if self.kind in _ORDER else len(_ORDER), self)

    def __str__(self) -> str:
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {place}{self.name}"


@dataclass(frozen=True)
class Difference:
    """How one object differs from what it should be.

    Parameters
    ----------
    key
        The object.
    action
        ``create``, ``update`` or ``delete``: what an apply would do.
    fields
        Dotted path of each differing field, with what is there and what should be.
    """

    key: Key
    action: str
    fields: dict[str, tuple[Any, Any]] = field(default_factory=dict)


def owned(manifest: Manifest, owner: str) -> Manifest:
    """Return a copy of the object that carries the mark of its owner."""
    marked = copy.deepcopy(manifest)
    marked["metadata"].setdefault("annotations", {})[OWNER] = owner
    return marked


def owner_of(live: Manifest) -> str:
    """Return the owner that a live object carries, or nothing."""
    return str((live["metadata"].get("annotations") or {}).get(OWNER, ""))


def check_owner(key: Key, live: Manifest | None, owner: str) -> None:
    """Refuse an object that carries another owner's mark.

    Raises
    ------
    FatalError
        If it does.
    """
    if live is not None and (found := owner_of(live)) not in {"", owner}:
        raise FatalError(f"{key}", f"it belongs to {found}", owner, "name it in one place only")


def plain(live: Manifest) -> Manifest:
    """Return an object without what the server keeps for itself."""
    kept = {key: value for key, value in live.items() if key != "status"}
    kept["metadata"] = {key: value for key, value in live["metadata"].items() if key not in _SERVER_FIELDS}
    return kept


def differences(before: Any, after: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Return the dotted path of each field that differs, with both values; None stands for a missing one."""
    if isinstance(before, dict) and isinstance(after, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in sorted(before.keys() | after.keys()):
            found |= differences(before.get(key), after.get(key), f"{path}.{key}".lstrip("."))
        return found
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        found = {}
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            found |= differences(one, other, f"{path}[{index}]")
        return found
    return {} if before == after else {path: (before, after)}
