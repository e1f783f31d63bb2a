"""What every kind of resource of this provider does; blocking code, called in threads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from threading import Lock
from typing import Any, ClassVar

from dpp.model.environment import Environment
from dpp.model.errors import FatalError
from dpp.model.folders import Folders

Properties = dict[str, Any]
Progress = Callable[[str], None]
"""Tells the engine's display what is being done now."""


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


class Resource(ABC):
    """One kind of resource.

    The recorded state is inputs and outputs in one map: `diff` compares recorded with wanted inputs, so what `read`
    writes there after a refresh is what the next `up` repairs.

    Parameters
    ----------
    folders
        The folders of the instance that is worked on.
    """

    token: ClassVar[str]
    """Type of the resource in programs and states."""
    inputs: ClassVar[frozenset[str]]
    """Names of the inputs; any other is refused."""
    replaces: ClassVar[frozenset[str]] = frozenset()
    """Inputs whose change makes a new object."""
    outputs: ClassVar[frozenset[str]] = frozenset()
    """Names of what `create` and `update` add to the inputs."""
    update_changes: ClassVar[frozenset[str]] = frozenset()
    """Outputs that an update may change; the others are known in a preview."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders

    def check(self, wanted: Properties) -> Properties:
        """Return the inputs normalised.

        Raises
        ------
        FatalError
            If one is unknown or missing.
        """
        unknown = sorted(wanted.keys() - self.inputs)
        if unknown:
            raise FatalError(
                f"resource type {self.token}", f"input {unknown[0]!r}", f"one of {', '.join(sorted(self.inputs))}"
            )
        missing = sorted(self.inputs - wanted.keys())
        if missing:
            raise FatalError(f"resource type {self.token}", f"no input {missing[0]!r}", "all inputs given")
        return wanted

    def probe(self, identifier: str, state: Properties) -> dict[str, str]:
        """Return what is unhealthy (property: sentence), cheaply: `diff` asks this of every resource at every `up`."""
        del identifier, state
        return {}

    @abstractmethod
    def create(self, urn: str, wanted: Properties, progress: Progress) -> tuple[str, Properties]:
        """Make the object, or finish one that `urn` owns already; return its id and outputs."""

    def find(self, wanted: Properties) -> str:
        """Return the id that a creation with these inputs gives its object, so that `read` finds one that was cut short.

        Empty where nothing is left that a further `create` would not simply do again.
        """
        del wanted
        return ""

    @abstractmethod
    def read(self, urn: str, identifier: str, state: Properties) -> Observation | None:
        """Return what the object is now, or None where it is gone."""

    @abstractmethod
    def update(
        self, urn: str, identifier: str, state: Properties, wanted: Properties, progress: Progress
    ) -> Properties:
        """Change the object to `wanted`; return its outputs."""

    @abstractmethod
    def delete(self, urn: str, identifier: str, state: Properties) -> None:
        """Remove the object; nothing happens where it is gone."""

    def changed(self, state: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
        """Return the inputs in which the recorded state differs from what is wanted."""
        return sorted(key for key in self.inputs if state.get(key) != wanted.get(key))

    @cached_property
    def instance(self) -> str:
        """The instance's name."""
        return self.folders.instance


def environment(name: str) -> Environment:
    """Return the checked model of an environment, read once per process."""
    with _LOADING:
        return _loaded(name)


_LOADING = Lock()
_loaded = lru_cache(maxsize=4)(Environment.load)
