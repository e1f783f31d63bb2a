"""What was begun and done of a change in an environment: appended and on the disk before anything else happens.

The journal decides where a killed application goes on, and the record in ``changes/`` can be written from it at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import AwareDatetime, Field, ValidationError

from dpp.model.errors import FatalError
from dpp.model.folders import Folders
from dpp.model.types import Model
from dpp.operations.change.lines import append_line, whole_lines
from dpp.operations.change.records import Outcome, Result

Side = Literal["head", "base"]
Phase = Literal["applying", "going back", "stuck", "ended"]
_FOLDER: Final = "changes"


class Entry(Model):
    """One line of a journal."""

    at: AwareDatetime
    event: Literal["begun", "continued", "stack begun", "stack done", "halted", "going back", "stuck", "ended"]
    person: str
    machine: str
    side: Side | None = Field(default=None, description="Whose programs were applied to the stack.")
    stack: str = ""
    why: str = ""
    result: Result | None = Field(default=None, description="How it ended, or what it is to end as.")
    base: str = ""
    head: str = ""
    recorded: AwareDatetime | None = Field(default=None, description="Of the record, when it was begun.")
    digest: str = Field(default="", description="Of the plan, when it was begun.")
    stacks: tuple[str, ...] = Field(default=(), description="All that the change touches, in order.")
    added: tuple[str, ...] = Field(default=(), description="Those that the base does not know.")
    services: dict[Side, tuple[str, ...]] = Field(default={}, description="Those that are asked after each stack.")


@dataclass(frozen=True)
class Attempt:
    """How far a change has come: what its journal says since it was last begun.

    Parameters
    ----------
    begun
        The entry with which it began.
    phase
        What is being done; `stuck` where it could not go back, and a person has to mend something first.
    applied, returned
        Stacks to which the change's programs, and then the base's again, were applied.
    touched
        Stacks of which anything was begun.
    why
        Why it goes back, or cannot.
    halted
        The entry that says why nothing more was begun, where nobody has gone on since.
    ends_as
        What it goes back for.
    outcome
        How it ended.
    """

    begun: Entry
    phase: Phase
    applied: frozenset[str]
    returned: frozenset[str]
    touched: tuple[str, ...]
    why: str
    halted: Entry | None
    ends_as: Result
    outcome: Outcome | None

    @property
    def open(self) -> bool:
        """Whether something is left half way."""
        return self.phase != "ended"

    @property
    def done(self) -> tuple[str, ...]:
        """Stacks to which the change was applied as a whole, in order."""
        return tuple(stack for stack in self.begun.stacks if stack in self.applied)

    @property
    def left(self) -> tuple[str, ...]:
        """Stacks to which the change was not applied, or not as a whole, in order."""
        return tuple(stack for stack in self.begun.stacks if stack not in self.applied)


class Journal:
    """The journal of one change in one environment.

    Parameters
    ----------
    folders
        Those of the environment.
    change
        Its id.
    """

    def __init__(self, folders: Folders, change: str) -> None:
        self.change = change
        self.path = folders.state / _FOLDER / f"{change}.jsonl"

    def entries(self) -> list[Entry]:
        """Return all entries; the line that its writer was killed over is none.

        Raises
        ------
        FatalError
            If a line that was written whole is no entry.
        """
        return [self._entry(line, number) for number, line in enumerate(whole_lines(self.path), 1)]

    def write(self, entry: Entry) -> None:
        """Append an entry; it is on the disk when this returns."""
        append_line(self.path, entry.model_dump_json(exclude_defaults=True))

    def attempt(self) -> Attempt | None:
        """Return how far the change has come; ``None`` where it was never begun."""
        return attempt_of(self.entries())

    def _entry(self, line: bytes, number: int) -> Entry:
        try:
            return Entry.model_validate_json(line)
        except ValidationError as error:
            raise FatalError(f"{self.path}, line {number}", " ".join(str(error).split())[:300], "an entry of a journal", "restore the file from a backup; what it says of the stacks, dpp stack preview can tell as well") from error  # fmt: skip


def journals(folders: Folders) -> list[Journal]:
    """Return all journals of an environment, by id of the change."""
    return [Journal(folders, path.stem) for path in sorted((folders.state / _FOLDER).glob("*.jsonl"))]


def attempt_of(entries: Sequence[Entry]) -> Attempt | None:
    """Return what entries say of the last attempt; ``None`` where there was none."""
    begins = [number for number, entry in enumerate(entries) if entry.event == "begun"]
    if not begins:
        return None
    mine = entries[begins[-1] :]
    returns = [number for number, entry in enumerate(mine) if entry.event == "going back"]
    last = mine[returns[-1]] if returns else None
    since = mine[returns[-1] :] if returns else ()
    end = next((entry for entry in mine if entry.event == "ended"), None)
    stuck = next((entry for entry in since if entry.event == "stuck"), None)
    return Attempt(
        begun=mine[0],
        phase="ended" if end else "stuck" if stuck else "going back" if last else "applying",
        applied=_done(mine, "head"),
        returned=_done(since, "base"),
        touched=tuple(dict.fromkeys(entry.stack for entry in mine if entry.event == "stack begun")),
        why=stuck.why if stuck else last.why if last else "",
        halted=mine[-1] if mine[-1].event == "halted" else None,
        ends_as=(last.result if last else None) or "applied",
        outcome=_outcome(mine[0], last, end, _stays(since)),
    )


def _done(entries: Iterable[Entry], side: Side) -> frozenset[str]:
    return frozenset(entry.stack for entry in entries if entry.event == "stack done" and entry.side == side)


def _stays(since: Iterable[Entry]) -> str:
    """Return what is still as the change made it, though it was gone back from."""
    return ", ".join(dict.fromkeys(entry.why for entry in since if entry.event == "stack done" and entry.why))


def _outcome(begun: Entry, back: Entry | None, end: Entry | None, stays: str) -> Outcome | None:
    if end is None or end.result is None:
        return None
    return Outcome(
        result=end.result,
        person=end.person,
        machine=end.machine,
        begun=begun.at,
        ended=end.at,
        digest=begun.digest,
        why=f"{back.why if back else ''}{f'; as the change made it stays {stays}' if stays else ''}",
    )
