"""Versions of what a device is made of: digests, which change with any of its files."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from pathlib import Path

import confluent_kafka

from workloads.sal.interfaces import Component

_DIGITS = 12
_WORKLOADS = Path(__file__).parents[1]


def versions(component: Component) -> dict[str, str]:
    """Return the fields of the event ``softwareVersions``."""
    revisions = "".join(topic.revision for _, topic in sorted(component.topics.items()))
    return {
        "salVersion": _digest(_WORKLOADS / "sal"),
        "xmlVersion": hashlib.sha256(revisions.encode()).hexdigest()[:_DIGITS],
        "cscVersion": _digest(_WORKLOADS),
        "subsystemVersions": f"python={platform.python_version()},librdkafka={confluent_kafka.libversion()[0]}",
    }


@cache
def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:_DIGITS]
