"""`dpp change break-glass`: any command that changes an environment, without an authorised change and seen by everybody."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from dpp.model.errors import UsageError
from dpp.model.folders import REPOSITORY


def break_glass(
    environment: Annotated[str, typer.Argument(help="Folder of inventories/.")],
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND...", help="What to run: dpp up, dpp stack, ansible-playbook.")
    ],
    reason: Annotated[str, typer.Option(help="What cannot wait for a change; a few words.")],
) -> None:
    """Run a command that may change an environment which asks for an authorised change, without one.

    Everybody sees it in `dpp change list` until an emergency accounts for it. Exit code is that of the command, which is
    written down as it is.
    """
    from dpp.adapters.process import at_terminal  # noqa: PLC0415 - most often none is broken
    from dpp.operations.change.glass import broken  # noqa: PLC0415
    from dpp.operations.change.places import folders_of, provisioning_of  # noqa: PLC0415
    from dpp.operations.change.who import here  # noqa: PLC0415

    places = folders_of(REPOSITORY)
    if environment not in places:
        raise UsageError(f"environment {environment}", "not in inventories/", f"one of {', '.join(places)}", "check the name")  # fmt: skip
    if provisioning_of(REPOSITORY / "inventories" / environment).changes != "authorised":
        raise UsageError(f"environment {environment}", "asks for no authorised change", "one that does", "run the command as it is")  # fmt: skip
    with broken(environment, places[environment], reason, here(REPOSITORY), command, datetime.now(UTC)) as account:
        code = at_terminal(command)
        account.how = f"it ended with exit code {code}"
    raise typer.Exit(code)


def register(app: typer.Typer) -> None:
    """Add this verb to `dpp change`."""
    app.command("break-glass")(break_glass)
