"""Broken glass: an environment was changed without an authorised change, and everybody sees it until an emergency accounts for it."""  # fmt: skip

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import AwareDatetime, Field, ValidationError

from dpp.model import permits
from dpp.model.errors import FatalError, UsageError
from dpp.model.folders import Folders
from dpp.model.permits import Permit
from dpp.model.types import Model
from dpp.operations.change.lines import append_line, whole_lines
from dpp.operations.change.records import Record
from dpp.operations.change.who import Who

_FILE: Final = "broken-glass.jsonl"
_CUT_SHORT: Final = "it was cut short"


class Broken(Model):
    """That somebody broke the glass."""

    id: str = Field(description="By which an emergency covers it.")
    environment: str
    person: str
    machine: str
    reason: str
    command: tuple[str, ...] = Field(description="What was run, word by word.")
    begun: AwareDatetime
    ended: AwareDatetime | None = None
    how: str = Field(default="", description="How it ended; empty while it lasts.")


class _End(Model):
    """The second line of a trace."""

    id: str
    ended: AwareDatetime
    how: str


@dataclass
class Account:
    """What is to be said of it at its end.

    Parameters
    ----------
    how
        How it ended.
    """

    how: str = field(default="it failed")


@contextmanager
def broken(environment: str, folders: Folders, reason: str, who: Who, command: Sequence[str], now: datetime) -> Iterator[Account]:  # fmt: skip
    """Hold the permit of an environment without a change, and leave a trace of it.

    Parameters
    ----------
    command
        What is to be run; it stands in the trace as it is.
    now
        When.

    Raises
    ------
    UsageError
        If no reason is given.
    RetriableError
        If a change is being applied.
    """
    if not reason.strip():
        raise UsageError("--reason", repr(reason), "a reason, in a few words", "say what cannot wait for a change")
    begun = now.replace(microsecond=0)
    with permits.held(Permit(environment=environment, person=who.person, reason=reason, begun=begun), folders):
        path, account = folders.state / _FILE, Account()
        name = _name(environment, begun, traces(folders))
        trace = Broken(id=name, environment=environment, person=who.person, machine=who.machine, reason=reason, command=tuple(command), begun=begun)  # fmt: skip
        append_line(path, trace.model_dump_json(exclude_defaults=True))
        try:
            yield account
        finally:
            ended = datetime.now(begun.tzinfo).replace(microsecond=0)
            append_line(path, _End(id=name, ended=ended, how=account.how).model_dump_json())


def traces(folders: Folders) -> list[Broken]:
    """Return every trace of an environment, in the order in which the glass was broken."""
    found: dict[str, Broken] = {}
    path = folders.state / _FILE
    for number, line in enumerate(whole_lines(path), 1):
        try:
            if "reason" in json.loads(line):
                trace = Broken.model_validate_json(line)
                found[trace.id] = trace
            else:
                end = _End.model_validate_json(line)
                found[end.id] = found[end.id].model_copy(update={"ended": end.ended, "how": end.how})
        except (ValidationError, ValueError, KeyError) as error:
            raise _damaged(path, number, error) from error
    return [*found.values()]


def uncovered(traces_: Iterable[Broken], records: Iterable[Record]) -> list[Broken]:
    """Return those traces that no emergency accounts for."""
    covered = {name for record in records if record.kind == "emergency" for name in record.covers}
    return [one for one in traces_ if one.id not in covered]


def ended(trace: Broken, *, lasts: bool) -> str:
    """Return how it ended, in words.

    Parameters
    ----------
    lasts
        Whether somebody holds the environment's permit now.
    """
    return trace.how or ("it lasts" if lasts else _CUT_SHORT)


def _name(environment: str, begun: datetime, earlier: Collection[Broken]) -> str:
    name = f"{environment}-{begun:%Y%m%dT%H%M%SZ}"
    same = sum(1 for one in earlier if one.begun == begun)
    return f"{name}-{same + 1}" if same else name


def _damaged(path: Path, number: int, error: Exception) -> FatalError:
    return FatalError(f"{path}, line {number}", " ".join(str(error).split())[:300], "a trace of broken glass", "restore the file from a backup")  # fmt: skip
