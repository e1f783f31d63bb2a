"""Run alert distribution: the schema endpoint and the streams' state on port 8080, the watch beside it."""

from __future__ import annotations

import os
import threading

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from workloads.alert_distribution.watch import ALERTS, Lags, Watch
from workloads.broker.groups import GROUPS
from workloads.common import log, schemas
from workloads.common.kafka import Bus, Received
from workloads.common.ledger import TOPIC as LEDGER
from workloads.common.ledger import Ledger
from workloads.common.registry import RegistryClient
from workloads.common.serve import GRACE_SECONDS, Health, Stop, serve_health
from workloads.common.settings import Settings

SERVICE = "alert-distribution"
LOG = log.configure(SERVICE)


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


def main() -> None:
    """Run the service."""
    settings = Settings.load()
    _register(settings)
    bus = Bus(settings)
    sender = bus.sender(LEDGER)
    names = {detector.id: detector.name for detector in settings.site.camera.detectors}
    watch, lags = Watch(bus, Ledger(bus, SERVICE, sender), names), Lags(settings, bus.site)
    health, stop = Health(), Stop(GRACE_SECONDS)
    serve_health(health)
    port = int(os.environ.get("PORT", "8080"))
    config = uvicorn.Config(_application(lags, lags.stream), host="0.0.0.0", port=port, log_level="warning")  # noqa: S104 - a pod's own network
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, name="http", daemon=True).start()
    receiver = bus.receiver(SERVICE, ALERTS, LEDGER)
    taken: dict[tuple[str, int], Received] = {}
    while not stop:
        health.beat()
        for message in receiver.receive(timeout=0.5):
            watch.take(message)
            taken[message.topic, message.partition] = message
        watch.name_short()
        sender.flush()
        if watch.idle:  # what has been counted of an open visit comes again after a restart, which has forgotten it
            receiver.commit(*taken.values())
            taken.clear()
        lags.measure(list(GROUPS))


if __name__ == "__main__":
    main()
