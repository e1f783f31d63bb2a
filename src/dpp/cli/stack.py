"""Single stacks: preview, apply, refresh, destroy, and their states."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from dpp.cli.output import JsonOption, print_json
from dpp.engine.display import Display
from dpp.engine.environments import Environment, vendor_command
from dpp.engine.events import Listener, Result
from dpp.engine.values import mask
from dpp.engine.vendor import VendorWorkspace
from dpp.engine.workspace import Workspace, ignore
from dpp.model.errors import UsageError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Preview, apply, refresh and destroy single stacks.")

Stack = Annotated[str, typer.Argument(metavar="STACK", help="Name of the stack: <environment>.<unit>, as lab.wan.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
Full = Annotated[bool, typer.Option("--diff", help="Show whole differences and what the engine notes.")]
ExpectNone = Annotated[bool, typer.Option("--expect-no-changes", help="Fail if anything changes, or would.")]
Reread = Annotated[bool, typer.Option("--refresh", help="Read every object before it is compared.")]
Parallel = Annotated[int, typer.Option("--parallel", min=1, help="How many steps change things at once.")]
Target = Annotated[list[str] | None, typer.Option("--target", hidden=True)]

_PENDING = 3


def workspace_of(stack: str, parallel: int = 8) -> Workspace | VendorWorkspace:
    """Return the engine for a stack: the vendor's command where it is to be used, else the offline one."""
    environment = Environment.of_stack(stack)
    command = vendor_command()
    return VendorWorkspace(environment, command) if command else environment.workspace(parallel)


def require_apply(environment: str) -> None:
    """Refuse, with a ``FatalError``, to change an environment that does not exist or is for previews only."""
    from dpp.model.environment import Environment as Inventory  # noqa: PLC0415 - only verbs that change things need it

    Inventory.load(environment).require_apply()


def _refuse_targets(target: list[str] | None) -> None:
    if target:
        raise UsageError(
            "--target", "part of a stack", "whole stacks", "a stack is applied as a whole; split it if it is too large"
        )


def _changing(stack: str, target: list[str] | None, parallel: int = 8) -> Workspace | VendorWorkspace:
    """Return the engine for a verb that changes a stack or its state."""
    _refuse_targets(target)
    workspace = workspace_of(stack, parallel)
    require_apply(stack.partition(".")[0])
    return workspace


def _confirm(question: str, yes: bool, as_json: bool) -> None:
    if yes:
        return
    if as_json or not sys.stdin.isatty():
        raise UsageError("--yes", "not given", "consent", "there is nobody to ask here")
    typer.confirm(question, abort=True)


def _shown(operation: Callable[[Listener], Result], as_json: bool, full: bool) -> Result:
    """Run an operation under a display, or silently where JSON is wanted, and show its result."""
    if as_json:
        result = operation(ignore)
        print_json(result.as_json())
        return result
    with Display(full=full) as display:
        result = operation(display)
    if result.engine == "dpp" or result.operation == "preview":
        display.finish(result)
    return result


def _end(result: Result, expect_none: bool = False) -> None:
    unexpected = expect_none and result.changes
    if unexpected:
        print(f"{result.stack}: {result.changes} changes, expected none", file=sys.stderr)
    if not result.ok or unexpected:
        raise typer.Exit(1)


@app.command()
def preview(
    stack: Stack,
    as_json: JsonOption = False,
    diff: Full = False,
    refresh: Reread = False,
    expect_no_changes: ExpectNone = False,
    target: Target = None,
) -> None:
    """Show what `up` would do. Exit code 3 if it would change something."""
    _refuse_targets(target)
    result = _shown(partial(workspace_of(stack).preview, stack, refresh=refresh), as_json, diff)
    _end(result, expect_no_changes)
    if result.changes:
        raise typer.Exit(_PENDING)


@app.command()
def up(
    stack: Stack,
    yes: Yes = False,
    as_json: JsonOption = False,
    diff: Full = False,
    refresh: Reread = False,
    expect_no_changes: ExpectNone = False,
    parallel: Parallel = 8,
    target: Target = None,
) -> None:
    """Bring a stack to what its program asks for. Interrupted or killed, it goes on where it was."""
    workspace = _changing(stack, target, parallel)
    if not yes:
        planned = _shown(partial(workspace.preview, stack, refresh=refresh), as_json, diff)
        _end(planned)
        if planned.changes:
            _confirm(f"Apply to {stack}?", yes, as_json)
    _end(_shown(partial(workspace.up, stack, refresh=refresh), as_json, diff), expect_no_changes)


@app.command()
def refresh(
    stack: Stack,
    as_json: JsonOption = False,
    diff: Full = False,
    expect_no_changes: ExpectNone = False,
    target: Target = None,
) -> None:
    """Read every object of a stack, show what drifted, and note it in the state; the next `up` repairs it."""
    workspace = _changing(stack, target)
    _end(_shown(partial(workspace.refresh, stack), as_json, diff), expect_no_changes)


@app.command()
def destroy(
    stack: Stack, yes: Yes = False, as_json: JsonOption = False, diff: Full = False, target: Target = None
) -> None:
    """Delete everything that a stack has."""
    workspace = _changing(stack, target)
    _confirm(f"Delete everything that {stack} has?", yes, as_json)
    _end(_shown(partial(workspace.destroy, stack), as_json, diff))


@app.command()
def cancel(stack: Stack, as_json: JsonOption = False) -> None:
    """Break the lock of an operation whose process is gone."""
    broken = Environment.of_stack(stack).workspace().cancel(stack)
    if as_json:
        print_json([str(holder) for holder in broken])
    else:
        print("\n".join(f"broke the lock of {holder}" for holder in broken) or f"{stack}: nobody holds it")


@app.command()
def outputs(
    stack: Stack,
    as_json: JsonOption = False,
    show_secrets: Annotated[bool, typer.Option("--show-secrets", help="Show secrets in plain text.")] = False,
) -> None:
    """Show what a stack exports to other stacks and people."""
    found = mask(Environment.of_stack(stack).workspace().outputs(stack, show_secrets=show_secrets))
    if as_json:
        print_json(found)
    else:
        print(
            "\n".join(
                f"{key}: {value if isinstance(value, str) else json.dumps(value)}"
                for key, value in sorted(found.items())
            )
        )


@app.command("export")
def export_(stack: Stack) -> None:
    """Print a stack's state in the vendor's exchange form, secrets encrypted."""
    print_json(Environment.of_stack(stack).workspace().export(stack))


@app.command("import")
def import_(
    stack: Stack,
    file: Annotated[typer.FileText, typer.Argument(help="An exported state; - for standard input.")],
    as_json: JsonOption = False,
) -> None:
    """Replace a stack's state by an exported one; the former one goes to the backups."""
    try:
        exported = json.load(file)
    except json.JSONDecodeError as error:
        raise UsageError(file.name, f"no JSON: {error}", "what `dpp stack export` printed") from error
    count = Environment.of_stack(stack).workspace().import_(stack, exported)
    if as_json:
        print_json({"stack": stack, "imported": count})
    else:
        print(f"{stack}: {count} resources imported")


@app.command()
def env(
    environment: Annotated[str, typer.Argument(help="An environment, as lab, or one of its stacks.")],
) -> None:
    """Print the shell exports that the plain `pulumi` command needs: eval "$(dpp stack env lab)"."""
    name = environment.partition(".")[0]
    if not (Path(Environment.named(name).project) / "inventories" / name / "hosts.yml").is_file():
        raise UsageError("environment", repr(name), "a folder of inventories/")
    print(Environment.named(name).exports())
