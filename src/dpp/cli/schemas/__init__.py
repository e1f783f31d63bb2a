"""JSON Schemas of what `--json` prints where programs keep it: `<command>.schema.json`, written from the types themselves.

The night's report has its own, beside the code that builds it. ``python -m dpp.cli.schemas`` writes the files again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from dpp.lab.doctor import Check
from dpp.model.services import Service
from dpp.operations.change.apply import Report
from dpp.operations.change.findings import Dossier
from dpp.operations.change.listing import Listed
from dpp.operations.change.records import Record
from dpp.operations.messages import Message
from dpp.operations.status import Piece

FOLDER = Path(__file__).parent
_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_PRINTED: dict[str, TypeAdapter[Any]] = {
    "status": TypeAdapter(list[Piece]),
    "doctor": TypeAdapter(list[Check]),
    "service-list": TypeAdapter(list[Service]),
    "messages-list": TypeAdapter(list[Message]),
    "change-plan": TypeAdapter(Dossier),
    "change-record": TypeAdapter(Record),
    "change-list": TypeAdapter(list[Listed]),
    "change-apply": TypeAdapter(Report),
}
"""What each command prints, words of a command joined by hyphens; a record is also a file of ``changes/``."""


def schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of each command's output by the command's name."""
    return {
        name: {"$schema": _DRAFT, **adapter.json_schema(mode="serialization")} for name, adapter in _PRINTED.items()
    }


def path_of(name: str) -> Path:
    """Return where the schema of a command's output is committed."""
    return FOLDER / f"{name}.schema.json"
