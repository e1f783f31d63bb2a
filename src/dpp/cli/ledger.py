"""``dpp ledger``: what became of exposures, over any span of nights."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from dpp.cli.output import JsonOption, print_rows
from dpp.model.environment import Environment
from dpp.model.folders import Folders
from dpp.operations.ledger import ask

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Ask the visits' ledger what became of exposures, over any span."
)
EnvironmentOption = Annotated[str, typer.Option(help="Environment, a folder of inventories/.")]
SinceOption = Annotated[int | None, typer.Option(metavar="YYYYMMDD", help="First night; by default a month ago.")]
UntilOption = Annotated[int | None, typer.Option(metavar="YYYYMMDD", help="Last night; by default the present one.")]
_DAYS = 30


@app.command()
def nights(
    since: SinceOption = None,
    until: UntilOption = None,
    environment: EnvironmentOption = "lab",
    as_json: JsonOption = False,
) -> None:
    """Count the images of each night by their fate; the last row is the whole span, with its loss rate (DMS-REQ-0309)."""
    rows = _ask(environment, "nights", *_span(since, until))
    for row in rows:
        row["night"] = row["night"] or "all"
    columns = ("night", "images", "archived", "alerted", "failed", "quarantined", "lost", "unanswered", "loss_rate")
    print_rows(rows, columns, as_json=as_json)


@app.command()
def owed(
    since: SinceOption = None,
    until: UntilOption = None,
    environment: EnvironmentOption = "lab",
    as_json: JsonOption = False,
) -> None:
    """List the images whose alerts never went out, with the reasons that there are."""
    rows = _ask(environment, "owed", *_span(since, until))
    print_rows(rows, ("night", "obs_id", "detector", "reasons"), as_json=as_json)


@app.command()
def exposure(
    obs_id: Annotated[str, typer.Argument(metavar="OBS_ID", help="An exposure, such as MC_O_20261122_000001.")],
    environment: EnvironmentOption = "lab",
    as_json: JsonOption = False,
) -> None:
    """Show every stamp of one exposure, from its announcement on."""
    rows = _ask(environment, "exposure", obs_id)
    print_rows(rows, ("time", "detector", "step", "service", "site", "reason"), as_json=as_json)


def _ask(environment: str, *words: str) -> list[dict[str, Any]]:
    return ask(Environment.load(environment), Folders.current(), *words)


def _span(since: int | None, until: int | None) -> tuple[str, str]:
    tonight = datetime.now(UTC) - timedelta(hours=12)  # a night in Chile has the date that holds in UTC-12
    month_ago = tonight - timedelta(days=_DAYS)
    return str(since or f"{month_ago:%Y%m%d}"), str(until or f"{tonight:%Y%m%d}")
