"""Between the protocol's property values and plain Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pulumi.provider.experimental.property_value import Computed, PropertyValue
from pulumi.runtime import rpc


class Unknown:
    """A value that only an apply can tell; it stands in previews."""

    def __repr__(self) -> str:
        return "<known after apply>"


UNKNOWN: Final = Unknown()


def plain(value: PropertyValue) -> Any:
    """Return `value` as Python: numbers that are whole become int, unknowns `UNKNOWN`."""
    content = value.value
    if isinstance(content, Computed) or content == rpc.UNKNOWN:  # the SDK leaves the protocol's mark as it is
        return UNKNOWN
    if isinstance(content, Mapping):
        return {key: plain(item) for key, item in content.items()}
    if isinstance(content, Sequence) and not isinstance(content, str):
        return [plain(item) for item in content]
    if isinstance(content, float) and content.is_integer():
        return int(content)
    return content


def plain_map(values: Mapping[str, PropertyValue]) -> dict[str, Any]:
    """Return a resource's properties as Python, without the engine's own (``__defaults`` and the like)."""
    return {key: plain(value) for key, value in values.items() if not key.startswith("__")}


def wire(value: Any) -> PropertyValue:
    """Return Python `value` for the protocol."""
    if value is UNKNOWN:
        return PropertyValue(rpc.UNKNOWN)  # the SDK cannot send its own Computed
    if isinstance(value, Mapping):
        return PropertyValue({str(key): wire(item) for key, item in value.items()})
    if isinstance(value, Sequence) and not isinstance(value, str):
        return PropertyValue([wire(item) for item in value])
    if isinstance(value, int) and not isinstance(value, bool):
        return PropertyValue(float(value))
    return PropertyValue(value)


def wire_map(values: Mapping[str, Any]) -> dict[str, PropertyValue]:
    """Return properties for the protocol."""
    return {key: wire(value) for key, value in values.items()}


def has_unknown(value: Any) -> bool:
    """Say whether an unknown is anywhere inside `value`."""
    if isinstance(value, Mapping):
        return any(has_unknown(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(has_unknown(item) for item in value)
    return value is UNKNOWN
