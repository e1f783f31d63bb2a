"""What everybody sees first: broken glass until an emergency accounts for it, and what is half applied."""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console

from dpp import cli
from dpp.cli import output
from dpp.cli.schemas import path_of
from dpp.model import permits
from dpp.model.environment import Environment
from dpp.model.errors import FatalError, RetriableError, UsageError
from dpp.model.folders import REPOSITORY, Folders
from dpp.operations.change import listing
from dpp.operations.change.glass import broken, traces, uncovered
from dpp.operations.change.journal import Entry, Journal
from dpp.operations.change.listing import Listed, close, listed
from dpp.operations.change.places import folders_of
from dpp.operations.change.records import Assessment, Outcome, Planned, Record, Records
from dpp.operations.change.who import Who

NOW = datetime(2026, 3, 2, 15, tzinfo=UTC)
ANA = Who("ana", "ops01")
OUTCOME = Outcome(result="applied", person="ana", machine="ops01", begun=NOW, ended=NOW, digest="d" * 64)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("DPP_LAB", "dome")
    monkeypatch.delenv(permits.TOKEN, raising=False)
    return folders_of(REPOSITORY)["lab"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: Folders) -> Path:
    """Return a checkout with no environment but the lab, of which nothing stands."""
    monkeypatch.setattr(listing, "folders_of", lambda _: {"lab": folders})
    (tmp_path / "changes").mkdir()
    for name in ("rules.yml", "people.yml"):
        (tmp_path / "changes" / name).write_text((REPOSITORY / "changes" / name).read_text())
    return tmp_path


def record(number: int = 1, **more: Any) -> Record:
    plans = {"lab": Planned(digest="d" * 64, parts={}, risk="low", window="any-time")}
    given: dict[str, Any] = {
        "id": f"2026-{number:04d}", "name": f"more-{number}", "request": "ticket 7", "reason": "More visits are read.",
        "authors": ("a@b.org",), "base": "b" * 40, "head": "h" * 40, "created": NOW, "recorded": NOW, "plans": plans,
    }  # fmt: skip
    return Record(**given | more)


def half(folders: Folders, change: str, *more: dict[str, Any]) -> None:
    journal = Journal(folders, change)
    for one in ({"event": "begun", "stacks": ("lab.wan",), "recorded": NOW, "digest": "d" * 64}, *more):
        journal.write(Entry.model_validate({"at": NOW, "person": "ana", "machine": "ops01"} | one))


def break_glass(folders: Folders, reason: str = "The summit is cut off.", at: datetime = NOW) -> str:
    with broken("lab", folders, reason, ANA, ["dpp", "up", "lab"], at) as account:
        account.how = "3 changes"
    return traces(folders)[-1].id


def test_broken_glass_holds_the_permit_and_leaves_a_trace(folders: Folders) -> None:
    with broken("lab", folders, "The summit is cut off.", ANA, ["dpp", "up", "lab"], NOW) as account:
        assert permits.refusal("lab", folders) == ""
        [trace] = traces(folders)
        assert (trace.id, trace.person, trace.machine, trace.ended) == ("lab-20260302T150000Z", "ana", "ops01", None)
        with pytest.raises(RetriableError, match="what ana broke the glass for is being applied"):
            break_glass(folders)
        account.how = "3 changes"
    [trace] = traces(folders)
    assert (trace.how, trace.command, trace.reason) == ("3 changes", ("dpp", "up", "lab"), "The summit is cut off.")
    assert permits.refusal("lab", folders).startswith("asks for an authorised change")


def test_an_end_that_nobody_told_is_a_failure(folders: Folders) -> None:
    with pytest.raises(KeyError), broken("lab", folders, "The summit is cut off.", ANA, ["dpp", "up", "lab"], NOW):
        raise KeyError("site")
    assert traces(folders)[0].how == "it failed"


def test_it_wants_a_reason_and_leaves_no_trace_without(folders: Folders) -> None:
    with pytest.raises(UsageError, match="--reason"), broken("lab", folders, " ", ANA, [], NOW):
        pass
    assert traces(folders) == []


def test_two_in_one_second_are_two(folders: Folders) -> None:
    assert [break_glass(folders), break_glass(folders)] == ["lab-20260302T150000Z", "lab-20260302T150000Z-2"]


def test_a_damaged_trace_is_not_passed_over(folders: Folders) -> None:
    break_glass(folders)
    path = folders.state / "broken-glass.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"command"', b'"commadn"'))
    with pytest.raises(FatalError, match=r"broken-glass\.jsonl, line 1"):
        traces(folders)


def test_only_an_emergency_covers_it(folders: Folders) -> None:
    name = break_glass(folders)
    assert [one.id for one in uncovered(traces(folders), [record(covers=(name,))])] == [name]
    assert uncovered(traces(folders), [record(kind="emergency", covers=(name,))]) == []


# -- the list ------------------------------------------------------------------------------------------------------------


def test_what_cannot_wait_comes_first(root: Path, folders: Folders) -> None:
    name = break_glass(folders)
    half(folders, "2026-0002")
    half(folders, "2026-0077")
    for one in (
        record(1),
        record(2),
        record(3, result="applied", outcomes={"lab": OUTCOME}, assessment=Assessment(due=NOW)),
    ):
        Records(root).write(one)
    found = listed(root, NOW + timedelta(days=1))
    assert [(one.change, one.kind, one.alarm) for one in found] == [
        (name, "BROKEN GLASS", True),
        ("2026-0077", "recorded elsewhere", True),
        ("2026-0002-more-2", "normal", True),
        ("2026-0001-more-1", "normal", False),
        ("2026-0003-more-3", "normal", False),
    ]
    by_name = {one.change: one for one in found}
    assert by_name[name].result == "lab was changed without a change by ana at ops01 on 2026-03-02 15:00 UTC (dpp up lab): The summit is cut off.; 3 changes"  # fmt: skip
    assert by_name[name].owed == (
        f"an emergency that accounts for it: dpp change new NAME --kind emergency --covers {name}",
    )
    assert by_name["2026-0002-more-2"].result == "HALF APPLIED to lab by ana since 2026-03-02 15:00 UTC: dpp change apply 2026-0002 continues it, dpp change abort 2026-0002 goes back"  # fmt: skip
    assert (by_name["2026-0003-more-3"].result, by_name["2026-0003-more-3"].owed) == (
        "lab: applied on 2026-03-02 by ana",
        ("late: assessment",),
    )
    Records(root).write(record(4, kind="emergency", covers=(name,)))
    assert name not in {one.change for one in listed(root, NOW)}
    assert listed(root, NOW + timedelta(days=9))[2].owed == ("late: retrospective of an emergency",)


def test_what_lasts_is_said_to_last_and_what_was_cut_short_to_be(root: Path, folders: Folders) -> None:
    half(folders, "2026-0001")
    Records(root).write(record())
    with broken("lab", folders, "The summit is cut off.", ANA, ["dpp", "up", "lab"], NOW):
        glass, row = listed(root, NOW)
        assert glass.result.endswith("The summit is cut off.; it lasts")
        assert row.result.endswith("it is being worked on now")
    path = folders.state / "broken-glass.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    assert listed(root, NOW)[0].result.endswith("The summit is cut off.; it was cut short")


def test_what_cannot_go_back_says_why(root: Path, folders: Folders) -> None:
    half(folders, "2026-0001", {"event": "going back", "why": "no route"}, {"event": "stuck", "why": "no hands"})
    Records(root).write(record())
    assert listed(root, NOW)[0].result.endswith(
        "and it cannot go back: no hands; mend that, then dpp change abort 2026-0001"
    )


def test_what_was_halted_says_what_is_done_and_what_is_not(root: Path, folders: Folders) -> None:
    begun = {"event": "begun", "stacks": ("lab.wan", "lab.ncsa-itc", "lab.workloads"), "recorded": NOW}
    done = [{"event": event, "side": "head", "stack": "lab.wan"} for event in ("stack begun", "stack done")]
    halt = {"event": "halted", "stack": "lab.ncsa-itc", "why": "it is night"}
    half(folders, "2026-0001", begun, *done, halt)
    Records(root).write(record())
    [row] = listed(root, NOW)
    assert row.alarm
    assert row.result == (
        "HALF APPLIED to lab by ana since 2026-03-02 15:00 UTC, halted at 2026-03-02 15:00 UTC before lab.ncsa-itc: it is night; "
        "done: lab.wan; not done: lab.ncsa-itc, lab.workloads: "
        "dpp change apply 2026-0001 continues it, dpp change abort 2026-0001 goes back"
    )
    half(folders, "2026-0001", begun, *done, halt, {"event": "continued"})
    assert "halted" not in listed(root, NOW)[0].result


def test_an_end_that_its_record_does_not_know_is_told(root: Path, folders: Folders) -> None:
    half(folders, "2026-0001", {"event": "ended", "result": "applied"})
    Records(root).write(record())
    [row] = listed(root, NOW)
    assert (row.result, row.alarm) == (
        "applied in lab, and its record does not say so: dpp change apply 2026-0001 writes it",
        True,
    )
    Records(root).write(record(result="applied", outcomes={"lab": OUTCOME}))
    assert not listed(root, NOW)[0].alarm
    Records(root).write(record(recorded=NOW + timedelta(days=1)))
    assert not listed(root, NOW)[0].alarm, "that end is of an earlier plan"


@pytest.mark.parametrize("terminal", [True, False])
def test_alarms_are_red_where_there_are_colours_and_words_anywhere(
    root: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    del root
    name = break_glass(folders)
    said = io.StringIO()
    console = Console(file=said, force_terminal=terminal, color_system="standard" if terminal else None, width=160)
    monkeypatch.setattr(output, "print_rich", console.print)
    monkeypatch.setattr(sys, "argv", ["dpp", "change", "list"])
    assert cli.main() == 0
    text = said.getvalue()
    assert "BROKEN GLASS" in text
    assert name in text
    assert ("\x1b[1;31m" in text) is terminal


def test_programs_are_told_too(root: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    name = break_glass(folders)
    Records(root).write(record())
    monkeypatch.setattr(sys, "argv", ["dpp", "change", "--checkout", str(root), "list", "--json"])
    assert cli.main() == 0
    printed = json.loads(capsys.readouterr().out)
    jsonschema.validate(printed, json.loads(path_of("change-list").read_text()))
    assert [(one["change"], one["kind"]) for one in printed] == [(name, "BROKEN GLASS"), ("2026-0001-more-1", "normal")]
    assert Listed.model_validate(printed[0]).alarm


# -- closing -------------------------------------------------------------------------------------------------------------


def test_what_was_applied_is_assessed(root: Path) -> None:
    records = Records(root)
    applied = record(result="applied", outcomes={"lab": OUTCOME}, assessment=Assessment(due=NOW + timedelta(days=7)))
    closed = close(records, applied, "It did.", ANA, NOW)
    assert (closed.result, closed.outcomes) == ("closed", {"lab": OUTCOME})
    assert closed.assessment == Assessment(due=NOW + timedelta(days=7), found="It did.", by="ana")
    records.write(closed)
    [row] = listed(root, NOW + timedelta(days=30))
    assert (row.result, row.owed) == ("lab: applied on 2026-03-02 by ana; closed", ())


def test_nothing_is_assessed_before_it_was_applied(root: Path, folders: Folders) -> None:
    records = Records(root)
    with pytest.raises(UsageError, match="not applied yet"):
        close(records, record(), "It did.", ANA, NOW)
    assert close(records, record(kind="emergency"), "The glass was broken for it.", ANA, NOW).result == "closed"
    half(folders, "2026-0001")
    with pytest.raises(UsageError, match="half applied to lab"):
        close(records, record(kind="emergency"), "It did.", ANA, NOW)


def test_every_environment_is_looked_at(folders: Folders) -> None:
    found = folders_of(REPOSITORY)
    assert found == {"lab": folders, "production": Folders("dome", "production")}
    assert found["lab"] == Environment.load("lab").folders, "as the model has it"
