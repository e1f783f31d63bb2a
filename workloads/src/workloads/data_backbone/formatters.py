"""How datasets become files: raws are FITS as the archiver wrote them, everything made here is a NumPy archive.

An archive holds the arrays of a dataclass (nested ones included) and one JSON text with all that is no array.
"""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

import numpy as np
from lsst.daf.butler import FormatterV2
from lsst.resources import ResourcePath

from workloads.common.raw import decode_raw
from workloads.data_backbone.types import RawExposure

_FACTS = "facts.json"


class RawFormatter(FormatterV2):
    """Reads raw files; every checksum is verified."""

    default_extension = ".fits"
    can_read_from_uri = True

    def read_from_uri(self, uri: ResourcePath, component: str | None = None, expected_size: int = -1) -> Any:  # noqa: ARG002
        """Return the `RawExposure` in a file."""
        return RawExposure(*decode_raw(uri.read(), str(uri)))

    def to_bytes(self, in_memory_dataset: Any) -> bytes:
        """Raws are ingested, never written by the Butler."""
        raise NotImplementedError("raw images are ingested as files")


class ArchiveFormatter(FormatterV2):
    """Reads and writes dataclasses of arrays."""

    default_extension = ".npz"
    can_read_from_uri = True

    def read_from_uri(self, uri: ResourcePath, component: str | None = None, expected_size: int = -1) -> Any:  # noqa: ARG002
        """Return the object in a file."""
        return unpack(uri.read(), self.file_descriptor.storageClass.pytype)

    def to_bytes(self, in_memory_dataset: Any) -> bytes:
        """Return the object as an archive."""
        return pack(in_memory_dataset)


def pack(value: Any) -> bytes:
    """Return a dataclass as the bytes of a NumPy archive."""
    arrays: dict[str, Any] = {}
    facts = _flatten(value, "", arrays)
    buffer = io.BytesIO()
    arrays[_FACTS] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def unpack(data: bytes, kind: type) -> Any:
    """Return the dataclass of type `kind` in an archive."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        facts = json.loads(archive[_FACTS].tobytes())
        return _restore(facts, kind, "", archive)


def _flatten(value: Any, path: str, arrays: dict[str, Any]) -> Any:
    if isinstance(value, np.ndarray):
        arrays[path] = value
        return {"array": path}
    if isinstance(value, np.generic):
        return value.item()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            item.name: _flatten(getattr(value, item.name), f"{path}.{item.name}", arrays)
            for item in dataclasses.fields(value)
            if item.init
        }
        return {"fields": fields}
    if isinstance(value, tuple | list):
        return [_flatten(item, f"{path}.{number}", arrays) for number, item in enumerate(value)]
    return value


def _restore(facts: Any, kind: Any, path: str, archive: Any) -> Any:
    if isinstance(facts, dict) and "array" in facts:
        return archive[facts["array"]]
    if isinstance(facts, dict) and "fields" in facts:
        hints = _hints(kind)
        return kind(
            **{
                name: _restore(item, hints.get(name), f"{path}.{name}", archive)
                for name, item in facts["fields"].items()
            }
        )
    if isinstance(facts, list):
        inner = getattr(kind, "__args__", (None,))[0]
        return tuple(_restore(item, inner, path, archive) for item in facts)
    return facts


def _hints(kind: Any) -> dict[str, Any]:
    import typing  # noqa: PLC0415 - resolved per class, on demand

    return typing.get_type_hints(kind)
