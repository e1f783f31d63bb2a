"""What everybody sees of changes: those that are recorded, and, before all, what is half applied and where the glass was broken."""  # fmt: skip

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import Field

from dpp.model.errors import UsageError
from dpp.model.folders import Folders
from dpp.model.permits import refusal
from dpp.model.types import Model
from dpp.operations.change.authorisation import owed
from dpp.operations.change.glass import Broken, ended, traces, uncovered
from dpp.operations.change.journal import Attempt, journals
from dpp.operations.change.judges import Judges
from dpp.operations.change.places import folders_of
from dpp.operations.change.records import Assessment, Record, Records, open_first
from dpp.operations.change.rules import Rules
from dpp.operations.change.who import Who

BROKEN_GLASS: Final = "BROKEN GLASS"
HALF_APPLIED: Final = "HALF APPLIED"


class Listed(Model):
    """One line of the list."""

    change: str = Field(description="Id and name; of broken glass, the name by which an emergency covers it.")
    kind: str
    result: str
    risk: str = ""
    approvals: tuple[str, ...] = ()
    owed: tuple[str, ...] = ()
    alarm: bool = Field(default=False, description="Somebody has to see to it now.")


def listed(root: Path, now: datetime) -> list[Listed]:
    """Return what there is to see of the changes of a checkout, what cannot wait first."""
    records = Records(root).all()
    rules = Judges.in_tree(root).rules
    places = folders_of(root)
    glass = [_of_glass(one, places[one.environment]) for one in _uncovered(places, records)]
    half: dict[str, str] = {}
    for name, folders in places.items():
        for change, text in _half(name, folders, records):
            half[change] = f"{half[change]}; {text}" if change in half else text
    rows = [_of_record(one, rules, now, half.pop(one.id, "")) for one in open_first(records)]
    strangers = [Listed(change=name, kind="recorded elsewhere", result=text, alarm=True) for name, text in half.items()]
    return [*glass, *strangers, *sorted(rows, key=lambda row: not row.alarm)]


def close(records: Records, record: Record, found: str, who: Who, now: datetime) -> Record:
    """Return a record with the assessment of a change that was applied, or of an emergency.

    Raises
    ------
    UsageError
        If there is nothing to assess yet.
    """
    if record.result == "open" and record.kind != "emergency":
        raise UsageError(f"change {record.id}", "not applied yet", "one that was", f"dpp change apply {record.id}, or dpp change abort {record.id}")  # fmt: skip
    for name, folders in folders_of(records.root).items():
        for change, _ in _half(name, folders, [record]):
            if change == record.id:
                raise UsageError(f"change {record.id}", f"half applied to {name}", "one that has ended", f"dpp change apply {record.id}, or dpp change abort {record.id}")  # fmt: skip
    due = record.assessment.due if record.assessment else now
    assessment = Assessment(due=due, found=found, by=who.person)
    return record.model_copy(update={"assessment": assessment, "result": "closed"})


def _uncovered(places: dict[str, Folders], records: list[Record]) -> list[Broken]:
    return uncovered([trace for folders in places.values() for trace in traces(folders)], records)


def _of_glass(trace: Broken, folders: Folders) -> Listed:
    command = shlex.join(trace.command)
    how = ended(trace, lasts=_is_changed(trace.environment, folders))
    return Listed(
        change=trace.id,
        kind=BROKEN_GLASS,
        result=f"{trace.environment} was changed without a change by {trace.person} at {trace.machine} on {trace.begun:%Y-%m-%d %H:%M} UTC ({command}): {trace.reason}; {how}",
        owed=(f"an emergency that accounts for it: dpp change new NAME --kind emergency --covers {trace.id}",),
        alarm=True,
    )  # fmt: skip


def _half(environment: str, folders: Folders, records: list[Record]) -> Iterator[tuple[str, str]]:
    """Yield id and words of each change of which something is half way in an environment."""
    recorded = {record.id: record for record in records}
    for journal in journals(folders):
        attempt = journal.attempt()
        if attempt and attempt.open:
            yield journal.change, _half_way(environment, folders, journal.change, attempt)
        elif attempt and attempt.outcome and (record := recorded.get(journal.change)):
            mine = record.recorded == attempt.begun.recorded
            if mine and environment not in record.outcomes:
                yield journal.change, f"{attempt.outcome.result} in {environment}, and its record does not say so: dpp change apply {journal.change} writes it"  # fmt: skip


def _half_way(environment: str, folders: Folders, change: str, attempt: Attempt) -> str:
    begun = f"{HALF_APPLIED} to {environment} by {attempt.begun.person} since {attempt.begun.at:%Y-%m-%d %H:%M} UTC"
    if attempt.phase == "stuck":
        return f"{begun}, and it cannot go back: {attempt.why}; mend that, then dpp change abort {change}"
    if _is_changed(environment, folders):
        return f"{begun}: it is being worked on now"
    if halted := attempt.halted:
        begun = f"{begun}, halted at {halted.at:%Y-%m-%d %H:%M} UTC before {halted.stack}: {halted.why}; done: {', '.join(attempt.done) or 'nothing'}; not done: {', '.join(attempt.left)}"  # fmt: skip
    return f"{begun}: dpp change apply {change} continues it, dpp change abort {change} goes back"


def _is_changed(environment: str, folders: Folders) -> bool:
    """Say whether somebody holds the environment's permit now."""
    return not refusal(environment, folders).startswith("asks for an authorised change")


def _of_record(record: Record, rules: Rules, now: datetime, half: str) -> Listed:
    outcomes = [
        f"{name}: {one.result} on {one.ended:%Y-%m-%d} by {one.person}" for name, one in record.outcomes.items()
    ]
    result = half or "; ".join([*outcomes, *([record.result] if record.result == "closed" or not outcomes else [])])
    return Listed(
        change=f"{record.id}-{record.name}",
        kind=record.kind,
        result=result,
        risk=", ".join(f"{name}: {planned.risk}" for name, planned in record.plans.items()) or "none",
        approvals=tuple(f"{each.person} as {each.role} for {each.environment}" for each in record.approvals),
        owed=tuple(owed(record, rules, now)),
        alarm=bool(half),
    )
