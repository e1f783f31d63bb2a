"""Serve the registry on port 8081 (``PORT``); the project's own schemas are in it before it is ready."""

from __future__ import annotations

import json
import os
import sys

import uvicorn

from workloads.common import log, schemas
from workloads.common.errors import WorkloadError
from workloads.common.serve import GRACE_SECONDS
from workloads.common.settings import Settings
from workloads.schema_registry.api import Registry, application
from workloads.schema_registry.copies import start_following
from workloads.schema_registry.log import Log
from workloads.schema_registry.store import FREE_IDS, State, canonical


def main() -> int:
    """Run the service; it ends with one sentence where its log would lose ids."""
    logger = log.configure("schema-registry")
    settings = Settings.load()
    first, last = settings.site.schema_ids or FREE_IDS
    state = State(free=(first, last))
    try:
        log_of_site = Log(settings, state)
        registry = Registry(state, log_of_site)
    except WorkloadError as error:
        logger.error("not served: %s", error)  # noqa: TRY400 - the text says it all
        return 1
    declared = [*schemas.topics(settings.site.catalogue).values(), *schemas.alerts().values()]
    missing = [one for one in declared if one.id not in state.schemas or _only_copied(state, one)]
    if missing:
        registry.set_mode({"mode": "IMPORT"})
        for one in missing:
            registry.register(one.subject, {"schema": json.dumps(one.definition), "id": one.id})
    if state.mode == "IMPORT":
        registry.set_mode({"mode": "READWRITE"})
    start_following(settings, log_of_site, state)
    logger.info("ready with %d subjects, %d of them new", len(state.subjects), len(missing))
    port = int(os.environ.get("PORT", "8081"))
    uvicorn.run(
        application(registry, lambda: True),
        host="0.0.0.0",  # noqa: S104 - a pod's own network
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=int(GRACE_SECONDS),
    )
    return 0


def _only_copied(state: State, one: schemas.Declared) -> bool:
    """Say whether a declared schema is known from another site alone, which has a newer release."""
    text = json.dumps(one.definition)
    return state.knows(one.id, text) and state.lookup(one.subject, canonical(text)) is None


if __name__ == "__main__":
    sys.exit(main())
