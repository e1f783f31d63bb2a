"""Where a change is applied without an engine: stacks and services that outlive whoever works on them, a clock, and someone who kills."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dpp.model.folders import Folders
from dpp.model.types import Observing
from dpp.operations.change.apply import Case, Order
from dpp.operations.change.door import Judged
from dpp.operations.change.findings import Affected, Plan, Preview, Step
from dpp.operations.change.freezes import Freeze
from dpp.operations.change.hands import Taken
from dpp.operations.change.journal import Attempt, Entry, Journal, Side
from dpp.operations.change.records import Planned, Record, Records
from dpp.operations.change.sides import Side as Tree
from dpp.operations.change.sides import Sides, Workshop
from dpp.operations.change.times import Times
from dpp.operations.change.who import Who

NOW = datetime(2026, 3, 2, 15, tzinfo=UTC)
"""Noon on Cerro Pachon."""
STACKS = ("lab.wan", "lab.chilean-itc", "lab.workloads")
SERVICES = ("event-streaming", "data-backbone")
ANA = Who("ana", "ops01")
FAILING = {"ask head data-backbone": "no route"}
PLACES = {
    "lab.wan": frozenset({"base"}),
    "lab.chilean-itc": frozenset({"summit"}),
    "lab.workloads": frozenset({"ncsa"}),
}
TELESCOPE = Observing(latitude_degrees=-30.24, longitude_degrees=-70.75, height_metres=2663, sun_below_degrees=-12)
RULES = """---
risks: [none]
windows:
  any-time: {text: at any time}
  morning: {text: before noon, hours: {from: "08:00", to: "13:00"}, time_zone: America/Santiago}
away: {}
kinds: {}
emergency_roles: []
due_days: {assessment: 7, retrospective: 7}
rules: []
"""


class KilledError(BaseException):
    """A process was killed."""


@dataclass
class World:
    """Stacks and services that outlive whoever works on them, and someone who kills at a given instant."""

    stands: dict[str, Side] = field(default_factory=lambda: dict.fromkeys(STACKS, "base"))
    deeds: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    """By deed, why it fails."""
    hours: dict[str, int] = field(default_factory=dict)
    """By stack, how long applying the change to it takes."""
    passed: timedelta = timedelta(0)
    window: str = "any-time"
    freezes: tuple[Freeze, ...] = ()
    added: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()
    journal: Journal | None = None
    kill_at: int = 0
    instants: int = 0

    def instant(self) -> None:
        """Pass an instant at which a process may be killed."""
        self.instants += 1
        if self.instants == self.kill_at:
            raise KilledError

    def up(self, side: Side, stack: str) -> str:
        assert self.journal
        attempt = self.journal.attempt()
        assert attempt, "nothing is done before it is journalled"
        assert stack not in (attempt.applied if side == "head" else attempt.returned), "done twice"
        assert stack in attempt.touched, "begun before it is journalled"
        self.instant()
        if reason := self.broken.get(f"up {side} {stack}"):
            return reason
        assert side == "head" or stack not in self.added, "the base has no program for it"
        self.stands[stack] = side
        self.deeds.append(f"up {side} {stack}")
        self.passed += timedelta(hours=self.hours.get(stack, 0)) if side == "head" else timedelta(0)
        self.instant()
        return ""

    def take_away(self, stack: str) -> Taken:
        assert stack in self.added, "the base declares it"
        self.instant()
        if reason := self.broken.get(f"take away {stack}"):
            return Taken(reason)
        self.stands[stack] = "base"
        self.deeds.append(f"take away {stack}")
        self.instant()
        return Taken(stays=self.stays)

    def left(self, side: Side, stack: str) -> str:
        self.deeds.append(f"left {side} {stack}")
        return self.broken.get(f"left {side} {stack}") or ("" if self.stands[stack] == side else "update it")

    def ask(self, side: Side, service: str) -> str:
        self.deeds.append(f"ask {side} {service}")
        return self.broken.get(f"ask {side} {service}", "")


class KillableJournal(Journal):
    """A journal whose writer may be killed before, in the midst of, and after each entry."""

    world: World

    def write(self, entry: Entry) -> None:
        self.world.instant()
        try:
            self.world.instant()
        except KilledError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(entry.model_dump_json().encode()[:40])
            raise
        super().write(entry)
        self.world.instant()


class Judging(Case):
    """A case whose door is open, or says why not."""

    refusals: tuple[str, ...] = ()
    asked: Attempt | None = None
    world: World

    def judge(self, attempt: Attempt | None) -> Judged:
        self.asked = attempt
        steps = (Step(verb="update", kind="dpp:hosts:Convergence", name="a"),)
        previews = tuple(Preview(stack=stack, steps=steps, source="the engine") for stack in STACKS)
        services = tuple(
            Affected(name=name, title=name, tier="critical", owner="somebody", direct=True, because="its topics")
            for name in (*SERVICES, "change-management")
        )
        plan = Plan(environment="lab", applied=True, previews=previews, services=services, digest="d" * 64)
        world = self.world
        times = Times(
            "lab", "normal", self._rules(), world.window, {"summit": TELESCOPE}, lambda: world.freezes, self.order.now
        )
        declared = dict.fromkeys(("base", "head"), frozenset(SERVICES))
        return Judged(self.refusals, plan, frozenset({"summit"}), declared, times, PLACES, world.added)


@dataclass
class Office:
    """Where a record lies, and what is done of it."""

    root: Path
    folders: Folders
    world: World
    clock: Callable[[], datetime]

    def case(self) -> Judging:
        """Return a process that has just begun to look at the change."""
        order = Order(
            Workshop(self.root, self.root / "workshop"),
            "more",
            "lab",
            ANA,
            self.clock,
            lambda _: None,
            lambda *_: self.world,
        )
        sides = Sides(Tree("b" * 40, self.root), Tree("h" * 40, self.root), (), ())
        case = Judging(order, Records(self.root).find("more"), "lab", sides, self.folders)
        journal = KillableJournal(self.folders, case.record.id)
        journal.world = case.world = self.world
        self.world.journal = case.journal = journal
        return case

    @property
    def record(self) -> Record:
        return Records(self.root).find("more")

    def rewrite(self, **changes: Any) -> None:
        Records(self.root).write(self.record.model_copy(update=changes))


def maker(tmp_path: Path) -> Callable[..., Office]:
    """Return what makes offices in a folder, each with a record of its own."""
    made: list[Office] = []

    def office(**world: Any) -> Office:
        root, ticks = tmp_path / f"office{len(made)}", iter(range(10**6))
        (root / "changes").mkdir(parents=True)
        (root / "changes/rules.yml").write_text(RULES)
        (root / "changes/people.yml").write_text("{}\n")
        plans = {"lab": Planned(digest="d" * 64, parts={}, risk="low", window="any-time")}
        Records(root).write(
            Record(id="2026-0001", name="more", request="ticket 7", reason="More visits are read.", authors=("a@b.org",),
                   base="b" * 40, head="h" * 40, created=NOW, recorded=NOW, plans=plans)
        )  # fmt: skip
        there = World(**world)
        clock = lambda: NOW + there.passed + timedelta(seconds=next(ticks))  # noqa: E731
        made.append(Office(root, Folders("lab", f"dome{len(made)}"), there, clock))
        return made[-1]

    return office


def holds_together(office: Office) -> None:
    """Check that the record is what the journal says of a change that has ended."""
    attempt = office.case().journal.attempt()
    if attempt is None:  # withdrawn before anything was begun
        assert office.record.result == "aborted"
        return
    assert not attempt.open
    assert office.record.outcomes == {"lab": attempt.outcome}
    assert sum(1 for entry in office.case().journal.entries() if entry.event == "ended") == 1
