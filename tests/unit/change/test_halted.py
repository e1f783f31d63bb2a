"""A change halts between stacks when its time is over; what its base does not know is taken away when it goes back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from dpp.model.errors import UsageError
from dpp.operations.change.apply import Report
from dpp.operations.change.freezes import Freeze
from unit.change.offices import FAILING, NOW, STACKS, Judging, KilledError, Office, holds_together

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
    holds_together(office)


def test_what_was_halted_can_be_gone_back_from_at_night(make: Callable[..., Office]) -> None:
    office = make(hours={"lab.wan": 10})
    assert office.case().apply().result == "halted"
    assert office.case().abort("we do not wait").result == "aborted"
    assert office.world.stands == dict.fromkeys(STACKS, "base")
    assert [one for one in office.world.deeds if one.startswith("up base")] == ["up base lab.wan"]
    holds_together(office)


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
        holds_together(office)
