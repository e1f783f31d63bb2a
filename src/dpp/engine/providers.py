"""The providers of one operation: each is started when it is first needed, checked and configured once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dpp.engine.goal import Goal, make_urn
from dpp.engine.journal import Journal
from dpp.engine.plugin import Plugin
from dpp.engine.project import Config, Project
from dpp.engine.state import PROVIDER_TYPE, Resource, now
from dpp.engine.values import UNKNOWN, Properties, secret
from dpp.model.errors import FatalError

BUILT_IN = "pulumi"
"""Package of stack references, which the engine serves itself."""


@dataclass(frozen=True)
class Provider:
    """A configured provider: the process and the reference ``URN::ID`` that resources keep."""

    plugin: Plugin | None
    reference: str

    @property
    def process(self) -> Plugin:
        """The process.

        Raises
        ------
        FatalError
            If the engine itself is the provider.
        """
        if self.plugin is None:
            raise FatalError(self.reference, "asked for a custom resource", "stack references only")
        return self.plugin


class Providers:
    """All providers of an operation.

    Parameters
    ----------
    make
        Makes the process of a package.
    spares
        Processes that were started already, by package.
    program
        Whether a program runs, so that default providers take their configuration from the stack's; otherwise they
        take what the state has.
    """

    def __init__(
        self,
        project: Project,
        config: Config,
        journal: Journal,
        make: Callable[[str], Plugin],
        spares: dict[str, Plugin],
        *,
        preview: bool,
        program: bool,
    ) -> None:
        self._project = project
        self._config = config
        self._journal = journal
        self._make = make
        self._preview = preview
        self._program = program
        self._spares = spares
        self._all = list(spares.values())
        self._ready: dict[str, asyncio.Task[Provider]] = {}

    def _plugin(self, package: str) -> Plugin:
        if package not in self._project.plugins:
            raise FatalError(
                str(self._project.folder / "Pulumi.yaml"),
                f"no provider for package {package!r}",
                f"one of {', '.join(sorted(self._project.plugins)) or 'none'}",
                "add it under plugins.providers",
            )
        plugin = self._spares.pop(package, None)
        if plugin is None:
            plugin = self._make(package)
            self._all.append(plugin)
        return plugin

    async def of_goal(self, goal: Goal) -> Provider:
        """Return the provider of a resource that the program registers."""
        return await (self.of_reference(goal.provider) if goal.provider else self.default(goal.package))

    async def default(self, package: str) -> Provider:
        """Return the default provider of a package."""
        urn = make_urn(self._journal.state.stack, self._project.name, PROVIDER_TYPE + package, "default", "")
        return await self._once(urn, lambda: self._settle_default(urn, package))

    async def of_reference(self, reference: str) -> Provider:
        """Return the provider that a resource was made with."""
        urn, _, id_ = reference.rpartition("::")
        name, package = urn.rpartition("::")[2], urn.split("::", 3)[2].removeprefix(PROVIDER_TYPE)
        if self._program and name == "default":
            return await self.default(package)
        return await self._once(urn, lambda: self._load(urn, id_, package))

    async def register(self, goal: Goal) -> Resource:
        """Check and configure a provider that the program registers."""
        settled = self._settle(goal.urn, goal.package, goal.inputs, goal)
        await self._once(goal.urn, lambda: settled)
        found = self._journal.old(goal.urn)
        assert found is not None  # noqa: S101 - it was just settled
        return found

    async def _once(self, urn: str, start: Callable[[], Awaitable[Provider]]) -> Provider:
        if urn not in self._ready:
            self._ready[urn] = asyncio.ensure_future(start())
        return await asyncio.shield(self._ready[urn])

    async def _settle_default(self, urn: str, package: str) -> Provider:
        prefix = f"{package}:"
        inputs = {
            key.removeprefix(prefix): secret(value) if key in self._config.secret_keys else value
            for key, value in self._config.values.items()
            if key.startswith(prefix) and package != self._project.name
        }
        return await self._settle(urn, package, inputs, None)

    async def _settle(self, urn: str, package: str, inputs: Properties, goal: Goal | None) -> Provider:
        old = self._journal.old(urn)
        id_ = old.id if old else "" if self._preview else str(uuid.uuid4())
        plugin = None if package == BUILT_IN else self._plugin(package)
        if plugin:
            await plugin.handshake()
            inputs = await plugin.check_config(urn, old.inputs if old else {}, inputs)
            if old:
                diff = await plugin.diff_config(urn, old.id, old.inputs, old.outputs, inputs)
                if diff.replaces:
                    raise FatalError(
                        urn, f"its {', '.join(diff.replaces)} changed", "what its resources were made with"
                    )
            await plugin.configure(urn, id_, inputs)
        self._journal.add(self._entry(urn, id_, package, inputs, goal, old), old)
        return Provider(plugin, f"{urn}::{id_ or UNKNOWN}")

    @staticmethod
    def _entry(
        urn: str, id_: str, package: str, inputs: Properties, goal: Goal | None, old: Resource | None
    ) -> Resource:
        changed = old is None or old.inputs != inputs
        times = {"created": old.fields.get("created") if old else now()}
        times["modified"] = now() if changed or old is None else old.fields.get("modified")
        if goal:
            return goal.resource(old, id_, inputs, inputs, **times)
        fields = {"urn": urn, "custom": True, "id": id_, "type": PROVIDER_TYPE + package, **times}
        kept = {**old.fields, **fields} if old else fields
        return Resource({key: value for key, value in kept.items() if value}, inputs, inputs)

    async def _load(self, urn: str, id_: str, package: str) -> Provider:
        found = self._journal.old(urn)
        if found is None:
            raise FatalError(urn, "not in the state", "the provider of a resource that is")
        if package == BUILT_IN:
            return Provider(None, f"{urn}::{id_}")
        plugin = self._plugin(package)
        await plugin.handshake()
        await plugin.configure(urn, found.id, found.inputs)
        return Provider(plugin, f"{urn}::{id_}")

    def program_ended(self) -> None:
        """From now on providers are needed for deletions only: those of the state will do, as it has them."""
        self._program = False

    def kill(self) -> None:
        """End all processes at once."""
        for plugin in self._all:
            plugin.kill()
