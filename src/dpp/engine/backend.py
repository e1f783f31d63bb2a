"""The folder that holds states, laid out as the vendor's ``file://`` backend, so that both engines work on one."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from dpp.engine.locks import Locks
from dpp.model.errors import FatalError, UsageError

_COPIES = 50
"""How many former states are kept."""


def write_durably(path: Path, text: str) -> None:
    """Write `text` to `path` so that after a crash at any instant the old or the new text is there, whole.

    Raises
    ------
    FatalError
        If it cannot be written; then the old text is there.
    """
    try:
        _write(path, text)
    except OSError as error:
        reason = f"cannot be written: {error.strerror}"
        raise FatalError(str(path), reason, "a place that can be written", "make room there, then run again") from error


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _prune(folder: Path, pattern: str) -> None:
    """Delete all copies of a state but the newest; their names sort by time."""
    for old in sorted(folder.glob(pattern))[:-_COPIES]:
        old.unlink(missing_ok=True)


@dataclass(frozen=True)
class Backend:
    """States of one project in a folder.

    Parameters
    ----------
    folder
        The folder that ``PULUMI_BACKEND_URL`` names; states lie in ``.pulumi`` below it.
    project
        Name of the project.
    """

    folder: Path
    project: str

    @classmethod
    def open(cls, url: str, project: str) -> Backend:
        """Return the backend at a ``file://`` URL.

        Raises
        ------
        UsageError
            If the URL names something else than a folder.
        """
        parts = urlsplit(url)
        if parts.scheme != "file":
            raise UsageError(url, "not a folder", "file:///FOLDER", "other backends need the pulumi command")
        return cls(Path(unquote(parts.netloc + parts.path)).expanduser(), project)

    @property
    def url(self) -> str:
        """URL of the folder."""
        return self.folder.as_uri()

    def checkpoint(self, stack: str) -> Path:
        """Return the state file of a stack."""
        return self.folder / ".pulumi/stacks" / self.project / f"{stack}.json"

    def stacks(self) -> list[str]:
        """Return the names of all stacks that have a state."""
        return sorted(file.name.removesuffix(".json") for file in self.checkpoint("x").parent.glob("*.json"))

    def read(self, stack: str) -> dict[str, Any] | None:
        """Return a stack's checkpoint file as JSON; ``None`` if the stack was never applied.

        Raises
        ------
        FatalError
            If the file is no checkpoint of version 3.
        """
        path = self.checkpoint(stack)
        try:
            found = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise FatalError(
                str(path), f"no JSON: {error}", "a checkpoint", f"restore one from {self._backups(stack)}"
            ) from error
        if found.get("version") != 3 or "checkpoint" not in found:
            raise FatalError(str(path), f"version {found.get('version')}", "a checkpoint of version 3")
        return dict(found)

    def write(self, stack: str, text: str) -> None:
        """Write a stack's checkpoint, durably."""
        write_durably(self.checkpoint(stack), text)

    @contextmanager
    def locked(self, stack: str) -> Iterator[None]:
        """Hold the stack's lock; a copy of its state goes to the backups first.

        Raises
        ------
        RetriableError
            If somebody else holds it.
        """
        meta = self.folder / ".pulumi/meta.yaml"
        if not meta.exists():
            write_durably(meta, "version: 1\n")
        with self.locks(stack).held():
            if self.checkpoint(stack).exists():
                backup = self._backups(stack) / f"{stack}.{time.time_ns()}.json"
                write_durably(backup, self.checkpoint(stack).read_text())
                _prune(backup.parent, "*.json")
            yield

    def locks(self, stack: str) -> Locks:
        """Return the locks of a stack."""
        return Locks(self.folder / ".pulumi/locks/organization" / self.project / stack, stack)

    def record(self, stack: str, entry: dict[str, Any]) -> None:
        """Add an update to the stack's history, with the state that it left."""
        base = self.folder / ".pulumi/history" / self.project / stack / f"{stack}-{time.time_ns()}"
        if self.checkpoint(stack).exists():
            write_durably(base.with_name(f"{base.name}.checkpoint.json"), self.checkpoint(stack).read_text())
        write_durably(base.with_name(f"{base.name}.history.json"), json.dumps(entry, indent=4))
        _prune(base.parent, "*.checkpoint.json")

    def _backups(self, stack: str) -> Path:
        return self.folder / ".pulumi/backups" / self.project / stack
