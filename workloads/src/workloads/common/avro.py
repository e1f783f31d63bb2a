"""Avro in Confluent framing: one zero byte, the schema's id in four bytes big-endian, the record without its schema."""

from __future__ import annotations

import io
import struct
from typing import Any

import fastavro

from workloads.common.errors import NonRetriableError
from workloads.common.registry import RegistryClient

_HEADER = struct.Struct(">bI")


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
    """Encodes and decodes records with the registry's schemas.

    Parameters
    ----------
    registry
        Where the schemas are.
    """

    def __init__(self, registry: RegistryClient) -> None:
        self._registry = registry
        self._parsed: dict[int, Any] = {}

    def encode(self, topic: str, record: dict[str, Any]) -> bytes:
        """Return `record` as a message for `topic`, in the newest schema of its subject.

        Raises
        ------
        NonRetriableError
            If the record does not fit the schema.
        """
        schema_id = self._registry.latest(f"{topic}-value")
        buffer = io.BytesIO()
        try:
            fastavro.schemaless_writer(buffer, self._schema(schema_id), record, strict=True)
        except (ValueError, TypeError, KeyError) as error:
            raise NonRetriableError(f"record for {topic}: does not fit schema {schema_id}: {error}") from error
        return frame(schema_id, buffer.getvalue())

    def decode(self, message: bytes) -> dict[str, Any]:
        """Return the record of a message.

        Raises
        ------
        NonRetriableError
            If it is not framed, or does not fit its schema.
        """
        schema_id, payload = unframe(message)
        try:
            record: Any = fastavro.schemaless_reader(io.BytesIO(payload), self._schema(schema_id), None)
        except (EOFError, ValueError, IndexError, UnicodeDecodeError) as error:
            raise NonRetriableError(f"message of schema {schema_id}: cannot be decoded: {error}") from error
        return dict(record)

    def _schema(self, schema_id: int) -> Any:
        if schema_id not in self._parsed:
            self._parsed[schema_id] = fastavro.parse_schema(self._registry.schema(schema_id))
        return self._parsed[schema_id]
