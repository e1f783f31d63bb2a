"""Persons of change management, their roles and their keys: ``changes/people.yml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dpp.model.errors import FatalError
from dpp.model.types import Kebab, Model
from dpp.operations.change.declarations import parsed

FILE = "changes/people.yml"


class Person(Model):
    """Somebody who may authorise something."""

    name: str
    email: tuple[str, ...] = Field(min_length=1, description="As the commits that they write name them.")
    roles: tuple[Kebab, ...] = ()
    keys: tuple[Annotated[str, Field(pattern=r"^(ssh-ed25519|sk-ssh-ed25519@openssh\.com|ecdsa-sha2-nistp256) [A-Za-z0-9+/=]+")], ...] = ()  # fmt: skip


class People(Model):
    """All persons, and what their roles mean."""

    roles: dict[Kebab, str] = Field(default={}, description="What each answers for.")
    people: dict[Kebab, Person] = Field(default={}, description="By the name that they approve under.")

    @classmethod
    def parse(cls, text: str, origin: str) -> People:
        """Read persons; nobody where there is no text.

        Raises
        ------
        FatalError
            If it is no such declaration, or somebody has a role that is none.
        """
        found = parsed(cls, text, origin, "roles and people")
        for name, person in found.people.items():
            if unknown := set(person.roles) - set(found.roles):
                raise FatalError(f"{origin}: {name}", f"role {', '.join(sorted(unknown))}", f"one of {', '.join(found.roles)}", "correct it")  # fmt: skip
        return found

    def rights(self) -> set[tuple[str, str, str]]:
        """Return who holds which role, and which keys speak for whom."""
        roles = {
            (name, "hold", f"role {role} of change management")
            for name, one in self.people.items()
            for role in one.roles
        }
        keys = {(name, "sign by", f"role holder's key {key}") for name, one in self.people.items() for key in one.keys}
        return roles | keys

    def by_email(self, email: str) -> str | None:
        """Return the person who writes commits under an address."""
        return next((name for name, one in self.people.items() if email in one.email), None)
