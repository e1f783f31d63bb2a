"""The vendor's command on the same backend: used where it is installed."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from dpp.engine.environments import Environment
from dpp.engine.events import Event, Listener, Result
from dpp.engine.workspace import ignore

_VERBS = {"create-replacement": "create-replacement", "delete-replaced": "delete-replaced", "discard": "forget"}


@dataclass(frozen=True)
class VendorWorkspace:
    """Stacks of an environment, worked on by the ``pulumi`` command.

    Parameters
    ----------
    environment
        The environment.
    command
        Path of the command.
    """

    environment: Environment
    command: str

    def preview(self, stack: str, on_event: Listener = ignore, *, refresh: bool = False) -> Result:
        """Tell what `up` would do, changing nothing."""
        self._select(stack)
        result = Result("preview", stack, engine="pulumi")
        began = time.monotonic()
        done = self._run("preview", "-s", stack, "--json", *(["--refresh"] if refresh else []), capture=True)
        result.seconds = time.monotonic() - began
        try:
            plan = json.loads(done.stdout)
        except json.JSONDecodeError:
            plan = {}
        for step in plan.get("steps", ()):
            event = _planned(step)
            result.note(event)
            on_event(event)
        if done.returncode:
            found = [line["message"] for line in plan.get("diagnostics", ()) if line.get("severity") == "error"]
            result.errors = found or [done.stderr.strip() or f"pulumi preview ended with exit code {done.returncode}"]
        return result

    def up(self, stack: str, on_event: Listener = ignore, *, refresh: bool = False) -> Result:
        """Bring a stack to what its program asks for."""
        self._select(stack)
        return self._apply("up", stack, on_event, *(["--refresh"] if refresh else []))

    def refresh(self, stack: str, on_event: Listener = ignore) -> Result:
        """Read every object of a stack and note in the state what is different."""
        return self._apply("refresh", stack, on_event)

    def destroy(self, stack: str, on_event: Listener = ignore) -> Result:
        """Delete everything that a stack has."""
        return self._apply("destroy", stack, on_event)

    def _apply(self, verb: str, stack: str, on_event: Listener, *options: str) -> Result:
        """Run a verb; its lines become events, its numbers come from the history that it writes."""
        result = Result(verb, stack, engine="pulumi")
        began = time.monotonic()
        code = self._follow(on_event, verb, "-s", stack, "--yes", "--skip-preview", "--suppress-outputs", *options)
        if code:
            result.errors = [f"pulumi {verb} ended with exit code {code}"]
        for step, count in self._last_changes(stack).items():
            result.steps += [Event("step", verb=step, progress="done")] * count
        workspace = self.environment.workspace()
        result.outputs = workspace.outputs(stack) if workspace.exists(stack) else {}
        result.seconds = time.monotonic() - began
        return result

    def _follow(self, on_event: Listener, *arguments: str) -> int:
        process = subprocess.Popen(
            [self.command, *arguments, "--non-interactive"],
            cwd=self.environment.project,
            env=self._variables(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout  # noqa: S101 - it is a pipe
        for line in process.stdout:
            on_event(Event("log", message=line.rstrip()))
        return process.wait()

    def _last_changes(self, stack: str) -> dict[str, int]:
        done = self._run("stack", "history", "-s", stack, "--json", "--page-size", "1", capture=True)
        try:
            changes: dict[str, int] = json.loads(done.stdout)[0].get("resourceChanges") or {}
        except (json.JSONDecodeError, IndexError, AttributeError):
            return {}
        return changes

    def _select(self, stack: str) -> None:
        self._run("stack", "select", "--create", stack, capture=True, check=True)

    def _variables(self) -> dict[str, str]:
        variables = {**os.environ, **self.environment.variables()}
        variables.pop("PULUMI_CONFIG_PASSPHRASE", None)
        return variables

    def _run(self, *arguments: str, capture: bool, check: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.command, *arguments, "--non-interactive"],
            cwd=self.environment.project,
            env=self._variables(),
            text=True,
            capture_output=capture,
            check=check,
        )


def _planned(step: dict[str, Any]) -> Event:
    old, new = step.get("oldState") or {}, step.get("newState") or {}
    before, after = old.get("inputs") or {}, new.get("inputs") or {}
    named = step.get("diffReasons") or [key for key in {**before, **after} if before.get(key) != after.get(key)]
    diff = {key: {word: side[key] for word, side in (("old", before), ("new", after)) if key in side} for key in named}
    parent = str((new or old).get("parent", ""))
    return Event("step", step["urn"], _VERBS.get(step["op"], step["op"]), "planned", diff=diff, parent=parent)
