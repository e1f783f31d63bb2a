"""Name, version and licence of every component that is deployed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions

from pydantic import BaseModel

from dpp.lab.tools.catalogue import TOOLS, GoTool
from dpp.model.folders import Folders

_LONGEST = 40
"""Characters; Python distributions that put a whole text into their licence field name it in a classifier too."""


class Component(BaseModel):
    """A component as it is deployed."""

    kind: str
    name: str
    version: str
    licence: str
    used_by: str


def components() -> list[Component]:
    """Return all components: of the tools (which must be built), of the base image (if built) and of this environment.

    Raises
    ------
    FatalError
        A tool has not been built.
    """
    return [*_of_tools(), *_of_image(), *_of_python()]


def _of_tools() -> Iterator[Component]:
    for tool in TOOLS.values():
        kind = "go" if isinstance(tool, GoTool) else "jar"
        for component in tool.read_record()["components"]:
            yield Component(kind=kind, used_by=tool.name, **component)


def _of_image() -> Iterator[Component]:
    records = sorted(
        (Folders.current().cache / "images").glob("base-*/packages.json"), key=lambda file: file.stat().st_mtime
    )
    for package in json.loads(records[-1].read_text()) if records else []:
        yield Component(kind="debian", used_by="base image", **package)


def _of_python() -> Iterator[Component]:
    for distribution in sorted(distributions(), key=lambda one: one.name.lower()):
        licence = _licence(distribution)
        yield Component(
            kind="python", name=distribution.name, version=distribution.version, licence=licence, used_by="environment"
        )


def _licence(distribution: Distribution) -> str:
    metadata = distribution.metadata
    classifiers = [
        value.rsplit(" :: ", 1)[-1] for value in metadata.get_all("Classifier", []) if value.startswith("License ::")
    ]
    plain = (metadata["License"] or "").strip()
    return (
        metadata["License-Expression"]
        or (plain if 0 < len(plain) <= _LONGEST else "")
        or ", ".join(classifiers)
        or "unknown"
    )
