"""A freeze stops what it is declared for, for as long as it is declared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY
from dpp.operations.change.freezes import FILE, Freeze, Freezes, refusals

BEGIN, END = datetime(2027, 1, 10, 12, tzinfo=UTC), datetime(2027, 1, 20, 12, tzinfo=UTC)
REASON = "Commissioners take the first images of the sky."
SUMMIT = frozenset({"summit"})


def freeze(**more: Any) -> Freeze:
    return Freeze.model_validate({"name": "first-light", "from": BEGIN, "to": END, "reason": REASON, **more})


def test_those_of_this_tree_are_sound() -> None:
    Freezes.parse((REPOSITORY / FILE).read_text(), FILE)
    assert Freezes.parse("", FILE).freezes == ()


def test_it_is_told_with_its_reason() -> None:
    said = refusals([freeze(), freeze()], "lab", SUMMIT, "normal", BEGIN)
    assert said == [f"freeze first-light lasts until 2027-01-20 12:00 UTC: {REASON}"]


@pytest.mark.parametrize(
    ("time", "stops"),
    [(BEGIN - timedelta(seconds=1), False), (BEGIN, True), (END - timedelta(seconds=1), True), (END, False)],
)
def test_it_lasts_as_declared(time: datetime, stops: bool) -> None:
    assert bool(refusals([freeze()], "lab", SUMMIT, "normal", time)) is stops


@pytest.mark.parametrize(
    ("more", "environment", "sites", "stops"),
    [
        ({}, "lab", frozenset(), True),
        ({"environments": ["production"]}, "lab", SUMMIT, False),
        ({"environments": ["prod*"]}, "production", SUMMIT, True),
        ({"sites": ["summit", "base"]}, "lab", SUMMIT, True),
        ({"sites": ["base"]}, "lab", SUMMIT, False),
        ({"sites": ["base"]}, "lab", frozenset(), False),
        ({"environments": ["lab"], "sites": ["summit"]}, "production", SUMMIT, False),
    ],
)
def test_it_is_of_environments_and_sites(more: dict[str, Any], environment: str, sites: frozenset[str], stops: bool) -> None:  # fmt: skip
    assert bool(refusals([freeze(**more)], environment, sites, "normal", BEGIN)) is stops


@pytest.mark.parametrize(
    ("emergencies", "kind", "stops"),
    [("pass", "emergency", False), ("wait", "emergency", True), ("pass", "normal", True), ("pass", "standard", True)],
)
def test_emergencies_pass_as_declared(emergencies: str, kind: str, stops: bool) -> None:
    assert bool(refusals([freeze(emergencies=emergencies)], "lab", SUMMIT, kind, BEGIN)) is stops


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("freezes: [{name: a, from: 2027-01-10, to: 2027-01-20T00:00:00Z, reason: because of it}]", "freezes.0.from"),
        ("freezes: [{name: a, from: 2027-01-10T00:00:00Z, to: 2027-01-09T00:00:00Z, reason: because of it}]", "ends before it begins"),
        ("freezes: [{name: a, from: 2027-01-10T00:00:00Z, to: 2027-01-20T00:00:00Z}]", "reason"),
        ("freezes: [{name: a, from: 2027-01-10T00:00:00Z, to: 2027-01-20T00:00:00Z, reason: because of it, who: me}]", "who"),
        ("freezes: [", "freezes as docs"),
    ],
)  # fmt: skip
def test_what_is_no_freeze_is_refused(text: str, why: str) -> None:
    with pytest.raises(FatalError, match=why):
        Freezes.parse(text, FILE)
