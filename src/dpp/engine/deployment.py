"""Brings a stack to what its program asks for: decides for each resource what is to do, and does it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dpp.engine.answers import Diff, Found, ProviderError
from dpp.engine.events import Event, Listener
from dpp.engine.goal import Goal
from dpp.engine.journal import Journal
from dpp.engine.paths import changed_paths, keep_ignored
from dpp.engine.plugin import Plugin
from dpp.engine.providers import Provider, Providers
from dpp.engine.state import PROVIDER_TYPE, Resource, now
from dpp.engine.values import UNKNOWN, Properties, is_secret, secret
from dpp.model.errors import DppError, FatalError


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for it, or another step failed
    """No further step begins."""


@dataclass(frozen=True)
class Outcome:
    """What a registration returns to the program."""

    urn: str
    id: str
    outputs: Properties
    stables: tuple[str, ...] = ()


@dataclass
class Deployment:
    """The steps of one operation on one stack.

    Parameters
    ----------
    journal, providers, emit
        The state, the providers, and who is told.
    preview
        Whether nothing is to be changed.
    refresh
        Whether each resource is read before it is compared.
    parallel
        How many steps change things at once.
    """

    journal: Journal
    providers: Providers
    emit: Listener
    preview: bool = False
    refresh: bool = False
    parallel: int = 8
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.parallel)
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.stopped = asyncio.Event()
        self.interrupted = False
        self.claimed: set[str] = set()
        self._replaced: set[str] = set()

    def stop(self) -> None:
        """Let no further step begin."""
        self.stopped.set()

    def fail(self, urn: str, error: Exception) -> Stopped:
        """Note an error, let no further step begin, and return what to raise."""
        message = str(error)
        self.errors.append(f"{urn.rpartition('::')[2]}: {message}" if urn and urn not in message else message)
        self.emit(Event("log", urn, message=getattr(error, "detail", ""), severity="debug"))
        self.stop()
        return Stopped(message)

    async def quiet(self) -> None:
        """Wait until no step runs."""
        await self._idle.wait()

    @asynccontextmanager
    async def step(
        self, urn: str, verb: str, diff: dict[str, Any] | None = None, parent: str = ""
    ) -> AsyncIterator[None]:
        """Tell about a step, and run it among at most `parallel` ones; a failure stops the operation."""
        if self.preview:
            self.emit(Event("step", urn, verb, "planned", diff=diff or {}, parent=parent))
        async with self._slots:
            if self.stopped.is_set():
                raise Stopped
            self._running += 1
            self._idle.clear()
            began = time.monotonic()
            if not self.preview:
                self.emit(Event("step", urn, verb, "running", diff=diff or {}, parent=parent))
            try:
                yield
            except (ProviderError, DppError) as error:
                seconds = time.monotonic() - began
                self.emit(
                    Event("step", urn, verb, "failed", str(error), diff=diff or {}, seconds=seconds, parent=parent)
                )
                raise self.fail(urn, error) from error
            finally:
                self._running -= 1
                if self._running == 0:
                    self._idle.set()
        if not self.preview:
            seconds = time.monotonic() - began
            self.emit(Event("step", urn, verb, "done", diff=diff or {}, seconds=seconds, parent=parent))

    def tell(self, urn: str, verb: str, parent: str) -> None:
        """Tell of a step that takes no time: a resource that is as it should be, or a component."""
        self.emit(Event("step", urn, verb, "planned" if self.preview else "done", parent=parent))

    async def register(self, goal: Goal) -> Outcome:
        """Bring one resource to what the program asks for.

        Raises
        ------
        Stopped
            If it failed, or something else did before.
        """
        if self.stopped.is_set():
            raise Stopped
        if goal.urn in self.claimed:
            raise self.fail(
                goal.urn, FatalError(goal.urn, "registered twice", "a name that is unique among its type and parent")
            )
        self.claimed.add(goal.urn)
        try:
            if goal.is_provider:
                resource = await self.providers.register(goal)
                return Outcome(goal.urn, resource.id or UNKNOWN, resource.outputs)
            return await self._custom(goal) if goal.custom else await self._component(goal)
        except (ProviderError, DppError) as error:
            raise self.fail(goal.urn, error) from error

    async def _component(self, goal: Goal) -> Outcome:
        old = self.journal.old(goal.urn)
        verb = "create" if old is None else "same" if old.inputs == goal.inputs else "update"
        outputs = old.outputs if old else {}
        times = {"created": old.fields.get("created") if old else now(), "modified": now()}
        if old and verb == "same":
            times["modified"] = old.fields.get("modified")
        resource = goal.resource(old, "", goal.inputs, outputs, **times)
        self.tell(goal.urn, verb, resource.parent)
        self.journal.add(resource, old)
        self.journal.save()
        return Outcome(goal.urn, "", {})

    async def _custom(self, goal: Goal) -> Outcome:
        provider = await self.providers.of_goal(goal)
        plugin, old = provider.process, self.journal.old(goal.urn)
        goal.fields["provider"] = provider.reference
        if old and self.refresh and not (old.external or old.gone):
            old = await self.reread(old, plugin)
        if old and (old.external or old.gone):
            inputs = await plugin.check(goal.urn, {}, goal.inputs)
            verb = "replace" if goal.urn in self._replaced else "create"
            return await self._create(goal, plugin, inputs, old, verb)
        olds = old.inputs if old else {}
        wanted = keep_ignored(goal.inputs, olds, goal.ignore_changes) if old else goal.inputs
        inputs = await plugin.check(goal.urn, olds, wanted)
        if old is None:
            return await self._create(goal, plugin, inputs, None)
        inputs = keep_ignored(inputs, olds, goal.ignore_changes)
        diff = await plugin.diff(goal.urn, old.id, (olds, old.outputs), inputs, goal.ignore_changes)
        changes = diff.changes if diff.changes is not None else olds != inputs
        if changes and diff.replaces:
            return await self._replace(goal, provider, diff, inputs, old)
        if changes or old.fields.get("initErrors"):
            return await self._update(goal, plugin, diff, inputs, old)
        resource = self._entry(goal, old.id, old, Found(old.id, old.outputs, inputs), modified=False)
        self.tell(goal.urn, "same", resource.parent)
        self.journal.add(resource, old)
        self.journal.save()
        return Outcome(goal.urn, old.id, old.outputs, diff.stables)

    def _entry(self, goal: Goal, id_: str, old: Resource | None, found: Found, *, modified: bool = True) -> Resource:
        outputs = {
            key: secret(value) if key in goal.secret_outputs and not is_secret(value) else value
            for key, value in found.outputs.items()
        }
        created = old.fields.get("created") if old and old.id == id_ and not old.gone else now()
        times = {"created": created, "modified": now() if modified or old is None else old.fields.get("modified")}
        errors = list(found.reasons) or None
        return goal.resource(old, id_, found.inputs, outputs, **times, initErrors=errors)

    async def _create(
        self,
        goal: Goal,
        plugin: Plugin,
        inputs: Properties,
        old: Resource | None,
        verb: str = "create",
        diff: Any = None,
    ) -> Outcome:
        """Create an object in the place of `old`; if that has an object still, it is deleted once all else is done."""
        diff = diff or {key: {"new": value} for key, value in inputs.items()}
        async with self.step(goal.urn, verb, diff, goal.fields.get("parent") or ""):
            if self.preview:
                return await self._foresee_create(goal, plugin, inputs, old)
            draft = goal.resource(None, "", inputs, {})
            operation = self.journal.begin(draft, "creating")
            try:
                found = await plugin.create(goal.urn, inputs, goal.timeouts.get("create", 0.0))
            except ProviderError as error:
                found = await self._left_by(goal.urn, plugin, inputs, error)
                self.journal.end(operation, lambda: self._keep(goal, found, old))
                raise
            resource = self._entry(goal, found.id, None, found)
            self.journal.end(operation, lambda: self._settle(resource, old))
        return Outcome(goal.urn, resource.id, resource.outputs)

    def _settle(self, new: Resource, old: Resource | None) -> None:
        beside = old is not None and not old.gone and not old.external
        self.journal.add(new, None if beside else old)
        if beside and old:
            self.journal.condemn(old)

    async def _foresee_create(self, goal: Goal, plugin: Plugin, inputs: Properties, old: Resource | None) -> Outcome:
        found = Found("", inputs, inputs)
        if plugin.previews:
            found = await plugin.create(goal.urn, inputs, 0.0, preview=True)
        self._settle(self._entry(goal, UNKNOWN, None, found), old)
        return Outcome(goal.urn, "", found.outputs)

    async def _left_by(self, urn: str, plugin: Plugin, inputs: Properties, error: ProviderError) -> Found:
        """Return what a failed creation left: what the error says, otherwise what the provider finds under the URN."""
        if error.left:
            return plugin.leftovers(error.left, inputs)
        try:
            found = await plugin.read(urn, "", (inputs, {}))
        except (ProviderError, NotImplementedError):
            return Found("")
        return Found(found.id, found.outputs, inputs, (str(error),))

    def _keep(self, goal: Goal, found: Found, old: Resource | None) -> None:
        known = {resource.id for resource in self.journal.left if resource.urn == goal.urn and not resource.gone}
        if found.id and found.id not in known:
            self._settle(self._entry(goal, found.id, None, found), old)

    async def _update(self, goal: Goal, plugin: Plugin, diff: Diff, inputs: Properties, old: Resource) -> Outcome:
        olds, timeout = (old.inputs, old.outputs), goal.timeouts.get("update", 0.0)
        shown = changed_paths(old.inputs, inputs, diff.fields, {**old.inputs, **old.outputs})
        async with self.step(goal.urn, "update", shown, goal.fields.get("parent") or ""):
            if self.preview:
                found = Found(old.id, inputs, inputs)
                if plugin.previews:
                    found = await plugin.update(goal.urn, old.id, olds, inputs, goal.ignore_changes, 0.0, preview=True)
                self.journal.add(self._entry(goal, old.id, old, found), old)
                return Outcome(goal.urn, old.id, found.outputs, diff.stables)
            operation = self.journal.begin(old, "updating")
            try:
                found = await plugin.update(goal.urn, old.id, olds, inputs, goal.ignore_changes, timeout)
            except ProviderError as error:
                reasons = [str(error)]
                kept = plugin.leftovers(error.left, old.inputs) if error.left else Found("", old.outputs, old.inputs)
                failed = old.with_fields(initErrors=reasons, outputs=kept.outputs, inputs=kept.inputs, modified=now())
                self.journal.end(operation, lambda: self.journal.amend(failed, old))
                raise
            resource = self._entry(goal, old.id, old, found)
            self.journal.end(operation, lambda: self.journal.add(resource, old))
        return Outcome(goal.urn, old.id, resource.outputs, diff.stables)

    async def _replace(self, goal: Goal, provider: Provider, diff: Diff, inputs: Properties, old: Resource) -> Outcome:
        if old.protect:
            raise FatalError(
                goal.urn,
                f"protected, but {', '.join(diff.replaces)} changed and that replaces it",
                "a resource that may go",
                "take protect off in the program and apply that first",
            )
        plugin = provider.process
        fresh = await plugin.check(goal.urn, {}, goal.inputs)
        shown = changed_paths(old.inputs, inputs, diff.fields)
        first = goal.delete_before_replace if goal.delete_before_replace is not None else diff.delete_before_replace
        if first:
            for resource in reversed([old, *await self._replaced_with(old)]):
                await self.delete(resource, "delete-replaced", partial(self._mark_gone, resource))
            return await self._create(goal, plugin, fresh, self.journal.old(goal.urn), "replace", shown)
        return await self._create(goal, plugin, fresh, old, "replace", shown)

    def _mark_gone(self, old: Resource) -> None:
        self._replaced.add(old.urn)
        self.journal.amend(old.with_fields(pendingReplacement=True), old)

    async def _replaced_with(self, root: Resource) -> list[Resource]:
        """Return the resources that must be replaced when `root` is, in order: those whose changed inputs say so."""
        replaced, found = {root.urn}, []
        for resource in self.journal.left:
            depends = {
                key: UNKNOWN
                for key, urns in resource.fields.get("propertyDependencies", {}).items()
                if replaced & set(urns)
            }
            if not depends or not resource.managed or resource.condemned or resource.urn in self.claimed:
                continue
            plugin = (await self.providers.of_reference(resource.provider)).process
            inputs = {**resource.inputs, **depends}
            diff = await plugin.diff(resource.urn, resource.id, (resource.inputs, resource.outputs), inputs, [])
            if diff.replaces:
                replaced.add(resource.urn)
                found.append(resource)
        return found

    async def delete(self, resource: Resource, verb: str, change: Callable[[], None]) -> None:
        """Delete one object and note it by `change`; what no provider manages only leaves the state."""
        if not resource.managed or resource.fields.get("retainOnDelete"):
            if self.stopped.is_set():
                raise Stopped
            if not resource.type.startswith(PROVIDER_TYPE):
                self.tell(resource.urn, verb, resource.parent)
            change()
            self.journal.save()
            return
        gone = {key: {"old": value} for key, value in resource.inputs.items()}
        async with self.step(resource.urn, verb, gone, resource.parent):
            if self.preview:
                change()
                return
            plugin = (await self.providers.of_reference(resource.provider)).process
            operation = self.journal.begin(resource, "deleting")
            timeout = resource.fields.get("customTimeouts", {}).get("delete", 0.0)
            try:
                await plugin.delete(resource.urn, resource.id, (resource.inputs, resource.outputs), timeout)
            except ProviderError:
                self.journal.end(operation, lambda: None)
                raise
            self.journal.end(operation, change)

    async def reread(self, old: Resource, plugin: Plugin) -> Resource:
        """Return `old` as it is in reality, noted in the state; one whose object is gone is marked so."""
        found = await plugin.read(old.urn, old.id, (old.inputs, old.outputs))
        if not found.id:
            new = old.with_fields(pendingReplacement=True)
            self.journal.amend(new, old)
            return new
        await plugin.diff(
            old.urn, found.id, (found.inputs, found.outputs), old.inputs, old.fields.get("ignoreChanges", [])
        )
        if (found.outputs, found.inputs) == (old.outputs, old.inputs) and found.id == old.id:
            return old
        errors = list(found.reasons) or old.fields.get("initErrors")
        new = old.with_fields(
            id=found.id, outputs=found.outputs, inputs=found.inputs, modified=now(), initErrors=errors
        )
        self.journal.amend(new, old)
        return new
