"""Who may change an environment that asks for an authorised change: whoever holds its permit, and what that starts.

A permit is a file of the environment's state folder. It counts while the process that wrote it holds the file's lock, so
that nothing goes on once that has ended, and for those alone who know its token, which goes to children by a variable.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import AwareDatetime, Field, ValidationError

from dpp.model.errors import FatalError, RetriableError
from dpp.model.folders import Folders
from dpp.model.types import Model

TOKEN: Final = "DPP_PERMIT"  # noqa: S105 - the variable's name
"""The variable by which the engine, its provider and playbooks know the token."""
_FILE: Final = "permit.json"


class Permit(Model):
    """What is being applied, and by whose word."""

    environment: str
    change: str = Field(default="", description="Id of an authorised change; empty where the glass was broken.")
    person: str = Field(description="Who applies it.")
    reason: str
    begun: AwareDatetime
    token: str = ""


@contextmanager
def held(permit: Permit, folders: Folders) -> Iterator[None]:
    """Hold the permit of an environment: this process and what it starts may change it until the ``with`` ends.

    Raises
    ------
    RetriableError
        If somebody else holds it; the error says for what.
    """
    folders.state.mkdir(parents=True, exist_ok=True)
    path = folders.state / _FILE
    token = secrets.token_hex(16)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RetriableError(f"environment {permit.environment}", f"{_said(path)} is being applied", "nobody else", "wait for it") from None  # fmt: skip
        text = permit.model_copy(update={"token": token}).model_dump_json().encode()
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text, 0)
        before = os.environ.get(TOKEN)
        os.environ[TOKEN] = token
        try:
            yield
        finally:
            os.environ.pop(TOKEN)
            if before is not None:
                os.environ[TOKEN] = before
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def refusal(environment: str, folders: Folders) -> str:
    """Return why whoever asks may not change an environment; empty where its permit is held and they know its token."""
    path = folders.state / _FILE
    if not _locked(path):
        return f"asks for an authorised change, and none is being applied to {environment}"
    try:
        permit = Permit.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):  # between its lock and its text, or after both
        return "somebody begins or ends a change"
    if not secrets.compare_digest(permit.token, os.environ.get(TOKEN, "")):
        return f"{_named(permit)} is being applied, and this is none of it"
    return ""


def require(environment: str, folders: Folders) -> None:
    """Refuse, by a ``FatalError`` that says why, whoever has no permit for an environment."""
    if why := refusal(environment, folders):
        raise FatalError(
            f"environment {environment}",
            why,
            "dpp change apply ID",
            f"dpp change list shows what is authorised; in an emergency dpp change break-glass {environment} --reason REASON -- COMMAND",
        )


def _locked(path: Path) -> bool:
    """Say whether somebody holds the lock of a file; those who ask do not disturb each other."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _said(path: Path) -> str:
    try:
        return _named(Permit.model_validate_json(path.read_bytes()))
    except (OSError, ValidationError):
        return "another change"


def _named(permit: Permit) -> str:
    return f"change {permit.change}" if permit.change else f"what {permit.person} broke the glass for"
