"""`dpp status`: what stands, what is missing."""

from __future__ import annotations

from typing import Annotated

import typer

from dpp.cli.output import JsonOption, print_rows
from dpp.model.environment import Environment
from dpp.operations.status import pieces

app = typer.Typer(add_completion=False)


@app.command()
def status(
    environment: Annotated[str, typer.Argument(help="Folder of inventories/.")] = "lab",
    as_json: JsonOption = False,
    everything: Annotated[bool, typer.Option("--all", help="Also what is as it should be, piece by piece.")] = False,
) -> None:
    """Say how stacks, machines, circuits and clusters are. Exit code 1 if something is amiss."""
    found = pieces(Environment.load(environment))
    amiss = [piece for piece in found if not piece.sound]
    if as_json:
        print_rows([vars(piece) for piece in found], (), as_json=True)
    else:
        shown = (
            found if everything else [piece for piece in found if not piece.sound or piece.kind in ("stack", "cluster")]
        )
        print_rows([vars(piece) for piece in shown], ("kind", "name", "sound", "state"), as_json=False)
        kinds = {
            kind: sum(piece.kind == kind for piece in found) for kind in dict.fromkeys(piece.kind for piece in found)
        }
        counts = ", ".join(f"{count} {kind}s" for kind, count in kinds.items())
        print(f"{environment}: {counts}; {len(amiss) or 'nothing'} amiss")
    if amiss:
        raise typer.Exit(1)
