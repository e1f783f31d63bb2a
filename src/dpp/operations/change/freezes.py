"""Freezes: times in which nothing is changed, ``changes/freezes.yml``."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field, model_validator

from dpp.model.types import Kebab, Model
from dpp.operations.change.declarations import parsed

FILE: Final = "changes/freezes.yml"
Name = Annotated[str, Field(pattern=r"^[a-z*][a-z0-9*]*$")]


class Freeze(Model):
    """A time in which nothing is changed, somewhere or anywhere."""

    name: Kebab
    begin: AwareDatetime = Field(alias="from", description="With its offset from UTC.")
    end: AwareDatetime = Field(alias="to")
    environments: tuple[Name, ...] = Field(default=(), description="Names, with * for any; all where none is named.")
    sites: tuple[Name, ...] = Field(default=(), description="Those whose touching is refused; all where none is named.")
    emergencies: Literal["pass", "wait"] = "pass"
    reason: str = Field(min_length=10, description="As whoever is refused reads it.")

    @model_validator(mode="after")
    def _ordered(self) -> Freeze:
        if self.begin >= self.end:
            raise ValueError(f"from {self.begin} to {self.end}: it ends before it begins")
        return self

    def stops(self, environment: str, sites: Collection[str], kind: str, now: datetime) -> bool:
        """Say whether a change of a kind that touches these sites of an environment has to wait."""
        return (
            self.begin <= now < self.end
            and (not self.environments or any(fnmatch.fnmatch(environment, one) for one in self.environments))
            and (not self.sites or any(fnmatch.fnmatch(site, one) for site in sites for one in self.sites))
            and (kind != "emergency" or self.emergencies == "wait")
        )


class Freezes(Model):
    """All freezes that somebody declared."""

    freezes: tuple[Freeze, ...] = ()

    @classmethod
    def parse(cls, text: str, origin: str) -> Freezes:
        """Read freezes; none where there is no text.

        Raises
        ------
        FatalError
            If it is no such declaration.
        """
        return parsed(cls, text, origin, "freezes as docs/operators/changes.md says")


def refusals(freezes: Iterable[Freeze], environment: str, sites: Collection[str], kind: str, now: datetime) -> list[str]:  # fmt: skip
    """Return which freezes refuse a change now, a sentence each; one that is declared in several places says so once."""
    found = [one for one in freezes if one.stops(environment, sites, kind, now)]
    return list(
        dict.fromkeys(f"freeze {one.name} lasts until {one.end:%Y-%m-%d %H:%M} UTC: {one.reason}" for one in found)
    )
