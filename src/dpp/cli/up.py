"""`dpp up`: every stack of an environment, in order."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dpp.adapters.phases import Phases
from dpp.cli.output import JsonOption, print_json, print_rows
from dpp.cli.stack import ExpectNone, Full, Parallel, Reread, Yes, require_apply, workspace_of
from dpp.engine.display import Display
from dpp.engine.events import Result
from dpp.engine.workspace import ignore
from dpp.model.errors import UsageError
from dpp.model.units import UNITS

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
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only this unit; may be given several times.")
    ] = None,
) -> None:
    """Apply every stack of an environment in order; the first that fails ends it, and running again goes on there.

    The lab is applied without asking; any other environment wants --yes.
    """
    require_apply(environment)  # a mistake in a declaration is told before anything is touched
    if environment != "lab" and not yes:
        raise UsageError(
            "--yes", "not given", "consent", f"look first: dpp stack preview {environment}.{UNITS[0]} and so on"
        )
    results = []
    for unit in _chosen(only):
        result = _apply(f"{environment}.{unit}", as_json=as_json, full=diff, refresh=refresh, parallel=parallel)
        results.append(result)
        if not result.ok:
            break
    changes = sum(result.changes for result in results)
    failed = not all(result.ok for result in results)
    phases = Phases({result.stack: result.seconds for result in results})
    if as_json:
        stacks = [result.as_json() for result in results]
        print_json(
            {
                "environment": environment,
                "stacks": stacks,
                "phases": phases.rows(),
                "changes": changes,
                "ok": not failed,
            }
        )
    else:
        print_rows(phases.rows(), ("phase", "seconds", "share"), as_json=False)
        print(
            f"{environment}: {len(results)} stacks, {changes or 'no'} changes ({phases.total:.1f} s){', not finished' * failed}"
        )
    if expect_no_changes and changes:
        print(f"{environment}: {changes} changes, expected none", file=sys.stderr)
    if failed or (expect_no_changes and changes):
        raise typer.Exit(1)


def _chosen(only: list[str] | None) -> list[str]:
    for unit in only or ():
        if unit not in UNITS:
            raise UsageError("--only", repr(unit), f"one of {', '.join(UNITS)}")
    return [unit for unit in UNITS if not only or unit in only]


def _apply(stack: str, *, as_json: bool, full: bool, refresh: bool, parallel: int) -> Result:
    workspace = workspace_of(stack, parallel)
    if as_json:
        return workspace.up(stack, ignore, refresh=refresh)
    print(f"{stack}")
    with Display(full=full) as display:
        result = workspace.up(stack, display, refresh=refresh)
    if result.engine == "dpp":
        display.finish(result)
    return result
