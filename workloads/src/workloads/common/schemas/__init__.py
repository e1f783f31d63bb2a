"""Avro schemas of the project's own topics, one file each: `<id>.<role>.avsc`, called by the role of the topic in the contracts.

The ids are declared, the same at every site, because MirrorMaker copies records with the id of the site they came from. A
schema that has no name of its own is called as its topic is called in Kafka, which follows from the contract.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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


def topics(names: Mapping[str, str]) -> dict[str, Declared]:
    """Return the schemas of topics by their roles; `names` are those that they have in Kafka, by role."""
    found = {}
    for role, (number, text) in _files().items():
        if role in names:
            namespace, _, name = names[role].rpartition(".")
            definition = {"type": "record", "namespace": namespace, "name": name} | json.loads(text)
            found[role] = Declared(number, f"{names[role]}-value", definition)
    return found


@cache
def _files() -> dict[str, tuple[int, str]]:
    """Return the number and the text of each file, by role."""
    found = {}
    for file in sorted(resources.files(__name__).iterdir(), key=lambda item: item.name):
        if file.name.endswith(".avsc"):
            number, role = file.name.removesuffix(".avsc").split(".", 1)
            found[role] = int(number), file.read_text()
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
