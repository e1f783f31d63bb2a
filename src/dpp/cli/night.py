"""``dpp night``: take a night of visits and report on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dpp.adapters.progress import Reporter
from dpp.cli.output import JsonOption, print_json, print_rows
from dpp.model.environment import Environment
from dpp.model.errors import UsageError
from dpp.model.folders import Folders
from dpp.operations.night import SYNTHETIC, Night, Plan

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Run a night of visits and report on it.")


@app.command()
def run(
    visits: Annotated[int, typer.Option(min=1, help="Number of visits.")] = 6,
    interval: Annotated[float, typer.Option(min=1.0, help="Seconds from visit to visit.")] = 45.0,
    detectors: Annotated[int, typer.Option(min=0, help="How many detectors are read out; 0 is all.")] = 0,
    sky: Annotated[
        str, typer.Option(help="What is exposed: `synthetic`, or a directory of real exposures.")
    ] = SYNTHETIC,
    seed: Annotated[int | None, typer.Option(help="Seed of the night; by default a new one.")] = None,
    fault: Annotated[
        list[str] | None, typer.Option(help="cancel:N, unannounced:N or missing:N:DETECTOR, for tests.")
    ] = None,
    environment: Annotated[str, typer.Option(help="Environment, a folder of inventories/.")] = "lab",
    as_json: JsonOption = False,
) -> None:
    """Take a night, follow it to the last alert, and report.

    The last line printed is the absolute path of report.json. Exit code 1 if anything was lost or a requirement missed.
    """
    if sky != SYNTHETIC:
        if not Path(sky).is_dir():
            raise UsageError(f"--sky {sky}", "no such directory", f"{SYNTHETIC}, or a directory of FITS files")
        sky = str(Path(sky).resolve())
    plan = Plan(visits, interval, detectors, sky, seed, tuple(fault or ()))
    _show(
        Night(Environment.load(environment), Folders.current(), plan, Reporter(quiet=as_json)), "run", as_json=as_json
    )


@app.command()
def report(
    name: Annotated[str, typer.Argument(metavar="NIGHT", help="Name of a night, such as 20261122-201500.")],
    environment: Annotated[str, typer.Option(help="Environment, a folder of inventories/.")] = "lab",
    as_json: JsonOption = False,
) -> None:
    """Read every store again and report on a night that was taken.

    The last line printed is the absolute path of report.json. Exit code 1 if anything was lost or a requirement missed.
    """
    plan = Plan(name=name)
    _show(
        Night(Environment.load(environment), Folders.current(), plan, Reporter(quiet=as_json)),
        "report",
        as_json=as_json,
    )


def _show(night: Night, verb: Literal["run", "report"], *, as_json: bool) -> None:
    """Take or read the night, print its requirements, and exit with 1 where one is missed."""
    content = night.run() if verb == "run" else night.report()
    path = (night.folder / "report.json").resolve()
    if as_json:
        print_json({"report": str(path), "passed": content["passed"], "requirements": content["requirements"]})
    else:
        print_rows(
            content["requirements"], ("title", "value", "comparison", "limit", "judged_by", "met"), as_json=False
        )
        print(path)
    if not content["passed"]:
        raise typer.Exit(1)
