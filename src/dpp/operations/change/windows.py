"""Windows: when a plan of some danger may be applied, as ``changes/rules.yml`` declares it and as a program checks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from dpp.model.types import Model, Observing
from dpp.operations.change.sun import altitudes

Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
DAYS: Final[tuple[Day, ...]] = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
Clock = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
Telescopes = Mapping[str, Observing]
"""By site, where its telescope stands and when it observes."""
_STEP: Final = timedelta(minutes=5)
_NIGHT: Final = timedelta(days=1)
_AHEAD: Final = timedelta(days=8)
"""How far ahead is looked for the next opening: over any weekend, and over a polar night not at all."""


class Hours(Model):
    """From which time of the day to which."""

    begin: Clock = Field(alias="from")
    end: Clock = Field(alias="to")


class Window(Model):
    """When something may be applied: where nothing is named, at any time."""

    text: str = Field(min_length=5, description="What it means, as reviewers read it.")
    days: tuple[Day, ...] = ()
    hours: Hours | None = None
    time_zone: str = Field(default="", description="IANA zone of days and hours.")
    daylight: bool = Field(default=False, description="No telescope of the environment observes, as its site declares.")

    @model_validator(mode="after")
    def _placed(self) -> Window:
        if (self.days or self.hours) and not _is_zone(self.time_zone):
            raise ValueError(f"days and hours in time zone {self.time_zone!r}, which is none")
        if self.hours and self.hours.begin >= self.hours.end:
            raise ValueError(f"hours from {self.hours.begin} to {self.hours.end}: they end before they begin")
        return self

    def refusal(self, name: str, now: datetime, telescopes: Telescopes) -> str:
        """Return why nothing may be applied now, and when it may again; empty where it may."""
        if self._open([now], telescopes)[0]:
            return ""
        ahead = [now + number * _STEP for number in range(1, int(_AHEAD / _STEP))]
        opens = next((at for at, open_ in zip(ahead, self._open(ahead, telescopes), strict=True) if open_), None)
        again = f"it opens at {opens:%Y-%m-%d %H:%M} UTC" if opens else f"it does not open within {_AHEAD.days} days"
        return f"its window is {name}, {self.text}: at {now:%Y-%m-%d %H:%M} UTC that is closed; {again}"

    def _open(self, times: Sequence[datetime], telescopes: Telescopes) -> list[bool]:
        found = [self._at_work(one) for one in times]
        for where in telescopes.values() if self.daylight and any(found) else ():
            heights = altitudes(where, times)
            found = [one and height >= where.sun_below_degrees for one, height in zip(found, heights, strict=True)]
        return found

    def _at_work(self, at: datetime) -> bool:
        if not self.time_zone:
            return True
        there = at.astimezone(ZoneInfo(self.time_zone))
        if self.days and DAYS[there.weekday()] not in self.days:
            return False
        return self.hours is None or _clock(self.hours.begin) <= there.time() < _clock(self.hours.end)


def _is_zone(name: str) -> bool:
    try:
        return bool(ZoneInfo(name))
    except (LookupError, ValueError, OSError):  # the empty name is a folder
        return False


def _clock(text: str) -> time:
    return time.fromisoformat(text)


def observing(site: str, where: Observing, now: datetime) -> str:
    """Return that a site's telescope observes now, and until when; empty where it does not."""
    if altitudes(where, [now])[0] >= where.sun_below_degrees:
        return ""
    ahead = [now + number * _STEP for number in range(1, int(_NIGHT / _STEP))]
    over = next((at for at, height in zip(ahead, altitudes(where, ahead), strict=True) if height >= where.sun_below_degrees), None)  # fmt: skip
    until = f"until {over:%Y-%m-%d %H:%M} UTC" if over else "for days"
    return f"it touches {site}, whose telescope observes {until}: the sun is lower than {where.sun_below_degrees:g} degrees"
