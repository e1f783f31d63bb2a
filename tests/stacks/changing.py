"""A repository that asks for authorised changes, persons with keys, and changes that they write, record and approve."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml

from dpp.operations.change import authorisation
from dpp.operations.change.apply import Order, Report, apply
from dpp.operations.change.hands import Hands
from dpp.operations.change.live import LivePreviewer
from dpp.operations.change.people import FILE, People
from dpp.operations.change.plan import plan
from dpp.operations.change.records import Record, Records, planned
from dpp.operations.change.sides import Sides, Workshop, lead_to_this_environment
from dpp.operations.change.who import Who
from stacks.reviewed import Reviewed

ROLES: Final = {"ana": "service-owner", "ben": "change-manager", "eva": "on-call"}
TOPICS: Final = "inventories/lab/group_vars/all/topics.yml"
NOON, NIGHT = datetime(2026, 11, 30, 15, tzinfo=UTC), datetime(2026, 11, 30, 4, tzinfo=UTC)
"""A Monday at noon on Cerro Pachon, and the night before."""
ASKS: Final = ("inventories/lab/group_vars/all/provisioning.yml", "hosts: made", "hosts: made\n  changes: authorised")


@dataclass
class Changing:
    """A repository, and where it is worked on.

    Parameters
    ----------
    top
        Folder that holds all of it.
    said
        What was told of applying.
    """

    top: Path
    said: list[str] = field(default_factory=list)

    def begin(self, *edits: tuple[str, str, str]) -> None:
        """Have main ask for authorised changes, and know persons by their keys."""
        reviewed = Reviewed.make(self.top / "repository")
        people: dict[str, Any] = yaml.safe_load((reviewed.root / FILE).read_text())
        (self.top / "keys").mkdir()
        for name, role in ROLES.items():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.top / "keys" / name], check=True)
            key = " ".join((self.top / "keys" / f"{name}.pub").read_text().split()[:2])
            people["people"][name] = {"name": name, "email": [f"{name}@example.org"], "roles": [role], "keys": [key]}
        reviewed.write(FILE, yaml.safe_dump(people))
        for edit in (ASKS, *edits):
            reviewed.edit(*edit)
        reviewed.commit("Ask for authorised changes")
        lead_to_this_environment(reviewed.root)

    @property
    def reviewed(self) -> Reviewed:
        return Reviewed((self.top / "repository").resolve())

    @property
    def workshop(self) -> Workshop:
        return Workshop(self.reviewed.root, (self.top / "workshop").resolve())

    @property
    def records(self) -> Records:
        return Records(self.reviewed.root)

    def propose(self, branch: str, *edits: tuple[str, str, str]) -> None:
        """Write a change on a branch of its own."""
        self.reviewed.git("checkout", "--quiet", "-B", branch, "main")
        for file, old, new in edits:
            if old:
                self.reviewed.edit(file, old, new)
            else:  # a new file
                self.reviewed.write(file, new)
            self.reviewed.git("add", "--", file)  # and no record, which stays where it is
        self.reviewed.git("commit", "--quiet", "--no-verify", f"--message=Change {branch}")

    def merge(self, branch: str) -> None:
        """Let main have a change."""
        self.reviewed.git("checkout", "--quiet", "main")
        self.reviewed.git("merge", "--quiet", "--ff-only", branch)

    def record(self, name: str, *by: str, **more: Any) -> Record:
        """Record the change of a branch, as `dpp change new` does, and have persons approve its plan for the lab."""
        dossier = plan(self.workshop, f"main..{name}")
        [found] = [one for one in dossier.plans if one.environment == "lab"]
        record = Record(
            id=self.records.next_id(NIGHT), name=name, request="ticket 7", reason="More visits are read at once.",
            authors=dossier.authors, base=dossier.base, head=dossier.head, created=NIGHT, recorded=NIGHT, plans=planned(dossier), **more,
        )  # fmt: skip
        people = People.parse((self.reviewed.root / FILE).read_text(), FILE)
        for person in by:
            key = self.top / "keys" / person
            record = authorisation.approve(record, "lab", person, ROLES[person], key, people, found, NIGHT)
        self.records.write(record)
        return record

    def hands(self) -> Callable[[LivePreviewer, Sides], Hands] | None:
        """Return what applies, where that is not the commands of both sides."""
        return None

    def order(self, change: str, now: datetime = NOON) -> Order:
        return Order(self.workshop, change, "lab", Who("ana", "ops01"), lambda: now, self.said.append, self.hands())

    def apply(self, change: str, now: datetime = NOON) -> Report:
        return apply(self.order(change, now))
