"""Avro in Confluent framing: one zero byte, the schema's id in four bytes big-endian, the record without its schema.

A record is read with the schema that it was written with, which the id names, and resolved by names and defaults to the schema
that this code was built with; it is written with the latter, whatever a registry has that is newer.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from typing import Any, Protocol

import fastavro
from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException, UnknownType

from workloads.common import schemas
from workloads.common.errors import NonRetriableError

_HEADER = struct.Struct(">bI")
_UNREADABLE = (
    *(EOFError, ValueError, TypeError, IndexError, KeyError, OverflowError, MemoryError, RecursionError, StopIteration),
    SchemaResolutionError,
)
"""What the decoder raises at bytes that are no record of the schema; UnicodeDecodeError is a ValueError."""


class SchemasById(Protocol):
    """Where the schemas of other writers are found."""

    def schema(self, schema_id: int) -> dict[str, Any]:
        """Return the schema with an id; `UnknownSchemaError` if it is not known yet, `AwayError` without an answer."""


def frame(schema_id: int, payload: bytes) -> bytes:
    """Put the header before an encoded record."""
    return _HEADER.pack(0, schema_id) + payload


def unframe(message: bytes) -> tuple[int, bytes]:
    """Return the schema's id and the encoded record.

    Raises
    ------
    NonRetriableError
        If the message is not in this framing.
    """
    if len(message) < _HEADER.size or message[0] != 0:
        raise NonRetriableError(
            f"message of {len(message)} bytes: not in Confluent framing (first byte 0, four bytes of id)"
        )
    return int(_HEADER.unpack_from(message)[1]), message[_HEADER.size :]


class Codec:
    """Encodes and decodes the records of topics.

    Declared schemas have the same id in every registry, so that those of this project's own need none; the registry is
    asked about the ids of others, once each.

    Parameters
    ----------
    names
        What topics are called in Kafka, by role.
    registry
        Where the schemas of other writers are; without one, their records cannot be read.
    """

    def __init__(self, names: Mapping[str, str], registry: SchemasById | None = None) -> None:
        self._registry = registry
        self._declare(schemas.topics(names))

    @classmethod
    def of(cls, declared: Mapping[str, schemas.Declared], registry: SchemasById | None = None) -> Codec:
        """Return the codec of other topics than those with a file: their schemas by the role of each."""
        made = cls({}, registry)
        made._declare(declared)
        return made

    def _declare(self, declared: Mapping[str, schemas.Declared]) -> None:
        self._declared = dict(declared)
        self._readers = {role: fastavro.parse_schema(one.definition) for role, one in self._declared.items()}
        self._writers: dict[int, Any] = {one.id: self._readers[role] for role, one in self._declared.items()}

    def encode(self, role: str, record: Mapping[str, Any]) -> bytes:
        """Return `record` as a message for the topic that contracts call `role`.

        Raises
        ------
        NonRetriableError
            If the topic has no schema, or the record does not fit it.
        """
        reader, declared = self._reader(role), self._declared[role]
        buffer = io.BytesIO()
        try:
            fastavro.schemaless_writer(buffer, reader, dict(record), strict=True)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise NonRetriableError(f"record for {role}: does not fit schema {declared.id}: {error}") from error
        return frame(declared.id, buffer.getvalue())

    def decode(self, role: str, message: bytes) -> dict[str, Any]:
        """Return the record of a message of the topic that contracts call `role`.

        Raises
        ------
        NonRetriableError
            If it is not framed, is a record of something else, or does not fit its schema.
        RetriableError
            If its schema cannot be had now.
        """
        reader = self._reader(role)
        schema_id, payload = unframe(message)
        writer = self._writer(schema_id)
        if _name(writer) != _name(reader):
            raise NonRetriableError(
                f"message of schema {schema_id}: a record {writer.get('name', writer['type'])}; expected {reader['name']}"
            )
        body = io.BytesIO(payload)
        try:
            record: Any = fastavro.schemaless_reader(body, writer, None if writer is reader else reader)
        except _UNREADABLE as error:
            said = str(error).split("{", 1)[0] or type(error).__name__
            raise NonRetriableError(f"message of schema {schema_id}: cannot be decoded: {said}") from error
        if left := len(payload) - body.tell():
            raise NonRetriableError(f"message of schema {schema_id}: {left} bytes follow its record; expected none")
        return dict(record)

    def _reader(self, role: str) -> Any:
        if role not in self._readers:
            raise NonRetriableError(
                f"topic {role}: has no schema; expected one of {', '.join(self._readers) or 'none'}"
            )
        return self._readers[role]

    def _writer(self, schema_id: int) -> Any:
        if schema_id not in self._writers:
            if self._registry is None:
                raise NonRetriableError(f"message of schema {schema_id}: of another writer, and no registry to ask")
            definition = self._registry.schema(schema_id)
            try:
                self._writers[schema_id] = fastavro.parse_schema(definition)
            except (SchemaParseException, UnknownType, KeyError, TypeError, ValueError) as error:
                raise NonRetriableError(f"schema {schema_id}: the registry's is none: {error}") from error
        return self._writers[schema_id]


def _name(schema: Any) -> str:
    """Return the name of a record without its namespace, which is what Avro compares; empty for all else."""
    return str(schema.get("name", "")).rpartition(".")[2] if schema.get("type") == "record" else ""
