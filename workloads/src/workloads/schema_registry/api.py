"""The HTTP interface, as clients of the Confluent registry expect it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from workloads.schema_registry.store import RegistryError, State, canonical

_MODES = ("READWRITE", "READONLY", "IMPORT")
_DIGITS = 10
"""At most, of an id: below 2**31."""
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
        schema, wanted = _schema(body), _wanted(body)
        with self._lock:
            entry, new = self.state.plan(subject, schema, wanted)
            if new:
                key = {"kind": "schema", "subject": subject, "version": entry.version}
                self._log.append(key, {"id": entry.id, "schema": entry.schema})
        return {"id": entry.id}

    def lookup(self, subject: str, body: dict[str, Any]) -> dict[str, Any]:
        """Say whether and as what a schema is registered."""
        self.state.versions(subject)
        entry = self.state.lookup(subject, _schema(body))
        if entry is None:
            raise RegistryError(404, 40403, "Schema not found")
        return entry.public()

    def compatible(self, subject: str, version: str, body: dict[str, Any]) -> dict[str, Any]:
        """Say whether a schema may follow a version: the level is NONE, so every schema may."""
        schema = _schema(body)
        if version not in {"", "latest", "-1"} or subject in self.state.subjects:
            self.state.entry(subject, version or "latest")
        return {"is_compatible": bool(schema)}

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
            body = _body(await request.body())
            return _answer(await run_in_threadpool(answer, _parameters(request), body))

        return Route(path, endpoint, methods=[method])

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok" if ready() else "reading the log", status_code=200 if ready() else 503)

    one, each = "/subjects/{subject:path}/versions/{version}", "/subjects/{subject:path}/versions"
    routes = [
        Route("/healthz", health),
        get("/", lambda _: {}),
        get("/subjects", lambda _: sorted(state.subjects)),
        get(f"{one}/schema", lambda p: _Text(state.entry(p["subject"], p["version"]).schema)),
        get(f"{one}/referencedby", lambda p: [] if state.entry(p["subject"], p["version"]) else None),
        get(one, lambda p: state.entry(p["subject"], p["version"]).public()),
        get(each, lambda p: [entry.version for entry in state.versions(p["subject"])]),
        get("/schemas/types", lambda _: ["AVRO"]),
        get("/schemas/ids/{id}", lambda p: {"schema": state.schema(_number(p["id"]))}),
        get("/schemas/ids/{id}/schema", lambda p: _Text(state.schema(_number(p["id"])))),
        get("/schemas/ids/{id}/subjects", lambda p: [use["subject"] for use in _used(state, _number(p["id"]))]),
        get("/schemas/ids/{id}/versions", lambda p: _used(state, _number(p["id"]))),
        get("/mode", lambda _: {"mode": state.mode}),
        get("/mode/{subject:path}", lambda _: {"mode": state.mode}),
        get("/config", lambda _: {"compatibilityLevel": state.compatibility[""]}),
        get("/config/{subject:path}", lambda p: {"compatibilityLevel": state.compatibility.get(p["subject"], "NONE")}),
        change("POST", each, lambda p, body: registry.register(p["subject"], body)),
        change("POST", "/subjects/{subject:path}", lambda p, body: registry.lookup(p["subject"], body)),
        change("POST", f"/compatibility{one}", lambda p, body: registry.compatible(p["subject"], p["version"], body)),
        change("POST", f"/compatibility{each}", lambda p, body: registry.compatible(p["subject"], "", body)),
        change("PUT", "/mode", lambda _, body: registry.set_mode(body)),
        change("PUT", "/config", lambda _, body: registry.set_compatibility("", body)),
        change("PUT", "/config/{subject:path}", lambda p, body: registry.set_compatibility(p["subject"], body)),
        *(Route(f"/{kind}{{path:path}}", _forget, methods=["DELETE"]) for kind in ("subjects", "mode", "config")),
    ]
    return Starlette(
        routes=routes, exception_handlers={RegistryError: _refused, HTTPException: _unknown, Exception: _refused}
    )


class _Text(str):
    """JSON that is an answer as it stands."""

    __slots__ = ()


async def _forget(_: Request) -> Response:
    raise RegistryError(405, 405, "This registry forgets nothing: messages with the schema may be read at any time.")


async def _unknown(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    said = f"{request.method} {request.url.path}: " + ("not served here" if status in {404, 405} else str(error))
    return await _refused(request, RegistryError(status, status, said))


def _body(data: bytes) -> dict[str, Any]:
    """Return the JSON object of a request.

    Raises
    ------
    RegistryError
        If it is none.
    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RegistryError(400, 400, f"The request's body is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise RegistryError(400, 400, f"The request's body is a {type(body).__name__}, expected a JSON object.")
    return body


def _schema(body: dict[str, Any]) -> str:
    """Return the canonical schema of a request."""
    if (kind := body.get("schemaType") or "AVRO") != "AVRO":
        raise RegistryError(422, 42201, f"schemaType {kind}: only AVRO is served here")
    if body.get("references"):
        raise RegistryError(422, 42201, "references: a schema stands by itself here; write what it refers to into it")
    if not isinstance(body.get("schema"), str):
        raise RegistryError(422, 42201, f"Invalid Avro schema: {body.get('schema')!r}, expected its JSON as a text")
    return canonical(body["schema"])


def _wanted(body: dict[str, Any]) -> int | None:
    """Return the id that a request asks for, None without a wish."""
    wanted = body.get("id")
    if wanted is None or wanted == -1:
        return None
    if isinstance(wanted, bool) or not isinstance(wanted, int) or not 0 < wanted < 1 << 31:
        raise RegistryError(422, 42201, f"id {wanted!r}: expected a number of 1 to {(1 << 31) - 1}")
    return wanted


def _parameters(request: Request) -> dict[str, str]:
    return {name: str(value) for name, value in request.path_params.items()}


def _answer(content: Any) -> Response:
    if isinstance(content, _Text):
        return Response(content, media_type=_MEDIA_TYPE)
    return JSONResponse(content, media_type=_MEDIA_TYPE)


async def _refused(_: Request, error: Exception) -> Response:
    refused = (
        error if isinstance(error, RegistryError) else RegistryError(500, 50001, f"{type(error).__name__}: {error}")
    )
    said = str(refused).encode(errors="backslashreplace").decode()  # a request may name what no text can hold
    body = {"error_code": refused.code, "message": said}
    return JSONResponse(body, status_code=refused.status, media_type=_MEDIA_TYPE)


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > _DIGITS:
        raise RegistryError(404, 40403, f"Schema {text[:_DIGITS]} not found.")
    return int(text)


def _used(state: State, schema_id: int) -> list[dict[str, Any]]:
    state.schema(schema_id)
    entries = [entry for versions in state.subjects.values() for entry in versions if entry.id == schema_id]
    return [{"subject": entry.subject, "version": entry.version} for entry in entries]
