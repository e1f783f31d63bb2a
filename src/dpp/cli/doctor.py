"""``dpp doctor``: what this machine lacks to carry the lab, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from dpp.cli.output import JsonOption, print_json, print_rows
from dpp.lab import doctor
from dpp.model.environment import Environment
from dpp.model.folders import Folders

app = typer.Typer(add_completion=False)


@app.command()
def main(
    fix: Annotated[bool, typer.Option("--fix", help="Install missing Debian packages (none is removed).")] = False,
    tests: Annotated[
        bool, typer.Option("--tests", help="For tests: their packages too; labs take turns, so room may be taken now.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check what this machine needs to carry the lab; exit code 1 if it cannot."""
    if fix and (missing := doctor.missing_packages(tests=tests)):
        doctor.install_packages(missing)
    checks = doctor.examine(Environment.load("lab"), Folders.current())
    if as_json:
        print_json([check.as_row() for check in checks])
    else:
        print_rows(
            [check.as_row() for check in checks], ("verdict", "name", "found", "expected", "remedy"), as_json=False
        )
    if doctor.lacks(checks, now=not tests):
        raise typer.Exit(1)
