"""`dpp up`: every stack of an environment, in order."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dpp.cli.display import Display
from dpp.cli.output import JsonOption, print_json, print_rows
from dpp.cli.stack import ExpectNone, Full, Parallel, Reread, Wait, Yes
from dpp.model.environment import Environment
from dpp.model.errors import UsageError
from dpp.model.units import UNITS
from dpp.operations.up import Applied
from dpp.operations.up import up as apply

app = typer.Typer(add_completion=False)


@app.command()
def up(
    environment: Annotated[str, typer.Argument(help="Folder of inventories/.")] = "lab",
    yes: Yes = False,
    as_json: JsonOption = False,
    diff: Full = False,
    refresh: Reread = False,
    expect_no_changes: ExpectNone = False,
    parallel: Parallel = 8,
    wait_for_lock: Wait = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only this unit; may be given several times.")
    ] = None,
) -> None:
    """Apply every stack of an environment, side by side where they do not need each other.

    After one that fails no other begins, and running again goes on there. What is made on this machine alone, as the
    lab, is applied without asking; anything else wants --yes. An environment that asks for an authorised change is
    applied by dpp change apply.
    """  # fmt: skip
    for unit in only or ():
        if unit not in UNITS:
            raise UsageError("--only", repr(unit), f"one of {', '.join(UNITS)}")
    model = Environment.load(environment)  # a mistake in a declaration is told before anything is touched
    model.require_apply()
    if not model.made and not yes:
        raise UsageError(
            "--yes", "not given", "consent", f"look first: dpp stack preview {environment}.{UNITS[0]} and so on"
        )
    options = {"only": only or (), "refresh": refresh, "parallel": parallel, "wait_for_lock": wait_for_lock}
    applied = shown(model, as_json=as_json, full=diff, **options)
    if as_json:
        print_json(applied.as_json())
    if expect_no_changes and applied.changes:
        print(f"{environment}: {applied.changes} changes, expected none", file=sys.stderr)
    if not applied.ok or (expect_no_changes and applied.changes):
        raise typer.Exit(1)


def shown(model: Environment, *, as_json: bool, full: bool = False, **options: object) -> Applied:
    """Apply an environment under a display and show how it ended; silently where JSON is wanted."""
    if as_json:
        return apply(model, **options)  # type: ignore[arg-type]  # the options of `dpp up`, named once
    with Display(full=full, several=True) as display:
        applied = apply(model, display, **options)  # type: ignore[arg-type]  # as above
    for result in applied.results:
        display.finish(result)
    print_rows(applied.rows(), ("stack", "began", "seconds", "changes", "ok"), as_json=False)
    print(
        f"{applied.environment}: {len(applied.results)} stacks, {applied.changes or 'no'} changes "
        f"({applied.seconds:.1f} s){', not finished' * (not applied.ok)}"
    )
    return applied
