"""`dpp change`: what a change would do, who has authorised it, and what became of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from dpp.adapters.git import Git
from dpp.adapters.progress import Reporter
from dpp.cli import change_forge, change_glass
from dpp.cli.output import JsonOption, print_json, print_rows
from dpp.model.errors import FatalError, UsageError
from dpp.model.folders import REPOSITORY
from dpp.operations.change.dossier import html, markdown
from dpp.operations.change.judges import Judges
from dpp.operations.change.records import Record, Records, planned
from dpp.operations.change.sides import Side, Workshop, code_of, own_command, own_variables
from dpp.operations.change.who import here

if TYPE_CHECKING:
    from dpp.operations.change.apply import Order, Report
    from dpp.operations.change.findings import Dossier
    from dpp.operations.change.people import People

app = typer.Typer(no_args_is_help=True, add_completion=False, help="What a change would do, who has authorised it, and what became of it.")  # fmt: skip
change_forge.register(app)
change_glass.register(app)
Between = Annotated[str, typer.Argument(metavar="[BASE..HEAD]", help="Two commits, by default what HEAD has beside main; BASE.. takes the working tree.")]  # fmt: skip
Range = Annotated[str, typer.Option("--between", metavar="BASE..HEAD", help="As of dpp change plan.")]
Identifier = Annotated[str, typer.Argument(metavar="ID", help="Id or name of a change, as `list` shows it.")]


EnvironmentOption = Annotated[str, typer.Option("--environment", "-e", help="Where; may be left out where the change has one plan alone.")]  # fmt: skip
_REFUSED = 3
_checkout = [REPOSITORY]
"""The checkout whose changes these are: not where this code lies, where it is that of a change's base."""


@app.callback()
def _of(checkout: Annotated[Path, typer.Option(hidden=True)] = REPOSITORY) -> None:
    _checkout[0] = checkout


def _root() -> Path:
    return _checkout[0]


def _workshop() -> Workshop:
    return Workshop(_root())


def _dossier(between: str) -> Dossier:
    from dpp.operations.change.plan import plan as make  # noqa: PLC0415 - slow to import

    return make(_workshop(), between, Reporter())


def _judged_by(base: Side, *, needed: bool) -> None:
    """Go on as the base's own code in its own tree, where this is other code: a change is not judged by its own.

    Parameters
    ----------
    needed
        Refuse a base that cannot judge yet; else this code does.
    """
    if _root() != REPOSITORY or code_of(REPOSITORY) == code_of(base.root):  # it is
        return
    if not (base.root / "src/dpp/operations/change/door.py").is_file():
        if not needed:
            return
        raise FatalError(f"base {base.name[:12]}", "older than dpp change apply", "one that can judge", "record the change on a later base")  # fmt: skip
    words = own_command("change", "--checkout", str(_root()), *sys.argv[sys.argv.index("change") + 1 :])
    sys.stdout.flush()
    path = own_variables(base)["PYTHONPATH"]
    os.execve(words[0], words, os.environ | {"PYTHONPATH": path})  # noqa: S606 - no shell; the terminal stays ours


@app.command()
def plan(
    between: Between = "",
    as_json: JsonOption = False,
    as_html: Annotated[bool, typer.Option("--html", help="Print a page for a browser.")] = False,
    output: Annotated[Path | None, typer.Option(help="File to write in place of standard output.")] = None,
    live: Annotated[str, typer.Option("--live", metavar="ENVIRONMENT", help="Ask this environment as well, where it can be reached: drift, its real stacks, a check run on its hosts. Runs the change's own code there, changing nothing: read it first.")] = "",
) -> None:  # fmt: skip
    """Write the dossier of a change: what it would do, to whom, and who must agree. Without --live it needs no machine and no lab."""
    if as_json and as_html:
        raise UsageError("--json and --html", "both given", "one of them")
    dossier = _dossier(between)
    if live:
        from dpp.operations.change.reached import beside  # noqa: PLC0415 - slow to import

        dossier = beside(_workshop(), dossier, live, datetime.now(UTC), Reporter())
    text = dossier.model_dump_json(indent=2) + "\n" if as_json else html(dossier) if as_html else markdown(dossier)
    if output:
        output.write_text(text)
    else:
        print(text, end="")


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="A few words, joined by hyphens.")],
    reason: Annotated[str, typer.Option(help="Why; a sentence or two.")],
    request: Annotated[str, typer.Option(help="Who asked for it: a ticket, a person, an incident.")],
    kind: Annotated[str, typer.Option(help="normal, standard or emergency.")] = "normal",
    pattern: Annotated[str | None, typer.Option(help="Of a standard change, as changes/rules.yml names it.")] = None,
    between: Range = "",
    covers: Annotated[
        list[str] | None, typer.Option(help="Broken glass that this emergency accounts for, as `list` names it.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Record the plan anew in the record of this name.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Record a change with its plan; approvals of another plan than this one count no more."""
    if kind not in {"normal", "standard", "emergency"}:
        raise UsageError("--kind", kind, "normal, standard or emergency")
    if covers and kind != "emergency":
        raise UsageError("--covers", f"of a change of kind {kind}", "an emergency", "give --kind emergency")
    _judged_by(_workshop().sides(between).base, needed=False)
    records, now = Records(_root()), datetime.now(UTC).replace(microsecond=0)
    known = records.find(name) if again else None
    dossier = _dossier(between)
    if not dossier.files and not covers:
        raise UsageError(
            between or "HEAD", "nothing that differs from its base", "a change", "commit it first, or name BASE..HEAD"
        )
    record = Record(
        id=known.id if known else records.next_id(now),
        name=known.name if known else name,
        kind=cast("Literal['normal', 'standard', 'emergency']", kind),
        pattern=pattern,
        request=request,
        reason=reason,
        authors=dossier.authors or (here(_root()).person,),
        base=dossier.base,
        head=dossier.head,
        created=known.created if known else now,
        recorded=now,
        plans=planned(dossier),
        approvals=known.approvals if known else (),
        covers=tuple(covers or (known.covers if known else ())),
    )
    path = records.write(record)
    if as_json:
        print_json(record)
    else:
        print(path.relative_to(_root()))


@app.command("list")
def list_changes(as_json: JsonOption = False) -> None:
    """List changes with what is owed of each; what is half applied, or was done without a change, comes first and in red."""
    from dpp.operations.change.listing import listed  # noqa: PLC0415

    rows = [one.model_dump(mode="json") for one in listed(_root(), datetime.now(UTC))]
    columns = ("change", "kind", "result", "risk", "approvals", "owed")
    print_rows(rows, columns, as_json=as_json, alarm=lambda row: bool(row["alarm"]))


@app.command()
def show(identifier: Identifier, between: Range = "", as_json: JsonOption = False) -> None:
    """Show a change: its plan as it is now beside the recorded one, and whether it is authorised. Exit code 3 if it is not."""
    from dpp.operations.change.authorisation import judge  # noqa: PLC0415

    record, now = Records(_root()).find(identifier), datetime.now(UTC)
    _judged_by(_workshop().sides(between).base, needed=False)
    dossier = _dossier(between)
    persons, verdicts = _verdicts(record, dossier, now)
    approvals = [{"person": one.person, "role": one.role, "environment": one.environment} | vars(judge(record, one, persons, now)) for one in record.approvals]  # fmt: skip
    if as_json:
        print_json({"record": record, "authorised": verdicts, "approvals": approvals})
    else:
        print(
            f"{record.id}-{record.name}: {record.kind}, {record.result}\n{record.reason}\nrequested by {record.request}"
        )
        if not verdicts:
            print("  it deploys nothing: nobody need agree")
        for environment, outcome in record.outcomes.items():
            print(f"  {environment}: {outcome.result} on {outcome.ended:%Y-%m-%d %H:%M} UTC by {outcome.person} at {outcome.machine}{f': {outcome.why}' if outcome.why else ''}")  # fmt: skip
        for environment, verdict in verdicts.items():
            print(f"  {environment}: {'authorised' if verdict['valid'] else 'not authorised'}: {verdict['why']}")
        for one in approvals:
            print(
                f"  {one['person']} for {one['environment']}: {'counts' if one['valid'] else 'does not count'}: {one['why']}"
            )
    if not all(verdict["valid"] for verdict in verdicts.values()):
        raise typer.Exit(3)


@app.command()
def approve(
    identifier: Identifier,
    environment: Annotated[str, typer.Option("--environment", "-e", help="Environment whose plan is approved.")],
    person: Annotated[str, typer.Option("--as", help="Who approves, as changes/people.yml names them.")],
    role: Annotated[str, typer.Option(help="In which role.")],
    key: Annotated[
        Path, typer.Option(help="Private SSH key, or the public one where an agent has the other.", exists=True)
    ],
    between: Range = "",
    as_json: JsonOption = False,
) -> None:
    """Approve the plan of a change for one environment by a signature; refused where the plan has drifted."""
    from dpp.operations.change.authorisation import approve as sign  # noqa: PLC0415
    from dpp.operations.change.authorisation import recorded_plans  # noqa: PLC0415

    records = Records(_root())
    _judged_by(_workshop().sides(between).base, needed=False)
    record, dossier = records.find(identifier), _dossier(between)
    plans, persons = recorded_plans(dossier), _judges(dossier).people
    if environment not in plans:
        raise UsageError(f"environment {environment}", "not touched by the change", f"one of {', '.join(plans)}")
    approved = sign(record, environment, person, role, key, persons, plans[environment], datetime.now(UTC))
    path = records.write(approved)
    if as_json:
        print_json(approved)
    else:
        print(path.relative_to(_root()))


@app.command()
def apply(identifier: Identifier, environment: EnvironmentOption = "", as_json: JsonOption = False) -> None:
    """Apply a change that is authorised, or continue one that was cut short.

    Exit code 3, with all reasons, if it is not let in, or if it is halted between two stacks because its time is over.
    """
    from dpp.operations.change.apply import apply as carry_out  # noqa: PLC0415

    _reported(carry_out, _order(identifier, environment, as_json), as_json)


@app.command()
def abort(
    identifier: Identifier,
    why: Annotated[str, typer.Option(help="Why; a few words.")],
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> None:
    """Go back from a change that is half applied; withdraw one that was not begun."""
    from dpp.operations.change.apply import abort as go_back  # noqa: PLC0415

    order = _order(identifier, environment, as_json)
    _reported(lambda given: go_back(given, why), order, as_json, expected=("aborted", "gone back from"))


@app.command()
def close(
    identifier: Identifier,
    found: Annotated[str, typer.Option(help="Whether it did what it was for; a sentence or two.")],
    as_json: JsonOption = False,
) -> None:
    """Write the assessment of a change that was applied, or the retrospective of an emergency."""
    from dpp.operations.change.listing import close as assess  # noqa: PLC0415

    records = Records(_root())
    closed = assess(records, records.find(identifier), found, here(_root()), datetime.now(UTC).replace(microsecond=0))
    path = records.write(closed)
    if as_json:
        print_json(closed)
    else:
        print(path.relative_to(_root()))


def _order(identifier: str, environment: str, as_json: bool) -> Order:
    """Return what is to be done, once the base's own code is what runs here."""
    from dpp.operations.change.apply import Order, trees  # noqa: PLC0415

    record, workshop = Records(_root()).find(identifier), _workshop()
    with trees(workshop, record) as sides:
        base = sides.base
    _judged_by(base, needed=True)
    tell = partial(print, file=sys.stderr, flush=True)
    return Order(workshop, record.id, environment, here(_root()), lambda: datetime.now(UTC), tell, quiet=as_json)


def _reported(do: Callable[[Order], Report], order: Order, as_json: bool, expected: tuple[str, ...] = ("applied",)) -> None:  # fmt: skip
    """Do it, show what came of it, and end with the code that says so."""
    report = do(order)
    if as_json:
        print_json(report)
    else:
        print(f"{report.change}: {report.result.upper() if report.result == 'stuck' else report.result} ({report.environment})")  # fmt: skip
        lines = [*report.refusals, *([report.why] if report.why else []), *([report.remedy] if report.remedy else [])]
        print("".join(f"  {line}\n" for line in lines), end="")
    if report.result not in expected:
        raise typer.Exit(_REFUSED if report.result in {"refused", "halted"} else 1)


def _judges(dossier: Dossier) -> Judges:
    return Judges.of_commit(Git(_root()), dossier.base)


def _verdicts(record: Record, dossier: Dossier, now: datetime) -> tuple[People, dict[str, dict[str, Any]]]:
    from dpp.operations.change.authorisation import authorised, recorded_plans  # noqa: PLC0415

    judges = _judges(dossier)
    plans = recorded_plans(dossier)
    environments = dict.fromkeys([*record.plans, *(name for name, one in plans.items() if one.deploys)])
    return judges.people, {
        name: vars(authorised(record, name, judges.people, judges.rules, plans.get(name), dossier.nouns, now)) for name in environments
    }  # fmt: skip
