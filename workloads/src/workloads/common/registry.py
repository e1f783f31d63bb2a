"""Client of the schema registry (the Confluent API), with a cache: a schema never changes once it has an id."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx

from workloads.common.errors import AwayError, NonRetriableError, UnknownSchemaError

_CONTENT = "application/vnd.schemaregistry.v1+json"
_NOT_FOUND = 404
_REFUSED = frozenset({400, 404, 405, 409, 422})
"""Answers about the request itself; every other error is the registry's own, and passes."""


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

    def schema(self, schema_id: int) -> dict[str, Any]:
        """Return the Avro schema with `schema_id`.

        Raises
        ------
        UnknownSchemaError
            If the registry does not know the id; `AwayError` if it does not answer.
        """
        if schema_id not in self._by_id:
            found = json.loads(self._call("GET", f"/schemas/ids/{schema_id}")["schema"])
            self._by_id[schema_id] = found if isinstance(found, dict) else {"type": found}
        return self._by_id[schema_id]

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
            if not response.is_error:
                return response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise AwayError(f"{where}: {error}") from error
        said = f"{where}: answered {response.status_code} {response.text}"
        if method == "GET" and response.status_code == _NOT_FOUND:
            raise UnknownSchemaError(said)
        raise (NonRetriableError if response.status_code in _REFUSED else AwayError)(said)
