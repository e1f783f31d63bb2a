"""The plan as the environment itself would have it: its real stacks, asked by the engine, with what somebody changed by hand.

What only an environment can tell (identities of machines, digests of images and of secrets) stands in its states and in no
declaration, so its values are not compared with declared ones. The engine compares: it previews the base's programs on the
real stacks, after it has read every object again. Where that does nothing, what stands is what the base declares, and the
change's programs do to it what the dossier says. Each difference from the base is a row of the plan, and changes its digest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from dpp.adapters.pulumi.backend import Backend
from dpp.adapters.pulumi.events import CHANGING, Event, Result
from dpp.adapters.pulumi.stacks import Stacks
from dpp.build.tools import tool
from dpp.model.errors import DppError
from dpp.model.folders import Folders
from dpp.operations.change.compare import State
from dpp.operations.change.findings import Plan, Preview
from dpp.operations.change.plan import digest_of
from dpp.operations.change.previews import normalised, resource_of, steps_of
from dpp.operations.change.sides import Side, own_variables

_AT_ONCE: Final = 2
_CONVERGENCE: Final = "dpp:hosts:Convergence"
_DIGESTS: Final = "digests."
_DRIFTED: Final = "drifted: "
_SHOWN: Final = 4
"""How many differences of a stack are named to people."""
Unsound = Literal["", "never applied", "cut short"]
UNSOUND: Final[Mapping[Unsound, str]] = {
    "never applied": "it was never applied",
    "cut short": "an operation on it was cut short",
}
"""Why a stack is not compared, in words."""


@dataclass(frozen=True)
class _Real(Backend):
    """The stacks of an environment, whose programs and provider are those of one tree."""

    side_variables: Mapping[str, str] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        """Return what the engine needs, and what has the tree's own code work."""
        return super().variables() | dict(self.side_variables)


@dataclass(frozen=True)
class Found:
    """What an environment says of a plan.

    Parameters
    ----------
    plan
        The plan with the digests of what was found.
    different
        By stack, what stands otherwise than the base declares it, in words.
    """

    plan: Plan
    different: Mapping[str, str]


class LivePreviewer:
    """Asks the engine what a change does to the real stacks of an environment.

    Parameters
    ----------
    environment
        Its name.
    folders
        Its folders.
    base, head
        The sides, in trees of their own.
    """

    def __init__(self, environment: str, folders: Folders, base: Side, head: Side) -> None:
        self._environment, self._folders = environment, folders
        self._base, self._head = base, head

    def stacks(self, side: Side) -> Stacks:
        """Return the real stacks, whose programs are those of a side."""
        command = tool("pulumi").folder / "bin/pulumi"
        return Stacks(_Real(self._environment, self._folders.state, command, side.root, own_variables(side)))

    def left(self, side: Side, stack: str) -> str:
        """Return what the programs of a side would still do to a stack, in words; empty where it is as they ask."""
        try:
            result = self.stacks(side).preview(stack)
        except DppError as error:
            return str(error)
        return _said(differing(result), result.errors)

    def plan(self, plan: Plan, base: State, head: State, tell: Callable[[str], None]) -> Found:
        """Return a plan as the real stacks have it.

        Parameters
        ----------
        plan
            As the base's declarations have it; stacks that it does not touch are not asked.
        base, head
            What both sides declare.
        """

        def ask(preview: Preview) -> tuple[str, list[Any], str]:
            rows, said = self._rows(preview, base, head)
            tell(preview.stack)
            return preview.stack, rows, said

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(ask, plan.previews))
        return Found(
            _with_parts(plan, {stack: rows for stack, rows, _ in found}),
            {stack: said for stack, _, said in found if said},
        )

    def _rows(self, preview: Preview, base: State, head: State) -> tuple[list[Any], str]:
        """Return a stack's part of the plan, and how it differs from what the base declares."""
        if preview.errors:  # there is nothing to be asked about
            return normalised(base, head, preview), ""
        try:
            rows, said = self._from_base(preview.stack, base)
            result = self.stacks(self._head).preview(preview.stack)
        except DppError as error:
            return [["cannot be asked", str(error)]], str(error)
        live = preview.model_copy(
            update={"steps": steps_of(result, preview.stack, base, head), "errors": tuple(result.errors)}
        )
        return [*normalised(base, head, live), *rows], said or _said([], result.errors)

    def _from_base(self, stack: str, base: State) -> tuple[list[Any], str]:
        """Return what the base's programs would do to a stack: nothing, unless somebody else was there."""
        if stack not in base["resources"]:
            return [], ""
        stacks = self.stacks(self._base)
        if why := unsound(stacks.backend.checkpoint(stack)):
            return [[why]], UNSOUND[why]
        result = stacks.preview(stack, refresh=True)
        found = differing(result)
        rows = [["differs", one.verb, *resource_of(one), sorted(one.diff.items())] for one in found]
        return [*rows, *result.errors], _said(found, result.errors)


def unsound(state: Mapping[str, Any] | None) -> Unsound:
    """Return why the state of a stack cannot be compared with anything; empty where it can."""
    if state is None:
        return "never applied"
    return "cut short" if state.get("pending_operations") else ""


def differing(result: Result) -> list[Event]:
    """Return the steps of a preview that change a resource of the stack's own program."""
    return [one for one in result.steps if one.verb in CHANGING and one.urn.count("::") == 3]


def tasks_by_host(event: Event) -> dict[str, str]:
    """Return the hosts on which a convergence found something else, each with the tasks that would change it."""
    if resource_of(event)[0] != _CONVERGENCE:
        return {}
    return {
        path.removeprefix(_DIGESTS): str(found["old"]).removeprefix(_DRIFTED)
        for path, found in event.diff.items()
        if path.startswith(_DIGESTS) and str(found.get("old", "")).startswith(_DRIFTED)
    }


def places_of(event: Event) -> tuple[str, ...]:
    """Return where a resource differs: values may be secrets, names of hosts and tasks are none."""
    tasks = tasks_by_host(event)
    others = (path for path in event.diff if path.removeprefix(_DIGESTS) not in tasks)
    return (*(f"{host}: {said}" for host, said in tasks.items()), *others)


def _said(events: list[Event], errors: list[str]) -> str:
    words = [_in_words(one) for one in events]
    more = [f"and {len(words) - _SHOWN} more"] if len(words) > _SHOWN else []
    return ", ".join([*words[:_SHOWN], *more, *(" ".join(error.split())[:300] for error in errors)])


def _in_words(event: Event) -> str:
    kind, name = resource_of(event)
    paths = ", ".join(places_of(event)[:_SHOWN])
    return f"{event.verb} {kind.rpartition(':')[2]} {name}{f' ({paths})' if paths else ''}"


def _with_parts(plan: Plan, rows: Mapping[str, list[Any]]) -> Plan:
    """Return a plan whose stacks' parts are those that were found; the others stay as they are declared."""
    stacks = {one.stack for one in plan.previews}
    kept = {name: digest for name, digest in plan.parts.items() if name not in stacks}
    digests = kept | {stack: digest_of(part) for stack, part in rows.items() if part}
    ordered = dict(sorted(digests.items()))
    return plan.model_copy(update={"parts": ordered, "digest": digest_of({plan.environment: ordered})})
