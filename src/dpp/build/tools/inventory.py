"""Name, version and licence of every component that is deployed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import distributions

from pydantic import BaseModel

from dpp.build.tools.catalogue import TOOLS, GoTool, MavenTool
from dpp.build.tools.licences import of_distribution
from dpp.model.folders import Folders


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
        kind = "go" if isinstance(tool, GoTool) else "jar" if isinstance(tool, MavenTool) else "python"
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
        licence = of_distribution(distribution)
        yield Component(
            kind="python", name=distribution.name, version=distribution.version, licence=licence, used_by="environment"
        )
