"""What Pulumi.yaml and a stack's configuration file say."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dpp.engine.passphrase import Passphrase
from dpp.model.errors import FatalError, UsageError


def _load(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError as error:
        raise UsageError(str(path), "not there", "a file") from error
    except yaml.YAMLError as error:
        raise FatalError(str(path), f"no YAML: {error}", "a mapping") from error
    if not isinstance(found, dict):
        raise FatalError(str(path), type(found).__name__, "a mapping")
    return found


@dataclass(frozen=True)
class Project:
    """A project: where its program and its providers are.

    Parameters
    ----------
    folder
        Folder of Pulumi.yaml.
    name
        Name of the project.
    program
        Folder or file that Python runs.
    python
        Interpreter of the program.
    plugins
        Folder of each provider's executable by package name.
    """

    folder: Path
    name: str
    program: Path
    python: str
    plugins: Mapping[str, Path]
    options: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    config_folder: str = ""

    @classmethod
    def load(cls, folder: Path) -> Project:
        """Return the project in `folder`.

        Raises
        ------
        FatalError
            If Pulumi.yaml is not there or asks for another language than Python.
        """
        folder = folder.resolve()
        path = folder / "Pulumi.yaml"
        found = _load(path)
        runtime = found.get("runtime") or {}
        runtime = {"name": runtime} if isinstance(runtime, str) else runtime
        if runtime.get("name") != "python":
            raise FatalError(
                str(path), f"runtime {runtime.get('name')!r}", "python", "other languages need the pulumi command"
            )
        options = runtime.get("options") or {}
        virtualenv = folder / str(options.get("virtualenv", ".venv")) / "bin/python"
        providers = (found.get("plugins") or {}).get("providers") or []
        return cls(
            folder,
            found["name"],
            (folder / found.get("main", ".")).resolve(),
            str(virtualenv) if virtualenv.exists() else sys.executable,
            {plugin["name"]: (folder / plugin["path"]).resolve() for plugin in providers},
            options,
            found.get("config") or {},
            found.get("stackConfigDir", ""),
        )

    @property
    def home(self) -> Path:
        """Folder in which program and providers run."""
        return self.program if self.program.is_dir() else self.program.parent

    def config_file(self, stack: str) -> Path:
        """Return the configuration file of a stack."""
        return self.folder / self.config_folder / f"Pulumi.{stack}.yaml"


@dataclass
class Config:
    """A stack's configuration, secrets opened.

    Parameters
    ----------
    values
        Text by ``namespace:key``.
    secret_keys
        Keys of the secret ones.
    salt
        The file's ``encryptionsalt``; empty if it has none.
    """

    values: dict[str, str] = field(default_factory=dict)
    secret_keys: list[str] = field(default_factory=list)
    salt: str = ""
    sealed: dict[str, Any] = field(default_factory=dict)
    path: Path = Path()

    @classmethod
    def load(cls, project: Project, path: Path) -> Config:
        """Read the configuration file at `path`, which may be missing; project-wide defaults apply."""
        found = _load(path) if path.exists() else {}
        config = cls(salt=found.get("encryptionsalt", ""), path=path)
        for key, value in project.config.items():
            default = value.get("value", value.get("default")) if isinstance(value, dict) else value
            if default is not None:
                config.values[_qualified(key, project.name)] = _text(default)
        for key, value in (found.get("config") or {}).items():
            config._add(_qualified(key, project.name), value)
        return config

    def _add(self, key: str, value: Any) -> None:
        self.values[key] = _text(value)
        if _has_secure(value):
            self.secret_keys.append(key)
            self.sealed[key] = value

    def unseal(self, secrets: Passphrase) -> None:
        """Open the secret values."""
        for key, value in self.sealed.items():
            self.values[key] = _text(_open(value, secrets))


def _qualified(key: str, project: str) -> str:
    return key if ":" in key else f"{project}:{key}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _has_secure(value: Any) -> bool:
    if isinstance(value, dict):
        return set(value) == {"secure"} or any(map(_has_secure, value.values()))
    return isinstance(value, list) and any(map(_has_secure, value))


def _open(value: Any, secrets: Passphrase) -> Any:
    if isinstance(value, list):
        return [_open(item, secrets) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"secure"}:
        return secrets.decrypt_text(value["secure"])
    return {key: _open(item, secrets) for key, item in value.items()}
