"""Who works here, for journals and records: as change management knows them, else as git, else as this machine."""

from __future__ import annotations

import getpass
import socket
from dataclasses import dataclass
from pathlib import Path

from dpp.adapters.git import Git
from dpp.adapters.process import CommandFailedError
from dpp.operations.change.people import FILE, People


@dataclass(frozen=True)
class Who:
    """A person at a machine.

    Parameters
    ----------
    person, machine
        Their names.
    """

    person: str
    machine: str


def here(root: Path) -> Who:
    """Return who works in a checkout."""
    try:
        email = Git(root).user()
    except CommandFailedError:  # no git
        email = ""
    path = root / FILE
    known = People.parse(path.read_text() if path.is_file() else "", FILE).by_email(email) if email else None
    return Who(known or email or getpass.getuser(), socket.gethostname())
