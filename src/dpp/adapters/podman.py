"""Podman, as the lab uses it: containers, images and commands inside them, with typed errors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dpp.adapters import process
from dpp.adapters.process import CommandFailedError
from dpp.model.errors import FatalError


@cache
def runtime() -> str:
    """Return the OCI runtime for this kernel's cgroups: crun on version 2 where it is installed, runc otherwise.

    Raises
    ------
    FatalError
        If no usable runtime is installed.
    """
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    for name in ("crun", "runc") if unified else ("runc",):
        if shutil.which(name):
            return name
    raise FatalError("OCI runtime", "none on PATH", "runc" + (" or crun" if unified else ""), "run dpp doctor --fix")


@dataclass(frozen=True)
class Podman:
    """The podman of this machine.

    Parameters
    ----------
    timeout
        Seconds that a command may take unless a call says otherwise.
    """

    timeout: float = 60.0

    def run(self, *args: str, input: str | bytes | None = None, timeout: float | None = None) -> str:  # noqa: A002
        """Run a podman command and return what it printed.

        Raises
        ------
        CommandFailedError
            If it exits with another code than 0.
        CommandTimeoutError
            If it takes longer than `timeout` seconds.
        """
        command = ("podman", "--runtime", runtime(), *args)
        return process.run(command, timeout=timeout or self.timeout, input=input).stdout

    def inspect(self, name: str) -> dict[str, Any] | None:
        """Return what podman knows of a container, or None if there is none of that name."""
        try:
            found: list[dict[str, Any]] = json.loads(self.run("container", "inspect", name))
        except CommandFailedError as error:
            if "no such container" in error.stderr.lower():
                return None
            raise
        return found[0]

    def containers(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return all containers, running or not, that carry these labels."""
        filters = [f"--filter=label={key}={value}" for key, value in labels.items()]
        found: list[dict[str, Any]] = json.loads(self.run("ps", "--all", "--format=json", *filters))
        return found

    def image_id(self, name: str) -> str | None:
        """Return the id of an image, or None if it is not in the local storage."""
        try:
            return self.run("image", "inspect", "--format={{.Id}}", name).strip()
        except CommandFailedError as error:
            if "no such image" in error.stderr.lower() or "image not known" in error.stderr.lower():
                return None
            raise

    def execute(self, name: str, command: Sequence[str], input: str | None = None, timeout: float | None = None) -> str:  # noqa: A002
        """Run a command in a running container and return what it printed; errors as in `run`."""
        interactive = ["--interactive"] if input is not None else []
        return self.run("exec", *interactive, name, *command, input=input, timeout=timeout)
