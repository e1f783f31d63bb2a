"""Previews by the engine: what stands is made of the base's programs in throw-away stacks, by a provider that pretends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from dpp.adapters.pulumi.backend import Backend
from dpp.adapters.pulumi.events import CHANGING, Event, Result
from dpp.adapters.pulumi.stacks import Stacks
from dpp.build.tools import tool
from dpp.model.errors import DppError
from dpp.operations.change.compare import State, paths_of, resources
from dpp.operations.change.findings import Preview, Step
from dpp.operations.change.sides import PROGRAMS, Side, Workshop, programs_digest, prune

_MARK: Final = ".throw-away"
_AT_ONCE: Final = 2
"""Stacks that are worked on side by side: each takes a core."""
_KEPT: Final = 6
_VERBS: Final = ("delete", "replace", "create", "update")
"""In the order in which reviewers are told."""


@dataclass(frozen=True)
class _ThrowAway(Backend):
    """Stacks that nobody misses, whose programs are those of one tree."""

    side_variables: Mapping[str, str] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        """Return what the engine needs, and what keeps its plugins in the tree and away from everything else."""
        pretend = {"DPP_THROW_AWAY": str(self.state), "DPP_PYTHON": sys.executable}
        return dict(self.side_variables) | super().variables() | pretend


class Previewer:
    """Asks the engine what a change does to stacks of one environment.

    Parameters
    ----------
    workshop
        Where it works.
    base, head
        The sides.
    environment
        Name of the environment.
    """

    def __init__(self, workshop: Workshop, base: Side, head: Side, environment: str) -> None:
        self._workshop, self._base, self._head, self._environment = workshop, base, head, environment
        stacks = workshop.folder / "stacks"
        self._folder = stacks / f"{base.name[:12]}-{environment}-{programs_digest()}"
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / _MARK).touch()
        os.utime(self._folder)  # those that were used last are kept
        prune(stacks, "*", _KEPT)
        self._projects: dict[str, Path] = {}

    def all(
        self, stacks: Sequence[str], states: tuple[State, State], tell: Callable[[str], None]
    ) -> tuple[Preview, ...]:
        """Return the previews of stacks, in their order."""
        for side in (self._base, self._head):
            self._projects[side.name] = self._project(side)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return tuple(pool.map(lambda stack: self._one(stack, states, tell), stacks))

    def _one(self, stack: str, states: tuple[State, State], tell: Callable[[str], None]) -> Preview:
        base, head = states
        source = f"the engine, compared with stacks as {self._base.name[:12]} declares them"
        if stack in head["failed"]:
            return Preview(stack=stack, errors=(head["failed"][stack],), source=source)
        if stack not in head["resources"]:
            gone = f"declared no more; its {len(base['resources'][stack])} resources stay until it is destroyed: dpp stack destroy {stack}"  # fmt: skip
            return Preview(stack=stack, errors=(gone,), source=source)
        try:
            done = self._applied(stack) if stack in base["resources"] else None
            if done and not done.ok:
                return Preview(stack=stack, errors=tuple(f"base: {error}" for error in done.errors), source=source)
            result = self._stacks(self._head).preview(stack)
        except DppError as error:
            return Preview(stack=stack, errors=(str(error),), source=source)
        tell(stack)
        return Preview(
            stack=stack, steps=steps_of(result, stack, base, head), errors=tuple(result.errors), source=source
        )

    def _applied(self, stack: str) -> Result | None:
        """Have the base's stack in the throw-away folder, unless an earlier review made it."""
        mark = self._folder / f"{stack}.applied"
        if mark.exists():
            return None
        done = self._stacks(self._base).up(stack)
        if done.ok:
            mark.touch()
        return done

    def _stacks(self, side: Side) -> Stacks:
        variables = self._workshop.variables(side)
        command = tool("pulumi").folder / "bin/pulumi"
        return Stacks(
            _ThrowAway(self._environment, self._folder, command, self._projects[side.name], variables), parallel=16
        )

    def _project(self, side: Side) -> Path:
        """Return a folder that holds a side's programs as its Pulumi.yaml says, but with the provider that pretends."""
        declared = yaml.safe_load((side.root / "Pulumi.yaml").read_text())
        declared["plugins"] = {
            "providers": [{"name": one["name"], "path": str(PROGRAMS / "pretend")} for one in declared["plugins"]["providers"]],
            "languages": [{"name": "python", "path": str(Path(sys.executable).parent)}],
        }  # fmt: skip
        folder = self._folder / "projects" / side.name.replace(" ", "-")[:12]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "Pulumi.yaml").write_text(yaml.safe_dump(declared))
        programs = folder / declared["main"].strip("./")
        draft = programs.with_name(f".{programs.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        draft.symlink_to(side.root / programs.name)
        draft.rename(programs)
        return folder


def steps_of(result: Result, stack: str, base: State, head: State) -> tuple[Step, ...]:
    """Return what a preview does to resources that a side declares."""
    before, after = resources(base, stack), resources(head, stack)
    verbs: dict[tuple[str, str], str] = {}
    for event in result.steps:
        key = resource_of(event)
        if event.verb == "update" and before.get(key) == after.get(key):
            continue  # what it waits for is unknown to a preview; once it is known nothing differs
        if event.verb in CHANGING and key in before.keys() | after.keys() and verbs.get(key) != "replace":
            verbs[key] = event.verb
    return in_order(
        Step(verb=verb, kind=key[0], name=key[1], changes=changes(before.get(key), after.get(key)))
        for key, verb in verbs.items()
    )


def resource_of(event: Event) -> tuple[str, str]:
    """Return type and name of the resource that a step is about."""
    return event.urn.split("::")[2].rpartition("$")[2], event.urn.rpartition("::")[2]


def in_order(steps: Any) -> tuple[Step, ...]:
    """Return steps with what is deleted and replaced first."""
    rank = {verb: number for number, verb in enumerate(_VERBS)}
    return tuple(sorted(steps, key=lambda one: (rank.get(one.verb, len(rank)), one.kind, one.name)))


def changes(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return which inputs of a resource that stays differ, two steps deep."""
    if not old or not new:
        return ()
    found = []
    for key in sorted(old.keys() | new.keys()):
        one, other = old.get(key), new.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += [
                f"{key}: {inner}" for inner in sorted(one.keys() | other.keys()) if one.get(inner) != other.get(inner)
            ]
        elif one != other:
            found.append(key)
    return tuple(found)


def normalised(base: State, head: State, preview: Preview) -> list[Any]:
    """Return a stack's steps with old and new values, without all that differs from run to run: what a digest is made of."""
    before, after = resources(base, preview.stack), resources(head, preview.stack)
    rows = [
        [step.verb, step.kind, step.name, list(paths_of(before.get((step.kind, step.name)), after.get((step.kind, step.name))))]
        for step in preview.steps
    ]  # fmt: skip
    return [*rows, *preview.errors]
