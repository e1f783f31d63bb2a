"""The operators' command `dpp`: its areas, and how errors become messages and exit codes.

An area is the module ``dpp.cli.<area>`` with a typer ``app``. It is imported when it is called, so that help, completion
and small commands stay fast, and an area whose module is not installed is not listed.
"""

from __future__ import annotations

import importlib
import os
import pwd
import signal
import sys
import traceback
from importlib.util import find_spec
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from dpp.adapters import process
from dpp.model.errors import DppError, UsageError

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
CHANGES_PENDING: Final = 3
INTERRUPTED: Final = 130

AREAS: Final = {
    "doctor": "Check what this machine needs to carry the lab.",
    "lab": "Bring the one-machine observatory up and down, cut its links, enter its hosts.",
    "up": "Apply every stack of an environment in order.",
    "status": "Say what stands, what is missing and what is being measured.",
    "stack": "Preview, apply, refresh and destroy single stacks.",
    "night": "Run a night of visits and report on it.",
    "ocs": "Command the devices of the observatory's control system, and watch them.",
    "ledger": "Ask what became of exposures, over any span of nights.",
    "model": "Check and show what the inventories declare.",
    "change": "Show what a change would do, who has authorised it, and apply it.",
    "service": "Look services of the catalogue up.",
    "messages": "List messages that consumers could not handle, and give them back.",
    "tools": "Build the programs that the observatory runs on.",
}
VERBS: Final = frozenset({"doctor", "up", "status"})
"""Areas that are one command, not a group of commands."""


class _Area(TyperCommand):
    """Stands for an area in help and completion until somebody calls it."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        app = importlib.import_module(f"{__name__}.{self.name}").app
        load = typer.main.get_command if self.name in VERBS else typer.main.get_group
        command = load(app)
        command.name = self.name
        return command.make_context(info_name, args, parent=parent, **extra)


class _Areas(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        installed = (area for area in AREAS if find_spec(f"{__name__}.{area}"))
        self.commands = {area: _Area(area, callback=None, help=AREAS[area]) for area in installed}


app = typer.Typer(
    cls=_Areas,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", envvar="DPP_DEBUG", help="Show tracebacks of errors.")] = False,
) -> None:
    """Provision, operate and prove the sites of the LSST Data Facility."""
    if debug:
        os.environ["DPP_DEBUG"] = "1"  # child processes (provider, engine) are to show theirs too


def main() -> int:
    """Run the command line and return its exit code: 0 done, 1 failed, 2 usage, 3 changes pending, 130 interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        _settle_in()
        app(prog_name="dpp")
    except SystemExit as end:
        if end.code == INTERRUPTED:
            return _failed("interrupted; run it again: it goes on where it was", INTERRUPTED)
        return end.code if isinstance(end.code, int) else FAILED
    except DppError as error:
        return _failed(str(error), USAGE if isinstance(error, UsageError) else FAILED)
    except Exception as error:  # noqa: BLE001 - the last resort: people get a sentence, developers --debug
        return _failed(f"internal error: {type(error).__name__}: {error}; run again with --debug to see where", FAILED)
    return DONE


def _settle_in() -> None:
    """Make up for what a terminal may lack: a locale that Ansible accepts, a name where the user id has no account."""
    os.environ["LC_ALL"] = process.LOCALE
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid{os.getuid()}"
        if not os.environ.get("HOME"):
            raise UsageError(
                "HOME", f"not set, and {name} has no account", "a folder to keep things in", "set it"
            ) from None
    for variable in ("USER", "LOGNAME"):
        os.environ.setdefault(variable, name)


def _interrupt(*_: object) -> None:
    process.end_all()
    raise KeyboardInterrupt


def _failed(message: str, code: int) -> int:
    if os.environ.get("DPP_DEBUG"):
        traceback.print_exc()
    sys.stdout.flush()
    print(f"dpp: {message}", file=sys.stderr)
    return code
