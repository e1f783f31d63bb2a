"""Deletion of what the program does not ask for any more: reverse order of need, side by side where nothing binds."""

from __future__ import annotations

import asyncio

from dpp.engine.deployment import Deployment, Stopped
from dpp.engine.state import Resource
from dpp.model.errors import FatalError


async def delete_all(deployment: Deployment, doomed: list[Resource]) -> None:
    """Delete the resources of `doomed`; each goes when everything that needs it is gone.

    Raises
    ------
    Stopped
        If one is protected or cannot be deleted; then what it needs stays too.
    """
    if protected := [resource.urn for resource in doomed if resource.protect]:
        error = FatalError(
            ", ".join(protected),
            "protected from deletion",
            "resources that may go",
            "take protect off in the program and apply that first",
        )
        raise deployment.fail("", error)
    tasks: dict[int, asyncio.Task[None]] = {}
    for position in reversed(range(len(doomed))):
        resource = doomed[position]
        waits = [tasks[later] for later in range(position + 1, len(doomed)) if resource.urn in doomed[later].needs()]
        tasks[position] = asyncio.create_task(_delete(deployment, resource, waits))
    results = await asyncio.gather(*tasks.values(), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, Stopped):
            raise result
    if any(isinstance(result, Stopped) for result in results):
        raise Stopped


async def _delete(deployment: Deployment, resource: Resource, waits: list[asyncio.Task[None]]) -> None:
    for task in waits:
        try:
            await asyncio.shield(task)
        except Stopped:
            raise Stopped from None  # somebody that needs this resource still stands
    verb = "forget" if resource.external or resource.gone else "delete-replaced" if resource.condemned else "delete"
    await deployment.delete(resource, verb, lambda: deployment.journal.drop(resource))
