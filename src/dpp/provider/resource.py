"""What every kind of resource of this provider does; blocking code, called in threads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any, ClassVar, Generic, TypeVar

from dpp.model.environment import Environment
from dpp.model.folders import Folders
from dpp.provider.kinds import Kind

Properties = dict[str, Any]
Progress = Callable[[str], None]
"""Tells the engine's display what is being done now."""
K = TypeVar("K", bound=Kind)


@dataclass(frozen=True)
class Observation:
    """What `Resource.read` found.

    Parameters
    ----------
    inputs
        The inputs that would describe the object as it is; where they differ from the recorded ones there is drift.
    outputs
        Properties that only the object itself can tell.
    """

    inputs: Properties
    outputs: Properties


class Resource(ABC, Generic[K]):
    """What is done for one kind.

    The recorded state is inputs and outputs in one map: `diff` compares recorded with wanted inputs, so what `read`
    writes there after a refresh is what the next `up` repairs.
    """

    kind: ClassVar[type[Kind]]
    """Its type, inputs and outputs."""

    def probe(self, identifier: str, state: Properties) -> dict[str, str]:
        """Return what is unhealthy (property: sentence), cheaply: `diff` asks this of every resource at every `up`."""
        del identifier, state
        return {}

    def refuse(self, state: Properties, wanted: K) -> None:
        """Raise a ``FatalError`` where a change, to be previewed or made, would lose what cannot be made again."""
        del state, wanted

    @abstractmethod
    def create(self, urn: str, wanted: K, progress: Progress) -> tuple[str, Properties]:
        """Make the object, or finish one that `urn` owns already; return its id and outputs."""

    def find(self, wanted: K) -> str:
        """Return the id that a creation with these inputs gives its object, so that `read` finds one that was cut short.

        Empty where nothing is left that a further `create` would not simply do again.
        """
        del wanted
        return ""

    @abstractmethod
    def read(self, urn: str, identifier: str, state: Properties) -> Observation | None:
        """Return what the object is now, or None where it is gone."""

    @abstractmethod
    def update(self, urn: str, identifier: str, state: Properties, wanted: K, progress: Progress) -> Properties:
        """Change the object to `wanted`; return its outputs."""

    @abstractmethod
    def delete(self, urn: str, identifier: str, state: Properties) -> None:
        """Remove the object; nothing happens where it is gone."""

    def changed(self, state: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
        """Return the inputs in which the recorded state differs from what is wanted."""
        return sorted(key for key in self.kind.model_fields if state.get(key) != wanted.get(key))

    def seen(self, state: Properties, **found: Any) -> Properties:
        """Return the recorded inputs, what was found different in their place."""
        return {key: state[key] for key in self.kind.model_fields if key in state} | found


def environment(name: str) -> Environment:
    """Return the checked model of an environment, read once per process."""
    with _LOADING:
        return _loaded(name)


def folders(environment_name: str) -> Folders:
    """Return where state, secrets and access of an environment lie."""
    return environment(environment_name).folders


_LOADING = Lock()
_loaded = lru_cache(maxsize=4)(Environment.load)
