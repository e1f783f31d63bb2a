"""Property values as they travel: JSON values in which signed objects stand for secrets and marker strings for unknowns.

The engine keeps values in the form that the wire has, so that nothing is translated twice: a secret is
``{SIGNATURE: SECRET, "value": plain}``, an unknown is the string `UNKNOWN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.struct_pb2 import Struct, Value

SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - the protocol's mark of secrets
OUTPUT_VALUE: Final = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_UNKNOWNS: Final = frozenset(
    {
        UNKNOWN,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
        "030794c1-ac77-496b-92df-f27374a8bd58",
        "e48ece36-62e2-4504-bad9-02848725956a",
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
    }
)

Properties = dict[str, Any]


def secret(value: Any) -> Properties:
    """Return `value` marked as secret."""
    return value if is_secret(value) else {SIGNATURE: SECRET, "value": value}


def is_secret(value: Any) -> bool:
    """Return whether `value` is marked as secret."""
    return isinstance(value, Mapping) and value.get(SIGNATURE) == SECRET


def is_unknown(value: Any) -> bool:
    """Return whether `value` stands for one that only an update will tell."""
    return isinstance(value, str) and value in _UNKNOWNS


def has_unknowns(value: Any) -> bool:
    """Return whether `value` or anything inside it is unknown."""
    if isinstance(value, Mapping):
        return any(has_unknowns(item) for item in value.values())
    if isinstance(value, list):
        return any(has_unknowns(item) for item in value)
    return is_unknown(value)


def has_secrets(value: Any) -> bool:
    """Return whether `value` or anything inside it is secret."""
    if isinstance(value, Mapping):
        return is_secret(value) or any(has_secrets(item) for item in value.values())
    return isinstance(value, list) and any(has_secrets(item) for item in value)


def reveal(value: Any) -> Any:
    """Return `value` without secret marks: what a provider gets that does not understand them."""
    if isinstance(value, Mapping):
        return reveal(value["value"]) if is_secret(value) else {key: reveal(item) for key, item in value.items()}
    return [reveal(item) for item in value] if isinstance(value, list) else value


def mask(value: Any) -> Any:
    """Return `value` as people may see it: ``[secret]`` and ``[unknown]`` in place of what is hidden or not known yet."""
    if is_secret(value):
        return "[secret]"
    if is_unknown(value):
        return "[unknown]"
    if isinstance(value, Mapping):
        return {key: mask(item) for key, item in value.items()}
    return [mask(item) for item in value] if isinstance(value, list) else value


def mark_like(value: Any, model: Any) -> Any:
    """Return `value` with the secret marks that `model` has at the same places.

    A provider that does not understand secrets answers in plain values; what went in secret comes out secret.
    """
    if is_secret(value):
        return value
    if is_secret(model):
        return secret(value)
    if isinstance(value, dict) and isinstance(model, Mapping):
        return {key: mark_like(item, model[key]) if key in model else item for key, item in value.items()}
    if isinstance(value, list) and isinstance(model, list):
        marked = [mark_like(item, old) for item, old in zip(value, model, strict=False)]
        return marked + value[len(marked) :]
    return value


def from_struct(struct: Struct) -> Properties:
    """Return the values of a protobuf struct; whole numbers become ``int``, output values become what they hold."""
    return {key: _from_value(item) for key, item in struct.fields.items()}


def _from_value(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "bool_value":
        return value.bool_value
    if kind == "struct_value":
        found = from_struct(value.struct_value)
        return _from_output(found) if found.get(SIGNATURE) == OUTPUT_VALUE else found
    return [_from_value(item) for item in value.list_value.values] if kind == "list_value" else None


def _from_output(found: Properties) -> Any:
    value = found.get("value", UNKNOWN)
    return secret(value) if found.get("secret") else value


def to_struct(properties: Properties) -> Struct:
    """Return `properties` as a protobuf struct."""
    struct = Struct()
    struct.update(properties)
    return struct
