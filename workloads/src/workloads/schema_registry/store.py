"""What the registry knows, as a pure state: records of the log go in, answers come out."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import Any

import fastavro
from fastavro.schema import SchemaParseException

LOG = logging.getLogger(__name__)
FREE_IDS = (20001, (1 << 31) - 1)
"""First and last id that is given to who wishes none, unless the site has a range; those below are declared."""


class RegistryError(Exception):
    """A refusal, with the HTTP status and the code that clients of the API know."""

    def __init__(self, status: int, code: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Entry:
    """One version of one subject."""

    subject: str
    version: int
    id: int
    schema: str

    def public(self) -> dict[str, Any]:
        """Return what the API shows."""
        return {
            "subject": self.subject,
            "version": self.version,
            "id": self.id,
            "schemaType": "AVRO",
            "schema": self.schema,
        }


def canonical(text: str) -> str:
    """Return the schema as compact JSON with sorted keys: writers that order keys otherwise mean the same schema.

    Raises
    ------
    RegistryError
        If it is no Avro schema.
    """
    try:
        schema = json.loads(text)
        fastavro.parse_schema(json.loads(text))
    except (ValueError, SchemaParseException, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise RegistryError(422, 42201, f"Invalid Avro schema: {error}") from error
    return json.dumps(schema, separators=(",", ":"), sort_keys=True)


@dataclass
class State:
    """All subjects, schemas and settings; new ids are given within `free`, both ends included."""

    subjects: dict[str, list[Entry]] = field(default_factory=dict)
    schemas: dict[int, str] = field(default_factory=dict)
    mode: str = "READWRITE"
    compatibility: dict[str, str] = field(default_factory=lambda: {"": "NONE"})
    free: tuple[int, int] = FREE_IDS

    def apply(self, key: dict[str, Any], value: dict[str, Any]) -> None:
        """Take one record of the log; records may come twice."""
        if key["kind"] == "mode":
            self.mode = value["mode"]
        elif key["kind"] == "config":
            self.compatibility[key["subject"]] = value["compatibility"]
        elif key["kind"] == "copy":
            self._copy(int(key["id"]), canonical(value["schema"]), key["site"])
        else:
            entry = Entry(key["subject"], int(key["version"]), int(value["id"]), canonical(value["schema"]))
            versions = self.subjects.setdefault(entry.subject, [])
            if all(known.version != entry.version for known in versions):
                versions.append(entry)
                versions.sort(key=lambda known: known.version)
            self.schemas[entry.id] = entry.schema

    def _copy(self, schema_id: int, schema: str, site: str) -> None:
        """Know a schema that another site registered; it is of no subject here."""
        if self.schemas.setdefault(schema_id, schema) != schema:
            LOG.error("schema %d: another one here than at %s; records of that site cannot be read", schema_id, site)

    def knows(self, schema_id: int, text: str) -> bool:
        """Say whether an id is of this schema here."""
        return self.schemas.get(schema_id) == canonical(text)

    def entry(self, subject: str, version: str) -> Entry:
        """Return a version of a subject, by number, or the newest by ``latest`` or -1."""
        versions = self.versions(subject)
        if version in {"latest", "-1"}:
            return versions[-1]
        if not version.isdecimal() or len(version) > 10 or int(version) < 1:
            said = 'allowed are 1 to 2147483647, -1 and "latest"'
            raise RegistryError(422, 42202, f"The specified version '{version}' is not a valid version id; {said}.")
        for entry in versions:
            if str(entry.version) == version:
                return entry
        raise RegistryError(404, 40402, f"Version {version} not found.")

    def versions(self, subject: str) -> list[Entry]:
        """Return all versions of a subject."""
        if subject not in self.subjects:
            raise RegistryError(404, 40401, f"Subject '{subject}' not found.")
        return self.subjects[subject]

    def schema(self, schema_id: int) -> str:
        """Return a schema by id."""
        if schema_id not in self.schemas:
            raise RegistryError(404, 40403, f"Schema {schema_id} not found.")
        return self.schemas[schema_id]

    def lookup(self, subject: str, schema: str) -> Entry | None:
        """Return the newest version of `subject` that has exactly this (canonical) schema."""
        return next((entry for entry in reversed(self.subjects.get(subject, [])) if entry.schema == schema), None)

    def plan(self, subject: str, schema: str, wanted: int | None) -> tuple[Entry, bool]:
        """Return the entry that registering `schema` leads to, and whether it is new.

        Raises
        ------
        RegistryError
            If the mode forbids it, or the id belongs to another schema.
        """
        known = self.lookup(subject, schema)
        if known and wanted in (None, known.id):
            return known, False
        if self.mode == "READONLY" or (wanted is not None and self.mode != "IMPORT"):
            raise RegistryError(422, 42205, f"Subject {subject} is not in {'import' if wanted else 'read-write'} mode")
        if wanted is not None and self.schemas.get(wanted, schema) != schema:
            raise RegistryError(422, 42205, f"Overwrite new schema with id {wanted} is not permitted.")
        same = next((number for number, text in self.schemas.items() if text == schema), None)
        new_id = wanted or same or self._next_id()
        versions = self.subjects.get(subject, [])
        return Entry(subject, versions[-1].version + 1 if versions else 1, new_id, schema), True

    def _next_id(self) -> int:
        first, last = self.free
        following = max((number for number in self.schemas if first <= number <= last), default=first - 1) + 1
        if following > last:
            raise RegistryError(422, 42201, f"Every id of this site, {first} to {last}, is given.")
        return following
