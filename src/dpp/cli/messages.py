"""`dpp messages`: what consumers could not handle, and what becomes of it."""

from __future__ import annotations

from typing import Annotated

import typer

from dpp.cli.output import JsonOption, print_rows
from dpp.model.environment import Environment
from dpp.model.errors import UsageError
from dpp.model.folders import Folders
from dpp.operations.messages import Message, Messages, Verb

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="List messages that consumers could not handle, give them back once the cause is gone, or dismiss them.",
)
_Where = Annotated[str, typer.Argument(help="Folder of inventories/.")]
_Site = Annotated[str, typer.Option(help="Only at this site.")]
_Group = Annotated[str, typer.Option(help="Only those of this consumer group.")]
_Names = Annotated[
    list[str] | None, typer.Option("--message", help="Only this one, as `list` names it; may be repeated.")
]
_All = Annotated[bool, typer.Option("--all", help="All that are listed.")]
_COLUMNS = ("site", "name", "attempts", "reason")


@app.command("list")
def list_messages(
    environment: _Where = "lab", site: _Site = "", group: _Group = "", as_json: JsonOption = False
) -> None:
    """List what was set aside and nobody has dealt with."""
    _show(_messages(environment, site, "list", group, None), as_json=as_json)


def _command(verb: Verb, what: str) -> None:
    """Add a command that deals with chosen messages in one way; `what` is its help."""

    @app.command(verb, help=what)
    def deal_with(
        environment: _Where = "lab",
        site: _Site = "",
        group: _Group = "",
        messages: _Names = None,
        everything: _All = False,
        as_json: JsonOption = False,
    ) -> None:
        if not (group or messages or everything):
            raise UsageError("messages", "none chosen", "--group, --message or --all", "look at `dpp messages list`")
        _show(_messages(environment, site, verb, group, messages), as_json=as_json)


_command("give-back", "Publish messages anew for the group that could not handle them; others pass over them.")
_command("dismiss", "Note that messages need no more care, such as bytes that were never a record.")


def _messages(environment: str, site: str, verb: Verb, group: str, names: list[str] | None) -> list[Message]:
    asked = Messages(Environment.load(environment), Folders.current())
    sites = (site,) if site else asked.sites
    return [message for one in sites for message in asked.at(one, verb, group, names or ())]


def _show(found: list[Message], *, as_json: bool) -> None:
    print_rows([vars(message) for message in found], _COLUMNS, as_json=as_json)
