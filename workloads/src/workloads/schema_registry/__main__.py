"""Serve the registry on port 8081 (``PORT``); the project's own schemas are in it before it is ready."""

from __future__ import annotations

import json
import math
import os
import sys
from functools import partial

from workloads.common import log, schemas
from workloads.common.http import serve
from workloads.common.patience import insist
from workloads.common.serve import GRACE_SECONDS, Health, Stop, run_together
from workloads.common.settings import Settings
from workloads.schema_registry.api import Registry, application
from workloads.schema_registry.log import Log
from workloads.schema_registry.store import State

LOG = log.configure("schema-registry")


def main() -> int:
    """Run the service."""
    settings, state = Settings.load(), State()
    health, stop = Health(), Stop(GRACE_SECONDS)
    records = Log(settings, state)

    def answer() -> None:
        insist(partial(_prepare, Registry(state, records), records, settings), stop, math.inf)
        port = int(os.environ.get("PORT", "8081"))
        serve(application(Registry(state, records), lambda: not health.stale()), port, stop)

    return run_together(stop, {"log": partial(records.follow, stop, health), "http": answer})


def _prepare(registry: Registry, records: Log, settings: Settings) -> None:
    """Read the log to its end and register what it lacks of the project's own schemas."""
    records.read()
    state = registry.state
    declared = [*schemas.topics(settings.site.catalogue).values(), *schemas.alerts().values()]
    missing = [one for one in declared if one.id not in state.schemas]
    if missing:
        registry.set_mode({"mode": "IMPORT"})
        for one in missing:
            registry.register(one.subject, {"schema": json.dumps(one.definition), "id": one.id})
    if state.mode == "IMPORT":
        registry.set_mode({"mode": "READWRITE"})
    LOG.info("ready with %d subjects, %d of them new", len(state.subjects), len(missing))


if __name__ == "__main__":
    sys.exit(main())
