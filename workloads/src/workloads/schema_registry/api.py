"""The HTTP interface, as clients of the Confluent registry expect it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from workloads.schema_registry.store import RegistryError, State, canonical

_MODES = ("READWRITE", "READONLY", "IMPORT")
_MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"


class Appender(Protocol):
    """Where changes are written before they count."""

    def append(self, key: dict[str, Any], value: dict[str, Any]) -> None:
        """Write one record and return when it is applied."""


class Registry:
    """Answers requests from a state and writes changes to a log.

    Parameters
    ----------
    state
        What is known.
    log
        Where changes go.
    """

    def __init__(self, state: State, log: Appender) -> None:
        self.state = state
        self._log = log
        self._lock = threading.Lock()

    def register(self, subject: str, body: dict[str, Any]) -> dict[str, Any]:
        """Register a schema; the same schema again is the same answer."""
        if body.get("schemaType", "AVRO") != "AVRO":
            raise RegistryError(422, 42201, f"schemaType {body['schemaType']}: only AVRO is served here")
        schema = canonical(str(body.get("schema", "")))
        wanted = int(body["id"]) if body.get("id", -1) not in (None, -1) else None
        with self._lock:
            entry, new = self.state.plan(subject, schema, wanted)
            if new:
                key = {"kind": "schema", "subject": subject, "version": entry.version}
                self._log.append(key, {"id": entry.id, "schema": entry.schema})
        return {"id": entry.id}

    def lookup(self, subject: str, body: dict[str, Any]) -> dict[str, Any]:
        """Say whether and as what a schema is registered."""
        self.state.versions(subject)
        entry = self.state.lookup(subject, canonical(str(body.get("schema", ""))))
        if entry is None:
            raise RegistryError(404, 40403, "Schema not found")
        return entry.public()

    def set_mode(self, body: dict[str, Any]) -> dict[str, Any]:
        """Change the mode."""
        if body.get("mode") not in _MODES:
            raise RegistryError(422, 42204, f"Invalid mode {body.get('mode')}; expected one of {', '.join(_MODES)}")
        with self._lock:
            self._log.append({"kind": "mode"}, {"mode": body["mode"]})
        return {"mode": self.state.mode}

    def set_compatibility(self, subject: str, body: dict[str, Any]) -> dict[str, Any]:
        """Change the compatibility level of a subject, or of all for the empty one."""
        if body.get("compatibility") != "NONE":
            raise RegistryError(422, 42203, f"Compatibility {body.get('compatibility')}: this registry keeps to NONE")
        with self._lock:
            self._log.append({"kind": "config", "subject": subject}, {"compatibility": "NONE"})
        return {"compatibility": "NONE"}


def application(registry: Registry, ready: Callable[[], bool]) -> Starlette:
    """Return the ASGI application; `ready` is what `/healthz` says."""
    state = registry.state

    def get(path: str, answer: Callable[[dict[str, str]], Any]) -> Route:
        async def endpoint(request: Request) -> Response:
            return _answer(answer(_parameters(request)))

        return Route(path, endpoint, methods=["GET"])

    def change(method: str, path: str, answer: Callable[[dict[str, str], dict[str, Any]], Any]) -> Route:
        async def endpoint(request: Request) -> Response:
            body = await request.json()
            return _answer(await run_in_threadpool(answer, _parameters(request), body))

        return Route(path, endpoint, methods=[method])

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok" if ready() else "reading the log", status_code=200 if ready() else 503)

    routes = [
        Route("/healthz", health),
        get("/", lambda _: {}),
        get("/subjects", lambda _: sorted(state.subjects)),
        get("/subjects/{subject}/versions", lambda p: [entry.version for entry in state.versions(p["subject"])]),
        get("/subjects/{subject}/versions/{version}", lambda p: state.entry(p["subject"], p["version"]).public()),
        get("/schemas/types", lambda _: ["AVRO"]),
        get("/schemas/ids/{id}", lambda p: {"schema": state.schema(_number(p["id"]))}),
        get("/schemas/ids/{id}/versions", lambda p: _used(state, _number(p["id"]))),
        get("/mode", lambda _: {"mode": state.mode}),
        get("/mode/{subject}", lambda _: {"mode": state.mode}),
        get("/config", lambda _: {"compatibilityLevel": state.compatibility[""]}),
        get("/config/{subject}", lambda p: {"compatibilityLevel": state.compatibility.get(p["subject"], "NONE")}),
        change("POST", "/subjects/{subject}/versions", lambda p, body: registry.register(p["subject"], body)),
        change("POST", "/subjects/{subject}", lambda p, body: registry.lookup(p["subject"], body)),
        change("PUT", "/mode", lambda _, body: registry.set_mode(body)),
        change("PUT", "/config", lambda _, body: registry.set_compatibility("", body)),
        change("PUT", "/config/{subject}", lambda p, body: registry.set_compatibility(p["subject"], body)),
    ]
    return Starlette(routes=routes, exception_handlers={RegistryError: _refused})


def _parameters(request: Request) -> dict[str, str]:
    return {name: str(value) for name, value in request.path_params.items()}


def _answer(content: Any) -> JSONResponse:
    return JSONResponse(content, media_type=_MEDIA_TYPE)


async def _refused(_: Request, error: Exception) -> Response:
    refused = error if isinstance(error, RegistryError) else RegistryError(500, 50001, str(error))
    body = {"error_code": refused.code, "message": str(refused)}
    return JSONResponse(body, status_code=refused.status, media_type=_MEDIA_TYPE)


def _number(text: str) -> int:
    if not text.isdigit():
        raise RegistryError(404, 40403, f"Schema {text} not found.")
    return int(text)


def _used(state: State, schema_id: int) -> list[dict[str, Any]]:
    state.schema(schema_id)
    entries = [entry for versions in state.subjects.values() for entry in versions if entry.id == schema_id]
    return [{"subject": entry.subject, "version": entry.version} for entry in entries]
