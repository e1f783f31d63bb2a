"""Client of the schema registry (the Confluent API), with a cache: a schema never changes once it has an id."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx

from workloads.common.errors import NonRetriableError, RetriableError

_CONTENT = "application/vnd.schemaregistry.v1+json"


class RegistryClient:
    """Looks schemas up by id, registers them, and switches the registry's mode.

    Parameters
    ----------
    url
        Base URL of the registry.
    """

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=10.0, headers={"Accept": _CONTENT, "Content-Type": _CONTENT})
        self._by_id: dict[int, dict[str, Any]] = {}
        self._latest: dict[str, int] = {}

    def schema(self, schema_id: int) -> dict[str, Any]:
        """Return the Avro schema with `schema_id`."""
        if schema_id not in self._by_id:
            answer = self._call("GET", f"/schemas/ids/{schema_id}")
            self._by_id[schema_id] = json.loads(answer["schema"])
        return self._by_id[schema_id]

    def latest(self, subject: str) -> int:
        """Return the id of the newest schema of `subject`."""
        if subject not in self._latest:
            self._latest[subject] = int(self._call("GET", f"/subjects/{quote(subject, safe='')}/versions/latest")["id"])
        return self._latest[subject]

    def subjects(self) -> list[str]:
        """Return all subjects."""
        return list(self._call("GET", "/subjects"))

    def register(self, subject: str, schema: dict[str, Any], schema_id: int | None = None) -> int:
        """Register `schema` under `subject` and return its id; a given id needs the mode IMPORT."""
        body: dict[str, Any] = {"schema": json.dumps(schema), "schemaType": "AVRO"}
        if schema_id is not None:
            body["id"] = schema_id
        return int(self._call("POST", f"/subjects/{quote(subject, safe='')}/versions", body)["id"])

    def set_mode(self, mode: str) -> None:
        """Set the registry's mode: READWRITE, READONLY or IMPORT."""
        self._call("PUT", "/mode", {"mode": mode})

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        where = f"schema registry {self._client.base_url}{path}"
        try:
            response = self._client.request(method, path, content=None if body is None else json.dumps(body))
        except httpx.HTTPError as error:
            raise RetriableError(f"{where}: {error}") from error
        if response.status_code >= 500:
            raise RetriableError(f"{where}: answered {response.status_code} {response.text}")
        if response.is_error:
            raise NonRetriableError(f"{where}: answered {response.status_code} {response.text}")
        try:
            return response.json()
        except ValueError as error:  # something else answers in its place
            raise RetriableError(f"{where}: answered no JSON: {response.text[:200]}") from error
