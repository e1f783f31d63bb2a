"""Where the stacks of an environment are: its backend, passphrase and configuration."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from dpp.adapters.secrets import Secrets
from dpp.engine.backend import write_durably
from dpp.engine.passphrase import Passphrase
from dpp.engine.workspace import Workspace
from dpp.model.errors import UsageError
from dpp.model.folders import REPOSITORY, Folders

_STACK = re.compile(r"(?P<environment>[a-z][a-z0-9]*)\.(?P<unit>[a-z][a-z0-9-]*)")


@dataclass(frozen=True)
class Environment:
    """The stacks of one environment, under its state folder.

    Parameters
    ----------
    name
        Name of the environment, the first part of its stacks' names.
    state
        Its state folder: ``pulumi`` below it is the backend, ``secrets`` keeps the passphrase.
    project
        Folder of Pulumi.yaml.
    """

    name: str
    state: Path
    project: Path = REPOSITORY

    @classmethod
    def named(cls, name: str) -> Environment:
        """Return the environment of that name; the lab's state is the current instance's."""
        current = Folders.current().state
        return cls(name, current if name == "lab" else current.parent / name)

    @classmethod
    def of_stack(cls, stack: str) -> Environment:
        """Return the environment that a stack ``<environment>.<unit>`` belongs to.

        Raises
        ------
        UsageError
            If that is no name of a stack.
        """
        match = _STACK.fullmatch(stack)
        if not match:
            raise UsageError("stack", repr(stack), "<environment>.<unit>", "for example lab.wan")
        return cls.named(match["environment"])

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
        """The configuration that all stacks of the environment share, made at first use with the salt of their secrets."""
        path = self.folder / f"Pulumi.{self.name}.yaml"
        if not path.exists():
            salt = Passphrase.create(self.passphrase_file.read_text().rstrip("\r\n"), str(path)).salt
            write_durably(path, yaml.safe_dump({"encryptionsalt": salt}))
        return path

    def workspace(self, parallel: int = 8) -> Workspace:
        """Return the offline engine's view of the environment's stacks."""
        return Workspace(
            self.project,
            self.folder.as_uri(),
            self.passphrase_file,
            self.variables(),
            self.config_file,
            parallel,
        )

    def variables(self) -> dict[str, str]:
        """Return what the vendor's command needs to work on the same stacks."""
        tools = str(Path(sys.executable).parent)
        path = os.environ.get("PATH", os.defpath)
        return {
            "PULUMI_BACKEND_URL": self.folder.as_uri(),
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(self.passphrase_file),
            "PULUMI_HOME": str(self.folder / "home"),
            "PULUMI_OPTION_CONFIG_FILE": str(self.config_file),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PATH": path if tools in path.split(os.pathsep) else f"{tools}{os.pathsep}{path}",
        }

    def exports(self) -> str:
        """Return `variables` as shell commands."""
        lines = [f"export {key}={shlex.quote(value)}" for key, value in self.variables().items()]
        return "\n".join(["unset PULUMI_CONFIG_PASSPHRASE", *lines])


def vendor_command() -> str | None:
    """Return the vendor's command if it is to be used: on PATH, and ``DPP_ENGINE`` does not say ``offline``.

    Raises
    ------
    UsageError
        If ``DPP_ENGINE`` is neither ``offline`` nor ``pulumi``, or names a command that is not there.
    """
    wanted, found = os.environ.get("DPP_ENGINE", ""), shutil.which("pulumi")
    if wanted not in {"", "offline", "pulumi"}:
        raise UsageError("DPP_ENGINE", wanted, "offline or pulumi")
    if wanted == "pulumi" and not found:
        raise UsageError("DPP_ENGINE", "pulumi, which is not on PATH", "an installed pulumi command")
    return None if wanted == "offline" else found
