"""Licences of what is built, read from the texts and metadata that the modules and jars themselves carry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path
from xml.etree import ElementTree as ET
from zipfile import ZipFile

_LONGEST = 40
"""Characters; distributions that put a whole text into their licence field name the licence in a classifier too."""

_TEXTS = re.compile(r"(LICEN[CS]E|COPYING|COPYRIGHT)([.-].*)?", re.IGNORECASE)

_PHRASES = (
    ("Apache-2.0", "apache license version 2.0"),
    ("MPL-2.0", "mozilla public license version 2.0"),
    ("MPL-2.0", "mozilla public license, version 2.0"),
    ("EPL-2.0", "eclipse public license - v 2.0"),
    ("MIT", "permission is hereby granted, free of charge"),
    ("ISC", "permission to use, copy, modify, and/or distribute this software for any purpose"),
    ("ISC", "permission to use, copy, modify, and distribute this software for any purpose"),
    ("BSD-3-Clause", "neither the name"),
    ("BSD-3-Clause", "may not be used to endorse or promote"),
    ("BSD-2-Clause", "redistribution and use in source and binary forms"),
    ("CC0-1.0", "cc0 1.0 universal"),
    ("Unlicense", "this is free and unencumbered software released into the public domain"),
    ("Apache-2.0", "apache.org/licenses/license-2.0"),
)
"""Licence and a phrase that only its text has, the more particular before the more general."""


def identify(text: str) -> str:
    """Return the SPDX name of the licence whose text is given, or ``unknown``."""
    words = " ".join(text.lower().split()).replace("license, version", "license version", 1)
    return next((name for name, phrase in _PHRASES if phrase in words), "unknown")


def texts(folder: Path) -> list[Path]:
    """Return the licence texts at the top of a module's folder."""
    return sorted(file for file in folder.iterdir() if file.is_file() and _TEXTS.fullmatch(file.name))


def of_module(folder: Path) -> str:
    """Return the licences of a Go module, joined with ``AND`` where it has several texts."""
    names = {identify(file.read_text(errors="replace")) for file in texts(folder)} - {"unknown"}
    return " AND ".join(sorted(names)) or "unknown"


def of_jar(jar: Path, repository: Path) -> str:
    """Return the licences of a jar (any of them may be chosen) by its POM in `repository`, else by the text it contains."""
    pom = next(iter(sorted(repository.glob(f"**/{jar.stem}.pom"))), None)
    names = list(_declared(pom, repository)) if pom else []
    if not names:
        with ZipFile(jar) as archive:
            inside = [name for name in archive.namelist() if _TEXTS.fullmatch(name.rsplit("/", 1)[-1])]
            names = [identify(archive.read(name).decode(errors="replace")) for name in inside]
    return ", ".join(sorted(set(names) - {"unknown"})) or "unknown"


def of_distribution(distribution: Distribution) -> str:
    """Return the licence that a Python distribution's metadata declare."""
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


def _declared(pom: Path, repository: Path) -> Iterator[str]:
    root = ET.parse(pom).getroot()  # noqa: S314 - a file whose jar's digest is pinned
    found = [name.text.strip() for name in root.iterfind("{*}licenses/{*}license/{*}name") if name.text]
    parent = root.find("{*}parent")
    if found or parent is None:
        yield from (_short(name) for name in found)
        return
    group, artifact, version = (parent.findtext(f"{{*}}{key}") or "" for key in ("groupId", "artifactId", "version"))
    above = repository / group.replace(".", "/") / artifact / version / f"{artifact}-{version}.pom"
    if above.exists():
        yield from _declared(above, repository)


def _short(name: str) -> str:
    if re.search(r"apache", name, re.IGNORECASE):
        return "Apache-2.0"
    if re.fullmatch(r"(the )?mit( license)?", name, re.IGNORECASE):
        return "MIT"
    return name
