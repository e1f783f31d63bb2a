"""Records of changes, ``changes/YYYY/NNNN-name.yml``: what was asked for, what was planned, who agreed, what became of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import AwareDatetime, Field

from dpp.model.errors import FatalError, UsageError
from dpp.model.types import Kebab, Model
from dpp.operations.change.declarations import parsed
from dpp.operations.change.findings import Dossier, Plan

FOLDER: Final = "changes"
_FILE: Final = re.compile(r"changes/(?P<year>\d{4})/(?P<number>\d{4})-(?P<name>[a-z0-9]+(?:-[a-z0-9]+)*)\.yml")
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Approval(Model):
    """That somebody agrees to a plan for one environment, in one role, for some time."""

    person: Kebab
    role: Kebab
    environment: str
    expires: AwareDatetime
    digest: Digest = Field(description="Of the plan for that environment.")
    signature: str = Field(description="As ssh-keygen -Y sign makes it, over all of the above and the change's id.")

    def statement(self, change: str) -> str:
        """Return the text that is signed."""
        return statement(change, self.environment, self.role, self.expires, self.digest)


def statement(change: str, environment: str, role: str, expires: datetime, digest: str) -> str:
    """Return the text whose signature is an approval."""
    return "".join(
        f"{key}: {value}\n"
        for key, value in (
            ("change", change),
            ("environment", environment),
            ("role", role),
            ("expires", expires.isoformat()),
            ("plan", digest),
        )
    )


class Planned(Model):
    """The plan for one environment, as it was when it was recorded."""

    digest: Digest
    parts: dict[str, Digest] = Field(
        description="Digest of each part, so that a later plan can be told from it by part."
    )
    risk: str
    approvals: dict[Kebab, int] = Field(default={}, description="How many of each role must agree.")
    window: str


Result = Literal["applied", "gone back from", "aborted"]


class Outcome(Model):
    """What became of a change in one environment: what its journal there says, and nothing else."""

    result: Result
    person: str = Field(description="Who applied it, or ended it.")
    machine: str = Field(description="From where.")
    begun: AwareDatetime
    ended: AwareDatetime
    digest: Digest | None = Field(
        default=None, description="Of the plan that was applied; none where nothing was begun."
    )
    why: str = Field(default="", description="Why it was not left applied.")


class Assessment(Model):
    """What was found afterwards: whether the change did what it was for."""

    due: AwareDatetime
    found: str | None = None
    by: str | None = None


class Record(Model):
    """One change."""

    id: Annotated[str, Field(pattern=r"^\d{4}-\d{4}$")] = Field(description="Year and number: 2026-0001.")
    name: Kebab
    kind: Literal["normal", "standard", "emergency"] = "normal"
    pattern: Kebab | None = Field(default=None, description="Of a standard change.")
    request: str = Field(min_length=3, description="Who asked for it: a ticket, a person, an incident.")
    reason: str = Field(min_length=10)
    authors: tuple[str, ...] = Field(min_length=1, description="Mail addresses of those who wrote it.")
    base: str
    head: str
    created: AwareDatetime
    recorded: AwareDatetime = Field(description="When its plans were: what is begun of one recording is of no other.")
    plans: dict[str, Planned] = Field(description="By environment.")
    approvals: tuple[Approval, ...] = ()
    covers: tuple[str, ...] = Field(default=(), description="Broken glass that an emergency accounts for, by its name.")
    outcomes: dict[str, Outcome] = Field(default={}, description="By environment.")
    result: Literal["open", "applied", "gone back from", "aborted", "closed"] = Field(
        default="open", description="Of the environment that was last worked on."
    )
    assessment: Assessment | None = None


class Records:
    """The records of a checkout.

    Parameters
    ----------
    root
        The checkout.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def all(self) -> list[Record]:
        """Return all records, the latest first.

        Raises
        ------
        FatalError
            If one is no record, or its name is not that of its id.
        """
        paths = sorted((self.root / FOLDER).glob("[0-9]*/*.yml"), reverse=True)
        return [self.read(path) for path in paths]

    def find(self, identifier: str) -> Record:
        """Return the record of an id (2026-0001) or name; ``UsageError`` where there is none."""
        for record in self.all():
            if identifier in (record.id, record.name, f"{record.id}-{record.name}"):
                return record
        raise UsageError(
            f"change {identifier}", "no record in changes/", "an id or name that dpp change list shows", "check it"
        )

    def read(self, path: Path) -> Record:
        """Return the record in a file."""
        file = str(path.relative_to(self.root))
        match = _FILE.fullmatch(file)
        if not match:
            raise FatalError(file, "a file that is no record's", "changes/YYYY/NNNN-name.yml", "rename it")
        remedy = "correct it, or write it by dpp change new"
        record = parsed(Record, path.read_text(), file, "a record of a change", remedy)
        if (record.id, record.name) != (f"{match['year']}-{match['number']}", match["name"]):
            raise FatalError(file, f"id {record.id}, name {record.name}", f"id {match['year']}-{match['number']}, name {match['name']}", "rename it")  # fmt: skip
        return record

    def path(self, record: Record) -> Path:
        """Return the file of a record."""
        year, number = record.id.split("-")
        return self.root / FOLDER / year / f"{number}-{record.name}.yml"

    def write(self, record: Record) -> Path:
        """Write a record and return its file."""
        path = self.path(record)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = yaml.dump(_plain(record), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
        draft = path.with_name(f".{path.name}")
        draft.write_text(f"---\n{text}")
        draft.rename(path)
        return path

    def next_id(self, now: datetime) -> str:
        """Return the id of the next change of a year."""
        numbers = [int(match["number"]) for match in self._named(str(now.year))]
        return f"{now.year}-{max(numbers, default=0) + 1:04d}"

    def _named(self, year: str) -> Iterator[re.Match[str]]:
        for path in (self.root / FOLDER / year).glob("*.yml"):
            if match := _FILE.fullmatch(str(path.relative_to(self.root))):
                yield match


class _Dumper(yaml.SafeDumper):
    """Indents lists as the linter wants them, and keeps signatures in lines."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        del indentless
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def _plain(record: Record) -> dict[str, Any]:
    return record.model_dump(mode="json", exclude_none=True)


def planned(dossier: Dossier) -> dict[str, Planned]:
    """Return what a record keeps of a dossier: the plans that do something."""
    return {plan.environment: _planned(plan) for plan in dossier.plans if plan.judgement and (plan.deploys or plan.judgement.approvals)}  # fmt: skip


def _planned(plan: Plan) -> Planned:
    judgement = plan.judgement
    assert judgement is not None  # noqa: S101 - the caller has looked
    return Planned(
        digest=plan.digest,
        parts=plan.parts,
        risk=judgement.risk,
        approvals=judgement.approvals,
        window=judgement.window,
    )


def open_first(records: Iterable[Record]) -> list[Record]:
    """Return records in the order in which people look at them: those that are open, then the latest."""
    return sorted(records, key=lambda one: (one.result != "open", [-int(part) for part in one.id.split("-")]))
