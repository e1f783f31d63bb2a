"""One operation on one stack from start to end: what takes long to start is started first, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dpp.engine import references
from dpp.engine.apply import Session, interruptible
from dpp.engine.backend import Backend
from dpp.engine.deployment import Deployment, Stopped
from dpp.engine.events import Event, Listener, Result
from dpp.engine.journal import Journal
from dpp.engine.monitor import Monitor, Run
from dpp.engine.passphrase import Passphrase, read_passphrase
from dpp.engine.plugin import Plugin
from dpp.engine.program import Program
from dpp.engine.project import Config, Project
from dpp.engine.providers import BUILT_IN, Providers
from dpp.engine.state import State
from dpp.engine.transcript import Transcript
from dpp.model.errors import DppError, FatalError

Work = Callable[[Session], Awaitable[None]]


@dataclass
class Operation:
    """An operation.

    Parameters
    ----------
    project, backend, variables
        Where program, state and passphrase are.
    config
        The stack's configuration, its secrets still sealed.
    result
        Gets the steps as they end, and how it all ended.
    listener
        Gets every event.
    preview, refresh
        Whether nothing is to be changed, and whether each resource is read before it is compared.
    program
        Whether the program runs.
    parallel
        How many steps change things at once.
    """

    project: Project
    backend: Backend
    variables: Mapping[str, str]
    config: Config
    result: Result
    listener: Listener
    preview: bool = False
    refresh: bool = False
    program: bool = True
    parallel: int = 8
    _plugins: list[Plugin] = field(default_factory=list)

    async def run(self, work: Work) -> None:
        """Do `work`, and leave the state as it is then on disk.

        Raises
        ------
        DppError
            If nothing was begun, or the state cannot be written.
        """
        stack = self.result.stack
        transcript = Transcript(self.variables.get("PULUMI_DEBUG_GRPC"))
        monitor = Monitor(transcript)
        program = Program(self.project, self.config, self.variables, self._line)
        try:
            await monitor.start()
            found = self.backend.read(stack)
            make = self._maker(monitor.address, transcript)
            spares = {package: make(package) for package in self._needed(found)}
            for plugin in spares.values():
                plugin.start()
            if self.program:
                await program.start()
            state = await asyncio.to_thread(self._open, found)
            journal = Journal(state, None if self.preview else self.backend, self._emit)
            providers = Providers(
                self.project, self.config, journal, make, spares, preview=self.preview, program=self.program
            )
            deployment = Deployment(journal, providers, self._emit, self.preview, self.refresh, self.parallel)
            monitor.serve(Run(self.project, self.config, stack, deployment, self._reference))
            await self._work(work, Session(stack, deployment, monitor, program))
        finally:
            await program.stop()
            await asyncio.gather(*(plugin.stop() for plugin in self._plugins))
            await monitor.stop()
            transcript.close()

    async def _work(self, work: Work, session: Session) -> None:
        deployment = session.deployment
        with interruptible(deployment):
            try:
                await work(session)
            except Stopped:
                pass
            except DppError as error:
                deployment.fail("", error)
            await deployment.quiet()
        deployment.journal.save(always=True)
        self.result.errors = list(dict.fromkeys(deployment.errors))
        self.result.outputs = deployment.journal.state.outputs

    def _emit(self, event: Event) -> None:
        self.result.note(event)
        self.listener(event)

    def _line(self, text: str) -> None:
        self._emit(Event("log", message=text))

    def _maker(self, address: str, transcript: Transcript) -> Callable[[str], Plugin]:
        owner = str(self.backend.checkpoint(self.result.stack))

        def make(package: str) -> Plugin:
            folder = self.project.plugins[package]
            plugin = Plugin(package, folder, self.project.home, address, owner, self.variables, transcript, self._line)
            self._plugins.append(plugin)
            return plugin

        return make

    def _needed(self, found: dict[str, Any] | None) -> set[str]:
        """Return the packages whose provider the state's resources will need."""
        resources = ((found or {}).get("checkpoint", {}).get("latest") or {}).get("resources") or ()
        packages = {str(resource["type"]).partition(":")[0] for resource in resources if resource.get("custom")}
        return packages & self.project.plugins.keys() - {BUILT_IN}

    def _open(self, found: dict[str, Any] | None) -> State:
        """Open configuration and state; deriving the key takes a third of a second, so this runs in a thread."""
        stack, config = self.result.stack, self.config
        passphrase = read_passphrase(self.variables)
        chosen = Passphrase(passphrase, config.salt, str(config.path)) if config.salt else None
        if chosen:
            chosen.verify()
            config.unseal(chosen)
        elif config.sealed:
            raise FatalError(str(config.path), "has secrets but no encryptionsalt", "the salt that they were made with")
        if found is None and not self.program:
            raise FatalError(stack, f"never applied in {self.backend.folder}", "a stack with a state")
        if found is None:
            secrets = chosen or Passphrase.create(passphrase, str(self.backend.checkpoint(stack)))
            return State(stack, self.project.name, secrets)
        return references.open_state(self.backend, stack, found, passphrase, chosen)

    def _reference(self, name: str) -> dict[str, Any]:
        return references.read_outputs(self.backend, name, read_passphrase(self.variables))
