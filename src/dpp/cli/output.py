"""What commands print: tables for people, JSON for programs, from the same rows."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
"""The ``--json`` option of a command: ``def command(as_json: JsonOption = False)``."""


def print_json(value: Any) -> None:
    """Print `value` as indented JSON; pydantic models, paths and sets are converted."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=_plain)
    sys.stdout.write("\n")


def print_rows(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    *,
    as_json: bool,
    title: str | None = None,
    alarm: Callable[[Mapping[str, Any]], bool] = lambda _: False,
) -> None:
    """Print `rows` as a table of `columns`, or all their fields as a JSON list.

    Parameters
    ----------
    rows
        One mapping per row.
    columns
        Keys to show, in order; a key is its own heading, underscores as spaces.
    as_json
        JSON in place of the table.
    title
        A line above the table.
    alarm
        Says which rows stand in red, where there are colours.
    """
    rows = list(rows)
    if as_json:
        print_json(rows)
        return
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - rich is slow to import and JSON needs none
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns), style="bold red" if alarm(row) else None)
    print_rich(table)


def print_rich(renderable: Any) -> None:
    """Print a rich renderable; lines are not cut to 80 columns where there is no terminal."""
    from rich.console import Console  # noqa: PLC0415

    Console(width=None if sys.stdout.isatty() else 160, markup=False, highlight=False).print(renderable)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(str, value))
    return str(value)


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)
