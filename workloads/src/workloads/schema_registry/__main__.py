"""Serve the registry on port 8081 (``PORT``); the project's own schemas are in it before it is ready."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from functools import partial

from workloads.common import log, schemas
from workloads.common.http import serve
from workloads.common.patience import insist
from workloads.common.serve import GRACE_SECONDS, Health, Stop, run_together
from workloads.common.settings import Settings
from workloads.schema_registry.api import Registry, application
from workloads.schema_registry.copies import follow
from workloads.schema_registry.keeping import require_kept
from workloads.schema_registry.log import TOPIC, Log
from workloads.schema_registry.store import FREE_IDS, State, canonical

LOG = log.configure("schema-registry")


def main() -> int:
    """Run the service; it ends with one sentence where its log would lose ids."""
    settings = Settings.load()
    first, last = settings.site.schema_ids or FREE_IDS
    state = State(free=(first, last))
    health, stop = Health(), Stop(GRACE_SECONDS)
    records = Log(settings, state)

    prepared = threading.Event()

    def answer() -> None:
        insist(partial(_prepare, Registry(state, records), records, settings), stop, math.inf)
        prepared.set()
        port = int(os.environ.get("PORT", "8081"))
        serve(application(Registry(state, records), lambda: not health.stale()), port, stop)

    def copy(site: str) -> None:
        while not (stop or prepared.wait(0.5)):
            health.beat(f"log of {site}")
        follow(settings, site, records, state, stop, health)

    copies = {f"log of {site}": partial(copy, site) for site in settings.site.topics[TOPIC].followed_at}
    return run_together(stop, {"log": partial(records.follow, stop, health), "http": answer, **copies})


def _prepare(registry: Registry, records: Log, settings: Settings) -> None:
    """Read the log to its end and register what it lacks of the project's own schemas."""
    require_kept(settings, TOPIC)
    records.read()
    state = registry.state
    declared = [*schemas.topics(settings.site.catalogue).values(), *schemas.alerts().values()]
    missing = [one for one in declared if one.id not in state.schemas or _only_copied(state, one)]
    if missing:
        registry.set_mode({"mode": "IMPORT"})
        for one in missing:
            registry.register(one.subject, {"schema": json.dumps(one.definition), "id": one.id})
    if state.mode == "IMPORT":
        registry.set_mode({"mode": "READWRITE"})
    LOG.info("ready with %d subjects, %d of them new", len(state.subjects), len(missing))


def _only_copied(state: State, one: schemas.Declared) -> bool:
    """Say whether a declared schema is known from another site alone, which has a newer release."""
    text = json.dumps(one.definition)
    return state.knows(one.id, text) and state.lookup(one.subject, canonical(text)) is None


if __name__ == "__main__":
    sys.exit(main())
