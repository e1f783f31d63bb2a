"""Windows and twilights at given times; the sun is held against a formula of another book."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from dpp.model.environment import Environment
from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY
from dpp.model.types import Observing
from dpp.operations.change.rules import Rules
from dpp.operations.change.sun import altitudes
from dpp.operations.change.windows import Hours, Window, observing

RULES = Rules.parse((REPOSITORY / "changes/rules.yml").read_text(), "changes/rules.yml")
WORKING, DAYTIME = RULES.windows["working-day"], RULES.windows["daytime"]
NIGHTS = ("2026-03-20", "2026-06-21", "2026-09-22", "2026-11-30", "2026-12-21", "2031-02-14")
NOBODY: dict[str, Observing] = {}


@pytest.fixture(scope="module")
def pachon() -> Observing:
    found = Environment.load().sites["summit"].observing
    assert found
    return found


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def by_the_book(where: Observing, time: datetime) -> float:
    """Return the altitude of the sun by Meeus, Astronomical Algorithms, chapters 12, 13 and 25 (low accuracy, 0.01 degrees)."""
    days = (time - datetime(2000, 1, 1, 12, tzinfo=UTC)) / timedelta(days=1)
    t = (days + 69.0 / 86400) / 36525
    mean = 280.46646 + 36000.76983 * t + 0.0003032 * t * t
    m = math.radians(357.52911 + 35999.05029 * t - 0.0001537 * t * t)
    centre = (
        (1.914602 - 0.004817 * t) * math.sin(m)
        + (0.019993 - 0.000101 * t) * math.sin(2 * m)
        + 0.000289 * math.sin(3 * m)
    )
    node = math.radians(125.04 - 1934.136 * t)
    apparent = math.radians(mean + centre - 0.00569 - 0.00478 * math.sin(node))
    tilt = math.radians(23.4392911 - 0.0130042 * t + 0.00256 * math.cos(node))
    ascension = math.atan2(math.cos(tilt) * math.sin(apparent), math.cos(apparent))
    declination = math.asin(math.sin(tilt) * math.sin(apparent))
    sidereal = math.radians(280.46061837 + 360.98564736629 * days + where.longitude_degrees)
    latitude, hour = math.radians(where.latitude_degrees), sidereal - ascension
    height = math.sin(latitude) * math.sin(declination) + math.cos(latitude) * math.cos(declination) * math.cos(hour)
    return math.degrees(math.asin(height))


def crossing(
    where: Observing, begin: datetime, end: datetime, altitude: Callable[[Observing, datetime], float]
) -> datetime:
    """Return when the sun is as low as the site declares, between two times of which it is so at one only."""
    falls = altitude(where, begin) > altitude(where, end)
    while end - begin > timedelta(seconds=0.5):
        middle = begin + (end - begin) / 2
        begin, end = (middle, end) if (altitude(where, middle) > where.sun_below_degrees) is falls else (begin, middle)
    return begin


@pytest.mark.parametrize("day", NIGHTS)
def test_the_twilights_of_cerro_pachon_are_those_of_another_book(pachon: Observing, day: str) -> None:
    noon = at(f"{day}T16:43:00")  # by the sun, within a quarter of an hour
    midnight = noon + timedelta(hours=12)
    for begin, end in ((noon, midnight), (midnight, midnight + timedelta(hours=12))):
        twilight = crossing(pachon, begin, end, by_the_book)
        seconds = timedelta(seconds=10)
        before, after = altitudes(pachon, [twilight - seconds, twilight + seconds])
        assert (before - pachon.sun_below_degrees) * (after - pachon.sun_below_degrees) < 0, (day, twilight)
        night, other = (before, after) if begin == midnight else (after, before)
        assert night < pachon.sun_below_degrees < other


def test_the_night_ends_when_the_door_says(pachon: Observing) -> None:
    midnight = at("2026-11-30T04:45:00")
    said = observing("summit", pachon, midnight)
    morning = crossing(pachon, midnight, midnight + timedelta(hours=12), by_the_book)
    told = at(said.partition("observes until ")[2].partition(" UTC")[0])
    assert said.startswith("it touches summit, whose telescope observes until 2026-11-30 ")
    assert timedelta(0) <= told - morning < timedelta(minutes=5) + timedelta(seconds=10)
    assert said.endswith("the sun is lower than -12 degrees")
    assert observing("summit", pachon, told) == ""


def test_nobody_is_asked_how_the_earth_turns(pachon: Observing, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *words, **_: asked.append(words))
    monkeypatch.setattr(socket.socket, "connect", lambda *words: asked.append(words))
    for year in (2020, 2026, 2045, 2070):
        noon, midnight = datetime(year, 6, 1, 16, 43, tzinfo=UTC), datetime(year, 6, 1, 4, 43, tzinfo=UTC)
        assert altitudes(pachon, [noon])[0] > 30
        assert altitudes(pachon, [midnight])[0] < -60
    assert asked == []


def test_any_time_is_any_time(pachon: Observing) -> None:
    assert RULES.windows["any-time"].refusal("any-time", at("2026-11-29T04:00:00"), {"summit": pachon}) == ""


@pytest.mark.parametrize(
    ("time", "opens"),
    [
        ("2026-11-30T11:00:00", ""),  # Monday, eight o'clock in summer
        ("2026-11-30T10:59:00", "2026-11-30 11:04"),
        ("2026-11-30T19:59:00", ""),
        ("2026-11-30T20:00:00", "2026-12-01 11:00"),
        ("2026-11-28T15:00:00", "2026-11-30 11:00"),  # Saturday
        ("2026-06-22T11:30:00", "2026-06-22 12:00"),  # Monday, half past seven in winter
        ("2026-06-22T12:00:00", ""),
    ],
)
def test_a_working_day_is_one_of_the_people_there(time: str, opens: str) -> None:
    said = WORKING.refusal("working-day", at(time), NOBODY)
    assert bool(said) is bool(opens)
    if opens:
        assert said.startswith(
            "its window is working-day, on a working day, with the owners of the services touched at hand: at "
        )
        assert said.endswith(f"that is closed; it opens at {opens} UTC")


def test_daytime_is_between_the_twilights(pachon: Observing) -> None:
    midnight = at("2026-11-30T04:45:00")
    said = DAYTIME.refusal("daytime", midnight, {"summit": pachon})
    assert "its window is daytime, between morning and evening twilight at the summit" in said
    assert "it opens at 2026-11-30 08:" in said
    assert DAYTIME.refusal("daytime", at("2026-11-30T16:00:00"), {"summit": pachon}) == ""
    assert DAYTIME.refusal("daytime", midnight, NOBODY) == "", "an environment without a telescope has no night"


def test_a_window_that_does_not_open_says_so(pachon: Observing) -> None:
    pole = pachon.model_copy(update={"latitude_degrees": 90.0})
    said = DAYTIME.refusal("daytime", at("2026-12-21T12:00:00"), {"pole": pole})
    assert said.endswith("it does not open within 8 days")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"days": ("monday",)}, "time zone ''"),
        ({"days": ("monday",), "time_zone": "America/Pachon"}, "America/Pachon"),
        ({"days": ("mon",), "time_zone": "UTC"}, "days"),
        ({"hours": {"from": 480, "to": "17:00"}, "time_zone": "UTC"}, "hours.from"),
        ({"hours": {"from": "17:00", "to": "08:00"}, "time_zone": "UTC"}, "end before they begin"),
        ({"hours": {"from": "8:00", "to": "17:00"}, "time_zone": "UTC"}, "hours.from"),
    ],
)
def test_a_window_that_is_none_is_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Window.model_validate({"text": "now and then", **given})


def test_the_rules_must_say_what_a_program_checks() -> None:
    text = (REPOSITORY / "changes/rules.yml").read_text()
    with pytest.raises(FatalError, match=r"windows\.any-time"):
        Rules.parse(text.replace("any-time: {text: at any time}", "any-time: at any time"), "changes/rules.yml")


def test_hours_are_half_open() -> None:
    window = Window(text="at work", hours=Hours.model_validate({"from": "08:00", "to": "17:00"}), time_zone="UTC")
    assert window.refusal("w", at("2026-11-30T08:00:00"), NOBODY) == ""
    assert window.refusal("w", at("2026-11-30T17:00:00"), NOBODY)
