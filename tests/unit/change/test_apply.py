"""A change is applied or gone back from, once, wherever its process is killed: between every two entries and every two deeds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from dpp.model.errors import FatalError, UsageError
from dpp.operations.change.apply import Report
from dpp.operations.change.journal import Entry, Journal, attempt_of
from unit.change.offices import FAILING, NOW, SERVICES, STACKS, Judging, KilledError, Office, holds_together


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


# -- killed --------------------------------------------------------------------------------------------------------------


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
        holds_together(office)


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
        holds_together(office)


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
            holds_together(office)
            assert office.world.stands == dict.fromkeys(STACKS, "base")


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
