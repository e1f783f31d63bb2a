"""The door that every change goes through before it is applied: all reasons that keep it out, told together.

Persons, rules and code are those of the base. A change opens no door for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from dpp.adapters.progress import Reporter
from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY
from dpp.operations.change import freezes
from dpp.operations.change.authorisation import authorised, changed_parts
from dpp.operations.change.compare import EMPTY, State
from dpp.operations.change.findings import Dossier, Plan
from dpp.operations.change.judges import Judges
from dpp.operations.change.live import Found
from dpp.operations.change.places import sites_of, telescopes, touched
from dpp.operations.change.plan import plan as dossier_of
from dpp.operations.change.records import Record
from dpp.operations.change.sides import MAIN, Sides, Workshop, code_of
from dpp.operations.change.times import Times


@dataclass(frozen=True)
class Asked:
    """What is to be applied.

    Parameters
    ----------
    record
        The change.
    environment
        Where.
    sides
        Both sides, in trees that stay.
    begun
        Stacks of which something was begun already: they are neither as the base declares them nor as the change does.
    """

    record: Record
    environment: str
    sides: Sides
    begun: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """All that is known of a change, by the base's word, before the environment is asked.

    Parameters
    ----------
    dossier
        What it would do, everywhere.
    plan
        What it would do in the environment.
    base, head
        What both sides declare there.
    judges
        Those of the base.
    """

    dossier: Dossier
    plan: Plan
    base: State
    head: State
    judges: Judges

    @property
    def sites(self) -> frozenset[str]:
        """The sites that it touches."""
        return touched(self.plan, self.base, self.head)

    @property
    def added(self) -> tuple[str, ...]:
        """Stacks that the base has no program for: one that fails there is no reason to take anything away."""
        known = {*self.base["resources"], *self.base["failed"]}
        return tuple(one.stack for one in self.plan.previews if one.stack not in known)


@dataclass(frozen=True)
class Judged:
    """What the door says.

    Parameters
    ----------
    refusals
        Why not, a sentence each; empty where it may be applied.
    plan
        What would be done.
    sites
        Those that it touches.
    declared
        Services that each side declares.
    times
        Says, at any later time, what the time refuses.
    places
        By stack, the sites that it touches.
    added
        Stacks that the base does not know.
    order
        All stacks of the change, in the order of units.
    """

    refusals: tuple[str, ...]
    plan: Plan
    sites: frozenset[str]
    declared: dict[str, frozenset[str]]
    times: Times
    places: Mapping[str, frozenset[str]]
    added: tuple[str, ...] = ()
    order: tuple[str, ...] = ()

    @property
    def stacks(self) -> tuple[str, ...]:
        """Those to which something is done, in the order in which they are applied."""
        doing = [one.stack for one in self.plan.previews if one.steps]
        return tuple(sorted(doing, key=lambda stack: self.order.index(stack) if stack in self.order else -1))


class Stands(Protocol):
    """Says what a plan comes to in an environment as it stands."""

    def plan(self, plan: Plan, base: State, head: State, tell: Callable[[str], None]) -> Found:
        """Return the plan as the real stacks have it."""


class Door:
    """Judges changes of a checkout.

    Parameters
    ----------
    workshop
        Where reviews work.
    live
        Asks the environment itself.
    now
        The clock.
    reporter
        Is told of what takes long.
    """

    def __init__(self, workshop: Workshop, live: Stands, now: Callable[[], datetime], reporter: Reporter) -> None:
        self._workshop, self._live, self._now, self._reporter = workshop, live, now, reporter

    def judge(self, asked: Asked) -> Judged:
        """Return what keeps a change out of an environment now.

        Raises
        ------
        FatalError
            If the code that judges is not the base's, or the change touches nothing there.
        """
        require_code_of(asked.sides.base.root)
        base, head = asked.sides.base, asked.sides.head
        dossier = dossier_of(self._workshop, f"{base.name}..{head.name}", self._reporter)
        known = Known(
            dossier=dossier,
            plan=_plan_of(dossier, asked.environment),
            base=self._workshop.state(base, asked.environment) or EMPTY,
            head=self._workshop.state(head, asked.environment) or EMPTY,
            judges=Judges.in_tree(base.root),
        )
        declared = {"base": frozenset(known.base["services"]), "head": frozenset(known.head["services"])}
        return Judged(
            refusals=self.refusals(asked, known),
            plan=known.plan,
            sites=known.sites,
            declared=declared,
            times=self.times(asked, known),
            places=sites_of(known.plan, known.base, known.head),
            added=known.added,
            order=tuple(known.head["stacks"] or known.base["stacks"]),
        )

    def refusals(self, asked: Asked, known: Known) -> tuple[str, ...]:
        """Return all reasons that keep a change out now, a sentence each."""
        found = [
            *self._of_the_base(asked),
            *self._of_approvals(asked, known),
            *_unclear(known),
            *self.times(asked, known).refusals(known.sites),
            *self._of_what_stands(asked, known),
        ]
        return tuple(dict.fromkeys(found))

    def _of_the_base(self, asked: Asked) -> Iterable[str]:
        git = self._workshop.git
        if not any(git.contains(name, asked.sides.base.name) for name in MAIN):
            yield f"its base {asked.sides.base.name[:12]} is not in the history of main: nobody has agreed to its persons and rules"

    def _of_approvals(self, asked: Asked, known: Known) -> Iterable[str]:
        """Yield why it is not authorised; who wrote it is known by its commits, whatever its record says."""
        record = asked.record.model_copy(update={"authors": tuple({*asked.record.authors, *known.dossier.authors})})
        verdict = authorised(record, asked.environment, known.judges.people, known.judges.rules, known.plan, known.dossier.nouns, self._now())  # fmt: skip
        if not verdict.valid:
            yield f"it is not authorised: {verdict.why}"

    def times(self, asked: Asked, known: Known) -> Times:
        """Return what says when the change may be worked on."""
        return Times(
            environment=asked.environment,
            kind=asked.record.kind,
            rules=known.judges.rules,
            window=known.plan.judgement.window if known.plan.judgement else "",
            telescopes=telescopes(known.base, known.head),
            declared=lambda: self._freezes(asked),
            now=self._now,
        )

    def _freezes(self, asked: Asked) -> list[freezes.Freeze]:
        """Return the freezes of the base, of main as it is now, and of the checkout: one may be declared after a change was."""
        git = self._workshop.git
        texts = [_text(root, freezes.FILE) for root in (asked.sides.base.root, git.root)]
        texts += [git.show(name, freezes.FILE) or "" for name in MAIN]
        return [one for text in texts for one in freezes.Freezes.parse(text, freezes.FILE).freezes]

    def _of_what_stands(self, asked: Asked, known: Known) -> Iterable[str]:
        """Yield how the environment differs from what was approved; stacks that were begun are asked no more."""
        recorded = asked.record.plans.get(asked.environment)
        previews = tuple(one for one in known.plan.previews if one.stack not in asked.begun)
        if recorded is None or not previews:
            return
        left = known.plan.model_copy(update={"previews": previews})
        with self._reporter.step(f"what stands of {asked.environment}", len(previews)) as step:
            found = self._live.plan(left, known.base, known.head, step.advance)
        for stack, said in found.different.items():
            yield f"{stack} is not what the base declares: {said}"
        if moved := changed_parts(recorded, found.plan):
            yield f"the plan as {asked.environment} has it is not the recorded one: {'; '.join(moved)}"


def require_code_of(base: Path) -> None:
    """Refuse, by a ``FatalError``, to judge a change by other code than that of its base."""
    if code_of(REPOSITORY) != code_of(base):
        raise FatalError(
            f"code in {REPOSITORY}", "not that of the change's base", "the base's own code, which alone may judge",
            "dpp change apply, which has it judge",
        )  # fmt: skip


def _plan_of(dossier: Dossier, environment: str) -> Plan:
    for plan in dossier.plans:
        if plan.environment == environment:
            return plan
    names = ", ".join(plan.environment for plan in dossier.plans)
    raise FatalError(f"environment {environment}", "not touched by the change", f"one of {names or 'none'}", "name it")


def _unclear(known: Known) -> Iterable[str]:
    """Yield why a plan cannot be applied at all: what the engine cannot preview, and what is for previews only."""
    plan, side = known.plan, known.base if known.base["resources"] else known.head
    if not side.get("apply") and any(one.steps for one in plan.previews):
        yield f"environment {plan.environment} is for previews only: dpp_provisioning of inventories/{plan.environment} says why"
    for preview in plan.previews:
        yield from (f"{preview.stack} cannot be applied: {' '.join(error.split())[:300]}" for error in preview.errors)


def _text(root: Path, path: str) -> str:
    file = root / path
    return file.read_text() if file.is_file() else ""
