"""Between the protocol's property values and plain Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.struct_pb2 import Struct, Value

from dpp.provider.kinds import UNKNOWN

_UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


def plain(struct: Struct) -> dict[str, Any]:
    """Return properties as Python, without the engine's own (``__defaults`` and the like)."""
    return {key: _plain(value) for key, value in struct.fields.items() if not key.startswith("__")}


def _plain(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {key: _plain(inner) for key, inner in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(inner) for inner in value.list_value.values]
    if kind == "number_value":
        return int(value.number_value) if value.number_value.is_integer() else value.number_value
    if kind == "string_value":
        return UNKNOWN if value.string_value == _UNKNOWN else value.string_value
    return value.bool_value if kind == "bool_value" else None


def wire(values: Mapping[str, Any]) -> Struct:
    """Return properties for the protocol."""
    struct = Struct()
    struct.update(_wire(values))
    return struct


def _wire(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _wire(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_wire(inner) for inner in value]
    return _UNKNOWN if value is UNKNOWN else value


def has_unknown(value: Any) -> bool:
    """Say whether an unknown is anywhere inside `value`."""
    if isinstance(value, Mapping):
        return any(has_unknown(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(has_unknown(item) for item in value)
    return value is UNKNOWN
