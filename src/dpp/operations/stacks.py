"""The stacks of an environment of ours: its state folder, this repository's project, the pinned engine."""

from __future__ import annotations

from dpp.adapters.pulumi.backend import Backend
from dpp.adapters.pulumi.stacks import Stacks
from dpp.build.tools import tool
from dpp.model.environment import Environment


def backend_of(environment: Environment) -> Backend:
    """Return where the stacks of an environment are, whether or not the engine has been built."""
    return Backend(environment.name, environment.folders.state, tool("pulumi").folder / "bin/pulumi")


def stacks_of(environment: Environment, *, parallel: int = 8, wait: bool = False) -> Stacks:
    """Return the stacks of an environment, to be worked on."""
    return Stacks(backend_of(environment), parallel=parallel, wait=wait)
