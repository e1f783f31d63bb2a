"""Single stacks: preview, apply, refresh, destroy, and their states."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from dpp.adapters.pulumi.backend import environment_of
from dpp.adapters.pulumi.events import Listener, Result, ignore, mask
from dpp.adapters.pulumi.stacks import Stacks
from dpp.cli.display import Display
from dpp.cli.output import JsonOption, print_json
from dpp.model.environment import Environment
from dpp.model.errors import UsageError
from dpp.operations.stacks import backend_of, stacks_of

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Preview, apply, refresh and destroy single stacks.")

Stack = Annotated[str, typer.Argument(metavar="STACK", help="Name of the stack: <environment>.<unit>, as lab.wan.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
Full = Annotated[bool, typer.Option("--diff", help="Show whole differences and what the engine notes.")]
ExpectNone = Annotated[bool, typer.Option("--expect-no-changes", help="Fail if anything changes, or would.")]
Reread = Annotated[bool, typer.Option("--refresh", help="Read every object before it is compared.")]
Parallel = Annotated[int, typer.Option("--parallel", min=1, help="How many steps change things at once.")]
Wait = Annotated[bool, typer.Option("--wait-for-lock", help="Wait for others that work on it, in place of an error.")]
Target = Annotated[list[str] | None, typer.Option("--target", hidden=True)]

_PENDING = 3


def _stacks(stack: str, *, changing: bool, parallel: int = 8, wait: bool = False) -> Stacks:
    """Return the stacks that one belongs to; for a verb that changes something only where that is permitted."""
    environment = Environment.load(environment_of(stack))
    if changing:
        environment.require_apply()
    return stacks_of(environment, parallel=parallel, wait=wait)


def _refuse_targets(target: list[str] | None) -> None:
    if target:
        raise UsageError(
            "--target", "part of a stack", "whole stacks", "a stack is applied as a whole; split it if it is too large"
        )


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
    stacks = _stacks(stack, changing=False)
    result = _shown(partial(stacks.preview, stack, refresh=refresh), as_json, diff)
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
    wait_for_lock: Wait = False,
    target: Target = None,
) -> None:
    """Bring a stack to what its program asks for. Interrupted or killed, it goes on where it was."""
    _refuse_targets(target)
    stacks = _stacks(stack, changing=True, parallel=parallel, wait=wait_for_lock)
    if not yes:
        planned = _shown(partial(stacks.preview, stack, refresh=refresh), as_json, diff)
        _end(planned)
        if planned.changes:
            _confirm(f"Apply to {stack}?", yes, as_json)
    _end(_shown(partial(stacks.up, stack, refresh=refresh), as_json, diff), expect_no_changes)


@app.command()
def refresh(
    stack: Stack,
    as_json: JsonOption = False,
    diff: Full = False,
    expect_no_changes: ExpectNone = False,
    wait_for_lock: Wait = False,
    target: Target = None,
) -> None:
    """Read every object of a stack, show what drifted, and note it in the state; the next `up` repairs it."""
    _refuse_targets(target)
    stacks = _stacks(stack, changing=True, wait=wait_for_lock)
    _end(_shown(partial(stacks.refresh, stack), as_json, diff), expect_no_changes)


@app.command()
def destroy(
    stack: Stack,
    yes: Yes = False,
    as_json: JsonOption = False,
    diff: Full = False,
    wait_for_lock: Wait = False,
    target: Target = None,
) -> None:
    """Delete everything that a stack has."""
    _refuse_targets(target)
    stacks = _stacks(stack, changing=True, wait=wait_for_lock)
    _confirm(f"Delete everything that {stack} has?", yes, as_json)
    _end(_shown(partial(stacks.destroy, stack), as_json, diff))


@app.command()
def cancel(stack: Stack, as_json: JsonOption = False) -> None:
    """Break the lock of an operation whose process is gone."""
    broken = _stacks(stack, changing=False).cancel(stack)
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
    found = mask(_stacks(stack, changing=False).outputs(stack, show_secrets=show_secrets))
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
    """Print a stack's state in the engine's exchange form, secrets encrypted."""
    print_json(_stacks(stack, changing=False).export(stack))


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
    count = _stacks(stack, changing=True).import_(stack, exported)
    if as_json:
        print_json({"stack": stack, "imported": count})
    else:
        print(f"{stack}: {count} resources imported")


@app.command()
def env(
    environment: Annotated[str, typer.Argument(help="An environment, as lab, or one of its stacks.")],
) -> None:
    """Print the shell exports that the plain `pulumi` command needs: eval "$(dpp stack env lab)"."""
    print(backend_of(Environment.load(environment.partition(".")[0])).exports())
