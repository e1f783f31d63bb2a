"""Configuration of a device: files merged in a fixed order, checked by a versioned schema, named by their hash.

``_init.yaml`` < ``_SITE.yaml`` < the override given to ``start``, which is ``[file.yaml][:hash]``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from workloads.common.errors import WorkloadError

SCHEMA_VERSION = "v1"


@dataclass(frozen=True)
class Configuration:
    """What a device runs with: the files it came from, the version of the folder, and the checked values."""

    files: tuple[str, ...]
    version: str
    url: str
    values: BaseModel

    def event(self) -> dict[str, object]:
        """Return the fields of the event ``configurationApplied``."""
        return {
            "configurations": ",".join(self.files),
            "version": self.version,
            "url": self.url,
            "schemaVersion": SCHEMA_VERSION,
            "otherInfo": "",
        }


class ConfigurationFolder:
    """The folder with a device's files.

    Parameters
    ----------
    path
        The folder.
    site
        Which ``_SITE.yaml`` counts.
    schema
        Model that the merged values must fit.
    """

    def __init__(self, path: Path, site: str, schema: type[BaseModel]) -> None:
        self._path = path
        self._site = site
        self._schema = schema

    def overrides(self) -> list[str]:
        """Return the files that may be named in ``start``."""
        return sorted(file.name for file in self._path.glob("*.yaml") if not file.name.startswith("_"))

    def available(self) -> dict[str, str]:
        """Return the fields of the event ``configurationsAvailable``."""
        return {
            "overrides": ",".join(self.overrides()),
            "version": self.version(),
            "url": self._path.as_uri(),
            "schemaVersion": SCHEMA_VERSION,
        }

    def version(self) -> str:
        """Return the hash of all files: twelve hexadecimal digits that change with any of them."""
        digest = hashlib.sha256()
        for file in sorted(self._path.glob("*.yaml")):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
        return digest.hexdigest()[:12]

    def load(self, override: str) -> Configuration:
        """Return the configuration for an override, which may be empty.

        Raises
        ------
        WorkloadError
            If a file is missing, a value is wrong, or the folder does not have the version asked for.
        """
        name, _, wanted = override.partition(":")
        version = self.version()
        if wanted and not version.startswith(wanted):
            raise WorkloadError(f"configuration {self._path}: version {version}, expected {wanted}")
        if name and name not in self.overrides():
            raise WorkloadError(
                f"configuration {name}: no such file; expected one of {', '.join(self.overrides()) or 'none'}"
            )
        names = [file for file in ("_init.yaml", f"_{self._site}.yaml", name) if file and (self._path / file).is_file()]
        merged: dict[str, Any] = {}
        for file in names:
            merged |= self._read(file)
        try:
            values = self._schema.model_validate(merged)
        except ValidationError as error:
            raise WorkloadError(f"configuration {' + '.join(names)}: {error}") from error
        return Configuration(tuple(names), version, self._path.as_uri(), values)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            content: Any = yaml.safe_load((self._path / name).read_text()) or {}
        except yaml.YAMLError as error:
            raise WorkloadError(f"configuration {name}: not YAML: {error}") from error
        if not isinstance(content, dict):
            raise WorkloadError(f"configuration {name}: found {type(content).__name__}, expected a mapping")
        return content
