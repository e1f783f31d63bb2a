"""Avro schemas of the project's own topics, one file each: `<id>.<topic>.avsc`.

The ids are declared, the same at every site, because MirrorMaker copies records with the id of the site they came from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from lsst.alert.packet import Schema, get_schema_root


@dataclass(frozen=True)
class Declared:
    """A schema with the id and the subject under which every site's registry must hold it."""

    id: int
    subject: str
    definition: dict[str, Any]


@cache
def topics() -> dict[str, Declared]:
    """Return the schemas of the project's topics by topic."""
    found = {}
    for file in sorted(resources.files(__name__).iterdir(), key=lambda item: item.name):
        if file.name.endswith(".avsc"):
            number, topic = file.name.removesuffix(".avsc").split(".", 1)
            found[topic] = Declared(int(number), f"{topic}-value", json.loads(file.read_text()))
    return found


@cache
def alerts() -> dict[str, Declared]:
    """Return all alert schemas of the installed `lsst-alert-packet` by version, such as ``11.1``: id 100*major+minor."""
    found = {}
    for major in sorted(int(item.name) for item in get_schema_root().iterdir() if item.name.isdigit()):
        for minor_folder in sorted((get_schema_root() / str(major)).iterdir(), key=lambda item: item.name):
            file = minor_folder / f"lsst.v{major}_{minor_folder.name}.alert.avsc"
            if file.is_file():
                version = f"{major}.{minor_folder.name}"
                schema = Schema.from_file(str(file))
                plain = {key: value for key, value in schema.definition.items() if not key.startswith("__")}
                found[version] = Declared(100 * major + int(minor_folder.name), f"lsst-alerts-v{version}-value", plain)
    return found
