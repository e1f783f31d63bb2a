"""`dpp change`: what a change would do, who has authorised it, and what became of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from dpp.adapters.progress import Reporter
from dpp.cli import change_forge
from dpp.cli.output import JsonOption, print_json, print_rows
from dpp.model.errors import UsageError
from dpp.model.folders import REPOSITORY

if TYPE_CHECKING:
    from dpp.operations.change.findings import Dossier
    from dpp.operations.change.records import Record

app = typer.Typer(no_args_is_help=True, add_completion=False, help="What a change would do, and who has authorised it.")
change_forge.register(app)
Between = Annotated[str, typer.Argument(metavar="[BASE..HEAD]", help="Two commits, by default what HEAD has beside main; BASE.. takes the working tree.")]  # fmt: skip
Range = Annotated[str, typer.Option("--between", metavar="BASE..HEAD", help="As of dpp change plan.")]
Identifier = Annotated[str, typer.Argument(metavar="ID", help="Id or name of a change, as `list` shows it.")]


def _dossier(between: str) -> Dossier:
    from dpp.operations.change.plan import plan as make  # noqa: PLC0415 - slow to import
    from dpp.operations.change.sides import Workshop  # noqa: PLC0415

    return make(Workshop(REPOSITORY), between, Reporter())


@app.command()
def plan(
    between: Between = "",
    as_json: JsonOption = False,
    as_html: Annotated[bool, typer.Option("--html", help="Print a page for a browser.")] = False,
    output: Annotated[Path | None, typer.Option(help="File to write in place of standard output.")] = None,
) -> None:
    """Write the dossier of a change: what it would do, to whom, and who must agree. Needs no machine and no lab."""
    from dpp.operations.change.dossier import html, markdown  # noqa: PLC0415

    if as_json and as_html:
        raise UsageError("--json and --html", "both given", "one of them")
    dossier = _dossier(between)
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
    again: Annotated[bool, typer.Option("--again", help="Record the plan anew in the record of this name.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Record a change with its plan; approvals of another plan than this one count no more."""
    from dpp.operations.change.records import Record, Records, planned  # noqa: PLC0415

    if kind not in {"normal", "standard", "emergency"}:
        raise UsageError("--kind", kind, "normal, standard or emergency")
    records, now = Records(REPOSITORY), datetime.now(UTC).replace(microsecond=0)
    known = records.find(name) if again else None
    dossier = _dossier(between)
    if not dossier.files:
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
        authors=dossier.authors,
        base=dossier.base,
        head=dossier.head,
        created=known.created if known else now,
        plans=planned(dossier),
        approvals=known.approvals if known else (),
    )
    path = records.write(record)
    if as_json:
        print_json(record)
    else:
        print(path.relative_to(REPOSITORY))


@app.command("list")
def list_changes(as_json: JsonOption = False) -> None:
    """List changes, open ones first, with what is owed of each."""
    from dpp.operations.change.authorisation import owed  # noqa: PLC0415
    from dpp.operations.change.records import Records, open_first  # noqa: PLC0415

    now = datetime.now(UTC)
    rows = [
        {
            "change": f"{one.id}-{one.name}",
            "kind": one.kind,
            "result": one.result,
            "risk": ", ".join(f"{name}: {planned.risk}" for name, planned in one.plans.items()) or "none",
            "approvals": [f"{each.person} as {each.role} for {each.environment}" for each in one.approvals],
            "owed": owed(one, now),
        }
        for one in open_first(Records(REPOSITORY).all())
    ]
    print_rows(rows, ("change", "kind", "result", "risk", "approvals", "owed"), as_json=as_json)


@app.command()
def show(identifier: Identifier, between: Range = "", as_json: JsonOption = False) -> None:
    """Show a change: its plan as it is now beside the recorded one, and whether it is authorised. Exit code 3 if it is not."""
    from dpp.operations.change.authorisation import judge  # noqa: PLC0415
    from dpp.operations.change.records import Records  # noqa: PLC0415

    record, now = Records(REPOSITORY).find(identifier), datetime.now(UTC)
    dossier = _dossier(between)
    people, verdicts = _verdicts(record, dossier, now)
    approvals = [{"person": one.person, "role": one.role, "environment": one.environment} | vars(judge(record, one, people, now)) for one in record.approvals]  # fmt: skip
    if as_json:
        print_json({"record": record, "authorised": verdicts, "approvals": approvals})
    else:
        print(
            f"{record.id}-{record.name}: {record.kind}, {record.result}\n{record.reason}\nrequested by {record.request}"
        )
        if not verdicts:
            print("  it deploys nothing: nobody need agree")
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
    from dpp.operations.change.records import Records  # noqa: PLC0415

    records = Records(REPOSITORY)
    record, dossier = records.find(identifier), _dossier(between)
    plans, (people, _) = recorded_plans(dossier), _judges(dossier)
    if environment not in plans:
        raise UsageError(f"environment {environment}", "not touched by the change", f"one of {', '.join(plans)}")
    approved = sign(record, environment, person, role, key, people, plans[environment], datetime.now(UTC))
    path = records.write(approved)
    if as_json:
        print_json(approved)
    else:
        print(path.relative_to(REPOSITORY))


def _judges(dossier: Dossier) -> tuple[Any, Any]:
    """Return persons and rules of the base of a change: never its own."""
    from dpp.adapters.git import Git  # noqa: PLC0415
    from dpp.operations.change import people, rules  # noqa: PLC0415

    git = Git(REPOSITORY)
    texts = {path: git.show(dossier.base, path) for path in (people.FILE, rules.FILE)}
    ruled = texts[rules.FILE] or (REPOSITORY / rules.FILE).read_text()
    return people.People.parse(texts[people.FILE] or "", people.FILE), rules.Rules.parse(ruled, rules.FILE)


def _verdicts(record: Record, dossier: Dossier, now: datetime) -> tuple[Any, dict[str, dict[str, Any]]]:
    from dpp.operations.change.authorisation import authorised, recorded_plans  # noqa: PLC0415

    people, rules = _judges(dossier)
    plans = recorded_plans(dossier)
    environments = dict.fromkeys([*record.plans, *(name for name, one in plans.items() if one.deploys)])
    return people, {
        name: vars(authorised(record, name, people, rules, plans.get(name), dossier.nouns, now)) for name in environments
    }  # fmt: skip
