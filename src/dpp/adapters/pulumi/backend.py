"""Where the stacks of an environment are: a folder with their states, their passphrase, their configuration."""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from dpp.adapters.locks import exclusive
from dpp.adapters.secrets import Secrets
from dpp.model.errors import FatalError, UsageError
from dpp.model.folders import REPOSITORY

_QUIETLY = ("--non-interactive", "--color", "never")
_STACK = re.compile(r"(?P<environment>[a-z][a-z0-9]*)\.(?P<unit>[a-z][a-z0-9-]*)")


def environment_of(stack: str) -> str:
    """Return the environment that a stack ``<environment>.<unit>`` belongs to.

    Raises
    ------
    UsageError
        If that is no name of a stack.
    """
    match = _STACK.fullmatch(stack)
    if not match:
        raise UsageError("stack", repr(stack), "<environment>.<unit>", "for example lab.wan")
    return match["environment"]


@dataclass(frozen=True)
class Backend:
    """The states of an environment's stacks, as the engine's ``file://`` backend lays them out.

    Parameters
    ----------
    environment
        Name of the environment.
    state
        Its state folder: ``pulumi`` below it is the backend, ``secrets`` keeps the passphrase.
    command
        The engine's command.
    project
        Folder of Pulumi.yaml.
    """

    environment: str
    state: Path
    command: Path
    project: Path = REPOSITORY

    def engine(self, *words: str) -> list[str]:
        """Return the engine's command with some words; ``FatalError`` where it has not been built."""
        if not self.command.exists():
            raise FatalError("engine", "not built", str(self.command), "run dpp tools build pulumi")
        # A passphrase in the variables goes before the file's, also an empty one.
        return ["env", "--unset=PULUMI_CONFIG_PASSPHRASE", str(self.command), *words, *_QUIETLY]

    @property
    def folder(self) -> Path:
        """Folder of the backend."""
        return self.state / "pulumi"

    @property
    def passphrase_file(self) -> Path:
        """File of the passphrase, made at first use."""
        Secrets(self.state / "secrets").password("pulumi")
        return self.state / "secrets/passwords/pulumi"

    @property
    def config_file(self) -> Path:
        """The configuration that all stacks of the environment share, with the salt of their secrets."""
        return self.folder / f"Pulumi.{self.environment}.yaml"

    @cached_property
    def declared(self) -> dict[str, Any]:
        """What Pulumi.yaml says."""
        found: dict[str, Any] = yaml.safe_load((self.project / "Pulumi.yaml").read_text())
        return found

    @property
    def name(self) -> str:
        """Name of the project."""
        return str(self.declared["name"])

    def provider(self, package: str) -> Path:
        """Return the executable of the provider of a package.

        Raises
        ------
        FatalError
            If Pulumi.yaml names no folder for it.
        """
        for one in self.declared.get("plugins", {}).get("providers", ()):
            if one["name"] == package:
                return (self.project / str(one["path"]) / f"pulumi-resource-{package}").resolve()
        raise FatalError(f"provider {package}", f"not in {self.project / 'Pulumi.yaml'}", "a folder under plugins")

    def checkpoint(self, stack: str) -> dict[str, Any] | None:
        """Return what the state of a stack holds; ``None`` where it was never applied.

        Raises
        ------
        FatalError
            If the file is damaged.
        """
        path = self._checkpoint_file(stack)
        try:
            found = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            backups = self.folder / ".pulumi/backups" / self.name / stack
            raise FatalError(str(path), f"no JSON: {error}", "a state", f"restore one from {backups}") from error
        latest: dict[str, Any] | None = found["checkpoint"].get("latest")
        return latest

    def locks(self, stack: str) -> Path:
        """Return the folder of the locks of a stack."""
        return self.folder / ".pulumi/locks/organization" / self.name / stack

    def variables(self) -> dict[str, str]:
        """Return what the engine's command needs to work on these stacks."""
        tools = [str(self.command.parent), str(Path(sys.executable).parent)]
        path = [folder for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder not in tools]
        return {
            # Without files of attributes beside the states: the engine writes those in place, and one that it was killed
            # over, an empty one, makes the state unreadable.
            "PULUMI_BACKEND_URL": f"{self.folder.as_uri()}?metadata=skip",
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(self.passphrase_file),
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_ENABLE_STREAMING_JSON_PREVIEW": "true",
            "PULUMI_HOME": str(self.folder / "home"),
            "PULUMI_OPTION_CONFIG_FILE": str(self.config_file),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PATH": os.pathsep.join([*tools, *path]),
            **_account(),
        }

    def exports(self) -> str:
        """Return `variables` as shell commands."""
        lines = [f"export {key}={shlex.quote(value)}" for key, value in self.variables().items()]
        return "\n".join(["unset PULUMI_CONFIG_PASSPHRASE", *lines])

    def ensure(self, stack: str, run: Any) -> None:
        """Make an empty stack where there is none.

        The engine writes the salt of its secrets beside Pulumi.yaml: it does so in a folder of its own, so that a clone
        stays clean and all stacks of an environment share one salt.

        Parameters
        ----------
        run
            Runs the engine's command: ``run(*words, cwd=FOLDER)``.
        """
        if self._checkpoint_file(stack).exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with exclusive(self.folder / ".new"), tempfile.TemporaryDirectory() as scratch:
            salted = Path(scratch) / f"Pulumi.{stack}.yaml"
            if self.config_file.exists():
                shutil.copy(self.config_file, salted)
            (Path(scratch) / "Pulumi.yaml").write_text(yaml.safe_dump({"name": self.name, "runtime": "python"}))
            if not self._checkpoint_file(stack).exists():
                run("stack", "init", stack, "--no-select", cwd=Path(scratch))
            if not self.config_file.exists():
                shutil.copy(salted, self.config_file.with_suffix(".new"))
                self.config_file.with_suffix(".new").rename(self.config_file)

    def _checkpoint_file(self, stack: str) -> Path:
        return self.folder / ".pulumi/stacks" / self.name / f"{stack}.json"


def _account() -> dict[str, str]:
    """Return a user's name for those without an account: the engine writes one into its locks."""
    with suppress(KeyError):
        pwd.getpwuid(os.getuid())
        return {}
    return {"USER": os.environ.get("USER") or str(os.getuid())}
