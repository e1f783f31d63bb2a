"""Where things lie outside the tree: one object knows the state, cache and run folders of an instance."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from dpp.model.errors import UsageError

REPOSITORY = Path(__file__).resolve().parents[3]
"""The checkout that this tool runs from."""

_INSTANCE = re.compile(r"[a-z][a-z0-9]{0,7}")


def _xdg(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / default) / "dpp"


@dataclass(frozen=True)
class Folders:
    """The folders of one environment, or of one instance of it where its machines are made here.

    Parameters
    ----------
    instance
        Name of the instance, at most eight characters: it becomes part of namespace, container and volume names.
    environment
        Name of an environment that has no instances.
    """

    instance: str
    environment: str = ""

    def __post_init__(self) -> None:
        if not _INSTANCE.fullmatch(self.instance):
            raise UsageError(
                "DPP_LAB",
                f"instance name {self.instance!r}",
                "one to eight of a-z and 0-9, beginning with a letter",
                "set DPP_LAB",
            )

    @classmethod
    def current(cls) -> Folders:
        """Return the folders of the instance named by ``DPP_LAB`` (default ``lab``)."""
        return cls(os.environ.get("DPP_LAB", "lab"))

    @classmethod
    def of(cls, environment: str, *, instances: bool) -> Folders:
        """Return the folders of an environment: the current instance's where it has `instances`, else its own."""
        current = cls.current()
        return current if instances else cls(current.instance, environment)

    @property
    def cache(self) -> Path:
        """Tools, images and package downloads by version and digest: shared by all instances, safe to delete."""
        return Path(os.environ["DPP_CACHE"]) if "DPP_CACHE" in os.environ else _xdg("XDG_CACHE_HOME", ".cache")

    @property
    def state(self) -> Path:
        """What must survive a reboot: stack states, secrets, volumes, reports."""
        return _xdg("XDG_STATE_HOME", ".local/state") / (self.environment or self.instance)

    @property
    def run(self) -> Path:
        """What a reboot may take: locks, sockets, process ids."""
        return Path("/run/dpp") / (self.environment or self.instance)

    @property
    def secrets(self) -> Path:
        """Generated secrets, readable by their owner only."""
        return self.state / "secrets"

    @property
    def ssh_config(self) -> Path:
        """The ssh configuration that reaches every host in band."""
        return self.state / "ssh_config"
