"""A change is applied or gone back from, once, wherever its process is killed: between every two entries and every two deeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dpp.model.errors import FatalError, UsageError
from dpp.model.folders import Folders
from dpp.model.types import Observing
from dpp.operations.change.apply import Case, Order, Report
from dpp.operations.change.door import Judged
from dpp.operations.change.findings import Affected, Plan, Preview, Step
from dpp.operations.change.freezes import Freeze
from dpp.operations.change.hands import Taken
from dpp.operations.change.journal import Attempt, Entry, Journal, Side, attempt_of
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


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Office]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
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


def test_it_is_applied_in_order_asked_between_and_looked_at_afterwards(make: Callable[..., Office]) -> None:
    office = make()
    report = office.case().apply()
    between = [f"ask head {name}" for name in SERVICES]
    assert office.world.deeds == [
        "up head lab.wan", *between, "up head lab.chilean-itc", *between, "up head lab.workloads",
        *(f"left head {stack}" for stack in STACKS), *between,
    ]  # fmt: skip
    assert (report.result, report.change, report.environment) == ("applied", "2026-0001-more", "lab")
    outcome = office.record.outcomes["lab"]
    assert (outcome.result, outcome.person, outcome.machine, outcome.digest) == ("applied", "ana", "ops01", "d" * 64)
    assert office.record.result == "applied"
    assert office.record.assessment
    assert office.record.assessment.due == outcome.ended + timedelta(days=7)


@pytest.mark.parametrize(
    ("deed", "touched", "why"),
    [
        ("up head lab.wan", STACKS[:1], "lab.wan: no route"),
        ("up head lab.chilean-itc", STACKS[:2], "lab.chilean-itc: no route"),
        ("ask head data-backbone", STACKS[:1], "after lab.wan: service data-backbone does not work: no route"),
        ("left head lab.workloads", STACKS, "lab.workloads is not as the change declares: no route"),
    ],
)
def test_what_fails_is_gone_back_from(
    make: Callable[..., Office], deed: str, touched: tuple[str, ...], why: str
) -> None:
    office = make(broken={deed: "no route"})
    report = office.case().apply()
    assert (report.result, report.why) == ("gone back from", why)
    assert office.world.stands == dict.fromkeys(STACKS, "base")
    ups = [one for one in office.world.deeds if one.startswith("up base")]
    assert ups == [f"up base {stack}" for stack in touched], "in the declared order, and only what was touched"
    assert office.world.deeds[-2:] == [f"ask base {name}" for name in SERVICES]
    outcome = office.record.outcomes["lab"]
    assert (outcome.result, outcome.why, office.record.result) == ("gone back from", why, "gone back from")


@pytest.mark.parametrize("deed", ["up base lab.wan", "left base lab.wan", "ask base event-streaming"])
def test_what_cannot_be_gone_back_from_stays_open_and_says_what_to_do(make: Callable[..., Office], deed: str) -> None:
    office = make(broken={"up head lab.wan": "no route", deed: "no hands"})
    report = office.case().apply()
    assert report.result == "stuck"
    assert "no hands" in report.why
    assert report.remedy.startswith("mend what it says by hand, then dpp change abort 2026-0001 --environment lab")
    assert office.record.outcomes == {}
    again = office.case().apply()
    assert again.result == "refused"
    assert again.refusals == (f"it could not go back: {report.why}; mend that, then dpp change abort 2026-0001",)

    office.world.broken = {}
    done = office.case().abort("mended")
    assert (done.result, office.record.result) == ("gone back from", "gone back from")
    assert office.world.stands == dict.fromkeys(STACKS, "base")


def test_a_refusal_begins_nothing(make: Callable[..., Office]) -> None:
    office = make()
    case = office.case()
    case.refusals = ("it is night", "it is Sunday")
    report = case.apply()
    assert (report.result, report.refusals, report.sites) == ("refused", ("it is night", "it is Sunday"), ("summit",))
    assert (case.journal.entries(), office.world.deeds, office.record.outcomes) == ([], [], {})


# -- its time is over ----------------------------------------------------------------------------------------------------

DARK = "it touches summit, whose telescope observes until 2026-03-03 "
FREEZE = Freeze.model_validate(
    {"name": "first-light", "from": NOW + timedelta(hours=1), "to": NOW + timedelta(days=2), "reason": "Commissioners take images.", "sites": ["summit"]}
)  # fmt: skip


@pytest.mark.parametrize(
    ("world", "said"),
    [
        ({"hours": {"lab.wan": 10}}, DARK),
        ({"hours": {"lab.wan": 2}, "window": "morning"}, "its window is morning, before noon: at 2026-03-02 17:00 UTC that is closed; it opens at 2026-03-03 11:00 UTC"),
        ({"hours": {"lab.wan": 2}, "freezes": (FREEZE,)}, "freeze first-light lasts until 2026-03-04 15:00 UTC: Commissioners take images."),
    ],
    ids=["night", "window", "freeze"],
)  # fmt: skip
def test_it_halts_before_the_next_stack_where_its_time_is_over(
    make: Callable[..., Office], world: Any, said: str
) -> None:
    office = make(**world)
    report = office.case().apply()
    assert report.result == "halted"
    assert report.refusals[0].startswith(said)
    assert (report.done, report.left) == (STACKS[:1], STACKS[1:])
    assert (
        report.why
        == "halted before lab.chilean-itc; the change is applied to lab.wan, not to lab.chilean-itc, lab.workloads"
    )
    assert report.remedy.startswith("dpp change apply 2026-0001 --environment lab continues")
    assert office.world.stands == {"lab.wan": "head", "lab.chilean-itc": "base", "lab.workloads": "base"}
    assert (office.record.outcomes, office.record.result) == ({}, "open"), "it has not ended"
    attempt = office.case().journal.attempt()
    assert attempt
    assert attempt.open
    assert attempt.halted
    assert attempt.touched == STACKS[:1], "what was not begun was not touched"

    office.world.passed = timedelta(days=3)  # Thursday noon
    deeds = len(office.world.deeds)
    assert office.case().apply().result == "applied"
    assert "up head lab.wan" not in office.world.deeds[deeds:], "what was done is not done again"
    assert office.world.stands == dict.fromkeys(STACKS, "head")
    _holds_together(office)


def test_what_was_halted_can_be_gone_back_from_at_night(make: Callable[..., Office]) -> None:
    office = make(hours={"lab.wan": 10})
    assert office.case().apply().result == "halted"
    assert office.case().abort("we do not wait").result == "aborted"
    assert office.world.stands == dict.fromkeys(STACKS, "base")
    assert [one for one in office.world.deeds if one.startswith("up base")] == ["up base lab.wan"]
    _holds_together(office)


def test_a_night_stops_only_what_touches_the_summit(make: Callable[..., Office]) -> None:
    office = make(hours={"lab.chilean-itc": 10})
    assert office.case().apply().result == "applied"


def test_halted_again_while_it_is_still_night(make: Callable[..., Office]) -> None:
    office = make(hours={"lab.wan": 10})
    office.case().apply()
    again = office.case().apply()  # the door of this test is open: the time is asked all the same
    assert (again.result, again.done) == ("halted", STACKS[:1])


# -- what the base does not know -----------------------------------------------------------------------------------------


def test_what_a_change_added_is_taken_away_once_the_base_stands_again(make: Callable[..., Office]) -> None:
    office = make(
        added=STACKS[1:],
        broken={"left head lab.workloads": "no route"},
        stays=("the configuration of router rt01.base",),
    )
    report = office.case().apply()
    assert report.result == "gone back from"
    back = [one for one in office.world.deeds if one.startswith(("up base", "take away", "left base"))]
    assert back == ["up base lab.wan", "take away lab.workloads", "take away lab.chilean-itc", "left base lab.wan"]
    assert report.why.endswith("no route; as the change made it stays the configuration of router rt01.base")
    assert office.record.outcomes["lab"].why == report.why


def test_what_holds_data_is_not_taken_away_and_lets_nobody_in(make: Callable[..., Office]) -> None:
    broken = {"left head lab.workloads": "no route", "take away lab.chilean-itc": "data would go with it"}
    office = make(added=("lab.chilean-itc",), broken=broken)
    report = office.case().apply()
    assert (report.result, report.why) == ("stuck", "lab.chilean-itc: data would go with it")
    del broken["take away lab.chilean-itc"]
    assert office.case().abort("saved").result == "gone back from"


@pytest.mark.parametrize("verb", [Judging.apply, lambda case: case.abort("we stop")], ids=["apply", "abort"])
def test_killed_over_what_was_added_it_still_ends(
    make: Callable[..., Office], verb: Callable[[Judging], Report]
) -> None:
    whole = make(added=STACKS[1:], broken=FAILING)
    whole.case().apply()
    for instant in range(1, whole.world.instants + 1):
        office = make(added=STACKS[1:], broken=FAILING, kill_at=instant)
        with pytest.raises(KilledError):
            office.case().apply()
        office.world.kill_at = 0
        try:
            verb(office.case())
        except UsageError:  # it had ended
            office.case().apply()
        assert office.world.stands == dict.fromkeys(STACKS, "base"), instant
        _holds_together(office)


# -- killed --------------------------------------------------------------------------------------------------------------

FAILING = {"ask head data-backbone": "no route"}


def finish(office: Office, verb: Callable[[Judging], Report]) -> Report:
    """Have the next process go on, undisturbed."""
    office.world.kill_at = 0
    return verb(office.case())


@pytest.mark.parametrize(("broken", "result"), [({}, "applied"), (FAILING, "gone back from")], ids=["forth", "back"])
def test_killed_at_any_instant_it_is_continued_once(make: Callable[..., Office], broken: dict[str, str], result: str) -> None:  # fmt: skip
    whole = make(broken=broken)
    assert whole.case().apply().result == result
    assert whole.world.instants > 20
    for instant in range(1, whole.world.instants + 1):
        office = make(broken=broken, kill_at=instant)
        with pytest.raises(KilledError):
            office.case().apply()
        report = finish(office, Judging.apply)
        assert report.result == result, instant
        assert office.world.stands == dict.fromkeys(STACKS, "head" if result == "applied" else "base")
        _holds_together(office)


@pytest.mark.parametrize("broken", [{}, FAILING], ids=["forth", "back"])
def test_killed_at_any_instant_it_can_be_gone_back_from(make: Callable[..., Office], broken: dict[str, str]) -> None:
    whole = make(broken=broken)
    whole.case().apply()
    for instant in range(1, whole.world.instants + 1):
        office = make(broken=broken, kill_at=instant)
        with pytest.raises(KilledError):
            office.case().apply()
        ended = next((entry.result for entry in office.case().journal.entries() if entry.event == "ended"), None)
        if ended:
            with pytest.raises(UsageError, match=f"{ended} already"):
                finish(office, lambda case: case.abort("we stop"))
            finish(office, Judging.apply)  # which writes its record
        else:
            report = finish(office, lambda case: case.abort("we stop"))
            assert report.result in {"aborted", "gone back from"}, instant
            assert office.world.stands == dict.fromkeys(STACKS, "base")
        _holds_together(office)


def test_killed_at_any_two_instants_it_still_ends(make: Callable[..., Office]) -> None:
    whole = make(broken=FAILING)
    whole.case().apply()
    total = whole.world.instants
    for first in range(1, total + 1, 5):
        for second in range(first + 1, total + 12, 9):
            office = make(broken=FAILING, kill_at=first)
            with pytest.raises(KilledError):
                office.case().apply()
            office.world.kill_at = second
            try:
                office.case().apply()
            except KilledError:
                finish(office, Judging.apply)
            _holds_together(office)
            assert office.world.stands == dict.fromkeys(STACKS, "base")


def _holds_together(office: Office) -> None:
    """Check that the record is what the journal says of a change that has ended."""
    attempt = office.case().journal.attempt()
    if attempt is None:  # withdrawn before anything was begun
        assert office.record.result == "aborted"
        return
    assert not attempt.open
    assert office.record.outcomes == {"lab": attempt.outcome}
    assert sum(1 for entry in office.case().journal.entries() if entry.event == "ended") == 1


def test_only_what_was_not_begun_is_judged_by_what_stands(make: Callable[..., Office]) -> None:
    office = make(kill_at=9)
    with pytest.raises(KilledError):
        office.case().apply()
    office.world.kill_at = 0
    case = office.case()
    case.refusals = ("it is night",)
    assert case.apply().refusals == ("it is night",), "what is left is judged as it was when it began"
    assert case.asked
    assert case.asked.touched == ("lab.wan", "lab.chilean-itc")[: len(case.asked.touched)]


def test_a_record_is_written_again_from_its_journal(make: Callable[..., Office]) -> None:
    office = make()
    office.case().apply()
    kept = office.record
    office.rewrite(outcomes={}, result="open", assessment=None)
    deeds = list(office.world.deeds)
    assert office.case().apply().result == "applied"
    assert (office.record, office.world.deeds) == (kept, deeds)


# -- order ---------------------------------------------------------------------------------------------------------------


def test_what_has_ended_is_not_begun_again_unless_it_is_recorded_anew(make: Callable[..., Office]) -> None:
    office = make()
    office.case().apply()
    report = office.case().apply()
    assert report.refusals[0].startswith(
        "it was applied on 2026-03-02 15:00 UTC: what is to be done again is recorded anew"
    )
    office.rewrite(recorded=NOW + timedelta(days=1), outcomes={}, result="open")
    assert office.case().apply().result == "applied"
    assert len([entry for entry in office.case().journal.entries() if entry.event == "begun"]) == 2


def test_one_change_at_a_time(make: Callable[..., Office]) -> None:
    office = make(kill_at=9)
    with pytest.raises(KilledError):
        office.case().apply()
    half = Journal(office.folders, "2026-0001")
    half.path.rename(half.path.with_name("2026-0009.jsonl"))
    office.world.kill_at = 0
    assert office.case().apply().refusals == (
        "change 2026-0009 is half applied to lab: dpp change apply 2026-0009 continues it, dpp change abort 2026-0009 goes back",
    )


def test_another_plan_of_what_is_half_applied_waits(make: Callable[..., Office]) -> None:
    office = make(kill_at=9)
    with pytest.raises(KilledError):
        office.case().apply()
    office.world.kill_at = 0
    office.rewrite(recorded=NOW + timedelta(days=1))
    assert "another plan of it is half applied to lab: dpp change abort 2026-0001" in office.case().apply().refusals[0]
    assert office.case().abort("the other is better").result == "aborted"
    assert office.record.outcomes == {}, "that end is not of the plan that is recorded now"
    assert office.case().apply().result == "applied"


def test_what_was_not_begun_is_withdrawn(make: Callable[..., Office]) -> None:
    office = make()
    report = office.case().abort("nobody wants it")
    assert (report.result, report.why, office.record.result) == ("aborted", "nobody wants it", "aborted")
    assert office.record.assessment is None
    assert office.world.deeds == []
    assert office.case().apply().refusals == ("it is aborted: dpp change new more --again records it anew",)
    with pytest.raises(UsageError, match="aborted already"):
        office.case().abort("once more")


# -- journals ------------------------------------------------------------------------------------------------------------


def test_a_damaged_journal_is_no_journal(make: Callable[..., Office]) -> None:
    office = make()
    office.case().apply()
    journal = office.case().journal
    journal.path.write_bytes(journal.path.read_bytes().replace(b'"stack done"', b'"stack gone"', 1))
    with pytest.raises(FatalError, match=r"2026-0001\.jsonl, line 3"):
        journal.attempt()


def test_a_line_that_was_cut_short_is_none_and_does_not_spoil_the_next(make: Callable[..., Office]) -> None:
    office = make()
    journal = Journal(office.folders, "2026-0001")
    begun = Entry(at=NOW, event="begun", person="ana", machine="ops01", stacks=STACKS)
    journal.write(begun)
    with journal.path.open("ab") as file:
        file.write(b'{"at": "2026')
    assert journal.entries() == [begun]
    journal.write(begun.model_copy(update={"event": "continued", "stacks": ()}))
    assert [one.event for one in journal.entries()] == ["begun", "continued"]
    assert attempt_of([]) is None
