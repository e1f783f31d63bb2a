"""The offline engine's front: operations on the stacks of one project."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpp.engine import cleanup, recovery, references
from dpp.engine.apply import Session, apply
from dpp.engine.backend import Backend
from dpp.engine.events import Event, Listener, Result
from dpp.engine.locks import Holder
from dpp.engine.operation import Operation, Work
from dpp.engine.passphrase import Passphrase, read_passphrase
from dpp.engine.processes import end_leftovers
from dpp.engine.project import Config, Project
from dpp.engine.state import State, decode
from dpp.engine.values import Properties, reveal
from dpp.model.errors import FatalError


def ignore(event: Event) -> None:
    """Listen to nothing."""


@dataclass
class Workspace:
    """Stacks of one project in one backend.

    Parameters
    ----------
    project_dir
        Folder of Pulumi.yaml.
    backend_url
        ``file://`` URL of the folder that keeps the states.
    passphrase_file
        File with the passphrase of the secrets; by default what the environment names.
    environment
        Variables that program and providers get beside those of this process.
    config_file
        Configuration of the stacks; by default ``Pulumi.STACK.yaml`` where the project keeps them.
    parallel
        How many steps change things at once.
    """

    project_dir: Path
    backend_url: str
    passphrase_file: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    config_file: Path | None = None
    parallel: int = 8

    def __post_init__(self) -> None:
        self.project = Project.load(self.project_dir)
        self.backend = Backend.open(self.backend_url, self.project.name)

    @property
    def variables(self) -> dict[str, str]:
        """Environment of program and providers."""
        found = {**os.environ, **self.environment, "PULUMI_BACKEND_URL": self.backend_url}
        if self.passphrase_file:
            found.pop("PULUMI_CONFIG_PASSPHRASE", None)
            found["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(self.passphrase_file)
        return found

    def preview(self, stack: str, on_event: Listener = ignore, *, refresh: bool = False) -> Result:
        """Tell what `up` would do, changing nothing."""
        return self._operate("preview", stack, on_event, apply, preview=True, refresh=refresh)

    def up(self, stack: str, on_event: Listener = ignore, *, refresh: bool = False) -> Result:
        """Bring a stack to what its program asks for.

        Parameters
        ----------
        refresh
            Read every object before it is compared.

        Returns
        -------
        Result
            Also when steps failed: what was done before is kept, and `Result.errors` says what was not.

        Raises
        ------
        DppError
            If nothing was begun: wrong passphrase, a stack that is locked, a damaged state.
        """
        return self._operate("up", stack, on_event, apply, refresh=refresh)

    def refresh(self, stack: str, on_event: Listener = ignore) -> Result:
        """Read every object of a stack and note in the state what is different."""

        async def work(session: Session) -> None:
            await recovery.settle_pending(session.deployment)
            await recovery.refresh_all(session.deployment)
            for resource in [found for found in session.deployment.journal.left if found.gone]:
                if not any(resource.urn in other.needs() for other in session.deployment.journal.left):
                    session.deployment.journal.drop(resource)

        return self._operate("refresh", stack, on_event, work, program=False)

    def destroy(self, stack: str, on_event: Listener = ignore, *, preview: bool = False) -> Result:
        """Delete everything that a stack has."""

        async def work(session: Session) -> None:
            await recovery.settle_pending(session.deployment)
            await cleanup.delete_all(session.deployment, session.deployment.journal.left)

        return self._operate("destroy", stack, on_event, work, program=False, preview=preview)

    def outputs(self, stack: str, *, show_secrets: bool = False) -> Properties:
        """Return what a stack exports; secrets marked unless they are to be shown."""
        outputs = self._state(stack).outputs
        return dict(reveal(outputs)) if show_secrets else outputs

    def exists(self, stack: str) -> bool:
        """Return whether a stack has a state."""
        return self.backend.checkpoint(stack).exists()

    def export(self, stack: str) -> dict[str, Any]:
        """Return the state of a stack in the vendor's exchange form, secrets encrypted."""
        return {"version": 3, "deployment": self._state(stack).encoded()}

    def import_(self, stack: str, exported: Mapping[str, Any]) -> int:
        """Replace the state of a stack by an exported one and return the number of its resources.

        Raises
        ------
        FatalError
            If it is no export, belongs to another stack, or its secrets do not open.
        """
        deployment = exported.get("deployment")
        if exported.get("version") != 3 or not isinstance(deployment, dict):
            raise FatalError("import", "no exported state", 'JSON with "version": 3 and "deployment"')
        for found in deployment.get("resources") or ():
            if not str(found.get("urn")).startswith(f"urn:pulumi:{stack}::{self.project.name}::"):
                raise FatalError("import", f"resource {found.get('urn')}", f"resources of stack {stack}")
        passphrase = read_passphrase(self.variables)
        salt = references.salt_of(deployment)
        secrets = Passphrase(passphrase, salt, "import") if salt else Passphrase.create(passphrase, "import")
        secrets.verify()
        state = decode(deployment, secrets, State(stack, self.project.name, secrets))
        with self.backend.locked(stack):
            self.backend.write(stack, state.text())
        return len(state.resources)

    def cancel(self, stack: str) -> list[Holder]:
        """Break locks whose process is gone and return who held them."""
        return self.backend.locks(stack).cancel()

    def _state(self, stack: str) -> State:
        found = self.backend.read(stack)
        if found is None:
            known = ", ".join(self.backend.stacks()) or "none"
            raise FatalError(stack, f"never applied (stacks in {self.backend.folder}: {known})", "a stack with a state")
        return references.open_state(self.backend, stack, found, read_passphrase(self.variables))

    def _operate(
        self,
        operation: str,
        stack: str,
        on_event: Listener,
        work: Work,
        *,
        preview: bool = False,
        refresh: bool = False,
        program: bool = True,
    ) -> Result:
        result = Result(operation, stack)
        began, started = time.monotonic(), int(time.time())
        with ExitStack() as held:
            if not preview:
                held.enter_context(self.backend.locked(stack))
                end_leftovers(str(self.backend.checkpoint(stack)))
            config = Config.load(self.project, self.config_file or self.project.config_file(stack))
            running = Operation(
                self.project,
                self.backend,
                self.variables,
                config,
                result,
                on_event,
                preview=preview,
                refresh=refresh,
                program=program,
                parallel=self.parallel,
            )
            asyncio.run(running.run(work))
            result.seconds = time.monotonic() - began
            if not preview:
                self.backend.record(stack, _history(result, started))
        return result


def _history(result: Result, started: int) -> dict[str, Any]:
    kinds = {"up": "update"}
    return {
        "kind": kinds.get(result.operation, result.operation),
        "startTime": started,
        "message": "",
        "environment": {"engine": "dpp"},
        "config": {},
        "result": "succeeded" if result.ok else "failed",
        "endTime": int(time.time()),
        "resourceChanges": result.counts,
    }
