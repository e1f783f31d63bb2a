"""Questions to the visits' ledger, asked from the archive's operations host."""

from __future__ import annotations

import json
from typing import Any

from dpp.model.environment import Environment
from dpp.model.errors import FatalError
from dpp.model.folders import Folders
from dpp.operations.data_plane import DataPlane, last_words

ARCHIVE, PRINCIPAL = "ncsa", "operator"
_SECONDS = 120.0


def ask(environment: Environment, folders: Folders, *words: str) -> list[dict[str, Any]]:
    """Return the rows of an answer.

    Parameters
    ----------
    words
        ``nights FIRST LAST``, ``owed FIRST LAST`` or ``exposure OBS_ID``.

    Raises
    ------
    FatalError
        If the database does not answer, or does not know the exposure; its own words are in the message.
    """
    plane = DataPlane(environment, PRINCIPAL, ARCHIVE, folders)
    done = plane.run("workloads.visit_ledger", *words, seconds=_SECONDS, check=False)
    if done.code:
        said = last_words(done.stderr) or f"exit code {done.code}"
        raise FatalError(f"ledger of {environment.name}", said, "an answer", "see docs/runbooks/data-backbone.md")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows
