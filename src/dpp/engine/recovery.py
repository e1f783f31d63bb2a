"""Reality into the state: what an interrupted operation left, and what changed behind the state's back."""

from __future__ import annotations

import asyncio

from dpp.engine.answers import ProviderError
from dpp.engine.deployment import Deployment
from dpp.engine.events import Event
from dpp.engine.paths import changed_paths
from dpp.engine.state import Operation, Resource, now
from dpp.model.errors import DppError, FatalError


async def settle_pending(deployment: Deployment) -> None:
    """Ask the providers how the operations ended that were cut short, and note it in the state.

    A creation that left an object is adopted, and its next comparison ends in an update that finishes it; one that left
    none is forgotten. An update counts as not finished. A deletion counts as done if the object is gone.

    Raises
    ------
    Stopped
        If a provider cannot tell; then the operation stays pending.
    """
    journal = deployment.journal
    for operation in list(journal.state.pending):
        resource = operation.resource
        try:
            message = "nothing to settle" if operation.type == "reading" else await _settle(deployment, operation)
        except (ProviderError, DppError, NotImplementedError) as error:
            problem = FatalError(
                resource.urn,
                f"was cut short while {operation.type}, and its provider cannot tell what is left: {error}",
                "an answer from the provider",
                "try again when it can be reached",
            )
            raise deployment.fail(resource.urn, problem) from error
        text = f"{resource.urn.rpartition('::')[2]} was cut short while {operation.type}: {message}"
        deployment.emit(Event("log", resource.urn, message=text, severity="warning"))
    journal.save()


async def _settle(deployment: Deployment, operation: Operation) -> str:
    journal, draft = deployment.journal, operation.resource
    plugin = (await deployment.providers.of_reference(draft.provider)).process
    found = await plugin.read(
        draft.urn, "" if operation.type == "creating" else draft.id, (draft.inputs, draft.outputs)
    )
    twin = _twin(deployment, draft)
    unfinished = {"initErrors": [f"{operation.type} was cut short"], "modified": now()}
    journal.state.pending.remove(operation)
    if operation.type == "creating":
        if not found.id or any(
            known.id == found.id for known in journal.left if known.urn == draft.urn and not known.gone
        ):
            return "nothing was made"
        if twin and twin.gone:
            journal.drop(twin)
        elif twin:
            journal.condemn(twin)
        fields = {"id": found.id, "inputs": draft.inputs, "outputs": found.outputs, "created": now(), **unfinished}
        journal.adopt(draft.with_fields(**fields))
        return f"{found.id} exists; it is finished now"
    if twin is None:
        return "the state does not have it any more"
    if not found.id:
        journal.drop(twin) if twin.condemned else journal.amend(twin.with_fields(pendingReplacement=True), twin)
        return "it is gone"
    if operation.type == "updating":
        journal.amend(twin.with_fields(outputs=found.outputs, **unfinished), twin)
        return "it is updated again"
    return "it still exists"


def _twin(deployment: Deployment, draft: Resource) -> Resource | None:
    """Return the state's entry of the object that `draft` stands for."""
    if not draft.id:
        return deployment.journal.old(draft.urn)
    same = (known for known in deployment.journal.left if known.urn == draft.urn and known.id == draft.id)
    return next(same, None)


async def refresh_all(deployment: Deployment) -> None:
    """Read every object and note in the state what is different; objects that are gone leave it."""
    managed = [resource for resource in deployment.journal.left if resource.managed and not resource.condemned]
    await asyncio.gather(*(_refresh(deployment, resource) for resource in managed))
    deployment.journal.save()


async def _refresh(deployment: Deployment, old: Resource) -> None:
    if deployment.stopped.is_set():
        return
    try:
        plugin = (await deployment.providers.of_reference(old.provider)).process
        new = await deployment.reread(old, plugin)
    except (ProviderError, DppError) as error:
        deployment.emit(Event("step", old.urn, "refresh", "failed", str(error), parent=old.parent))
        deployment.fail(old.urn, error)
        return
    if new.gone:
        deployment.emit(Event("step", old.urn, "forget", "done", "its object is gone", parent=old.parent))
    elif new is old:
        deployment.emit(Event("step", old.urn, "same", "done", parent=old.parent))
    else:
        drift = changed_paths(old.outputs, new.outputs) | changed_paths(old.inputs, new.inputs)
        deployment.emit(Event("step", old.urn, "update", "done", "drifted", diff=drift, parent=old.parent))
