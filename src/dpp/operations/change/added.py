"""What a change added and its base has no program for: what taking it away would destroy, and what of it stays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dpp.provider import kinds

_CLAIMS: Final = {"PersistentVolume", "PersistentVolumeClaim", "Namespace", "CustomResourceDefinition"}
"""Kinds of objects of a cluster with which data goes, their own or that of others."""
_IMAGES: Final = {kinds.PlatformImages.token, kinds.WorkloadImages.token}


@dataclass(frozen=True)
class Added:
    """What stands of a stack that a change added.

    Parameters
    ----------
    objects
        How many objects its state knows.
    data
        What taking it away would destroy that holds data, or of which nobody knows whether it does, in words.
    stays
        What is as the change made it even when the stack is gone, in words.
    """

    objects: int
    data: tuple[str, ...]
    stays: tuple[str, ...]

    @classmethod
    def of(cls, state: Mapping[str, Any] | None) -> Added:
        """Read the state of a stack; what was being made when it was cut short counts as made."""
        if state is None:
            return cls(0, (), ())
        begun = [one["resource"] for one in state.get("pending_operations") or ()]
        rows = [*(state.get("resources") or ()), *begun]
        objects = {one["urn"]: one for one in rows if one.get("custom") and not one["type"].startswith("pulumi:")}
        made = {one["inputs"]["host"] for one in objects.values() if _is_made(one)}
        data = [words for one in objects.values() for words in _data(one["type"], _name(one), one["inputs"])]
        stays = [words for one in objects.values() for words in _stays(one["type"], one["inputs"], made)]
        return cls(len(objects), tuple(data), tuple(dict.fromkeys(stays)))


def _name(row: Mapping[str, Any]) -> str:
    return str(row["urn"]).rpartition("::")[2]


def _is_made(row: Mapping[str, Any]) -> bool:
    """Say whether a row is a machine that goes with it; one that was found is left as it is."""
    return row["type"] == kinds.Machine.token and bool(row["inputs"].get("image"))


def _data(kind: str, name: str, inputs: Mapping[str, Any]) -> Iterator[str]:
    if kind == kinds.Machine.token:
        if inputs.get("image") and inputs.get("volumes"):
            yield f"machine {name} with {', '.join(inputs['volumes'])}"
    elif kind == kinds.Manifests.token:
        yield from (f"{key} of {name}" for key, content in inputs["objects"].items() if _claims(key, content))
    elif kind not in {kinds.Link.token, kinds.DeviceConfiguration.token, kinds.Convergence.token, *_IMAGES}:
        yield f"{kind} {name}, of which nobody knows whether it holds data"


def _claims(key: str, content: object) -> bool:
    """Say whether data goes with an object of a cluster."""
    kind = key.partition(" ")[0]
    spec = content.get("spec") if isinstance(content, Mapping) else None
    return kind in _CLAIMS or (kind == "StatefulSet" and bool(not spec or spec.get("volumeClaimTemplates")))


def _stays(kind: str, inputs: Mapping[str, Any], made: set[str]) -> Iterator[str]:
    if kind == kinds.Convergence.token:
        if hosts := sorted(set(inputs["digests"]) - made):
            yield f"what was converged on {', '.join(hosts)}"
    elif kind == kinds.DeviceConfiguration.token:
        if inputs["host"] not in made:
            yield f"the configuration of router {inputs['host']}"
    elif kind in _IMAGES:
        yield f"images in the registry of {inputs['site']}"
