"""Run alert distribution: the schema endpoint and the streams' state on port 8080, the watch beside it."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from functools import partial

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from workloads.alert_distribution.watch import ALERTS, Lags, OriginReader, Watch
from workloads.broker.groups import GROUPS
from workloads.common import log, schemas
from workloads.common.aside import TOPIC as SET_ASIDE
from workloads.common.consume import Loop, ToTopic, avro
from workloads.common.http import serve
from workloads.common.kafka import Bus
from workloads.common.ledger import TOPIC as LEDGER
from workloads.common.ledger import Ledger
from workloads.common.patience import insist
from workloads.common.registry import RegistryClient
from workloads.common.serve import GRACE_SECONDS, Health, Stop, run_together, serve_health
from workloads.common.settings import Settings

SERVICE = "alert-distribution"
LOG = log.configure(SERVICE)
_MOST = 2000
"""Messages that are taken at once: a visit has thousands of alerts."""


def _application(lags: Lags, stream: str) -> Starlette:
    declared = schemas.alerts()

    async def index(_: Request) -> Response:
        return JSONResponse({version: {"id": one.id, "subject": one.subject} for version, one in declared.items()})

    async def schema(request: Request) -> Response:
        wanted = request.path_params["version"]
        found = next((one for version, one in declared.items() if wanted in (version, str(one.id))), None)
        if found is None:
            return JSONResponse(
                {"error": f"schema {wanted}: unknown; expected one of {', '.join(declared)}"}, status_code=404
            )
        return JSONResponse(found.definition)

    async def streams(_: Request) -> Response:
        return JSONResponse({"topic": stream, "lag": lags.current})

    return Starlette(routes=[Route("/schemas", index), Route("/schemas/{version}", schema), Route("/streams", streams)])


def _register(settings: Settings) -> None:
    """Make sure that the stream's subject has the current schema, under the id that packets carry."""
    registry = RegistryClient(settings.service("schema-registry"))
    newest = list(schemas.alerts().values())[-1]
    subject = f"{settings.site.topics[ALERTS].name}-value"
    found = registry.register(subject, newest.definition)
    if found != newest.id:
        raise SystemExit(f"schema registry: subject {subject} has id {found}, expected {newest.id}")


def main() -> int:
    """Run the service."""
    settings = Settings.load()
    health, stop = Health(), Stop(GRACE_SECONDS)
    serve_health(health)
    bus, lags = Bus(settings), Lags(settings, settings.site.site)
    application = _application(lags, lags.stream)

    def watch() -> None:
        insist(partial(_register, settings), stop, math.inf)
        health.ready()
        _watch(bus, stop, health)

    loops: dict[str, Callable[[], None]] = {
        "watch": watch,
        "lags": partial(_measure, lags, stop, health),
        "http": partial(serve, application, int(os.environ.get("PORT", "8080")), stop),
    }
    return run_together(stop, loops)


def _watch(bus: Bus, stop: Stop, health: Health) -> None:
    sender = bus.sender(LEDGER, SET_ASIDE)
    names = {detector.id: detector.name for detector in bus.settings.site.camera.detectors}
    watch, receiver = Watch(Ledger(bus, SERVICE, sender), names, SERVICE), bus.receiver(SERVICE, ALERTS, LEDGER)
    loop = Loop(
        receiver,
        {ALERTS: OriginReader(RegistryClient(bus.settings.service("schema-registry"))), **avro(bus, LEDGER)},
        watch.take,
        ToTopic(bus, receiver, sender),
        most=_MOST,
        oldest_open=watch.oldest_open,
    )
    caught_up = False
    while not stop:
        health.beat("watch")
        loop.turn()
        caught_up = caught_up or (receiver.caught_up and not loop.waiting)
        if caught_up:  # until then, a visit that was answered before a restart looks like one that was not
            watch.answer()
            sender.flush()
        loop.commit()


def _measure(lags: Lags, stop: Stop, health: Health) -> None:
    while not stop.wait(1.0):
        health.beat("lags")
        lags.measure(list(GROUPS))


if __name__ == "__main__":
    sys.exit(main())
