"""What the camera remembers outside the system under test: digests of all it read out, and the truth of the sky."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class NightRecords:
    """Append-only files in the night's run folder, each line on disk before the image is offered.

    Parameters
    ----------
    folder
        The night's folder; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def night(self, content: dict[str, Any]) -> None:
        """Write the facts of the whole night."""
        self._write(self.folder / "night.json", json.dumps(content, indent=1) + "\n", "w")

    def visit(self, content: dict[str, Any]) -> None:
        """Add an announced or cancelled visit."""
        self._append("visits.jsonl", content)

    def exposure(self, content: dict[str, Any]) -> None:
        """Add one detector of one exposure: observation id, detector, group, SHA-256 of the pixels."""
        self._append("exposures.jsonl", content)

    def readout(self, content: dict[str, Any]) -> None:
        """Add the end of a readout (TAI seconds)."""
        self._append("readouts.jsonl", content)

    def truth(self, rows: list[dict[str, Any]]) -> None:
        """Add sources of one detector of one exposure."""
        text = "".join(json.dumps(row) + "\n" for row in rows)
        self._write(self.folder / "truth.jsonl", text, "a")

    def done(self) -> None:
        """Say that the night is complete."""
        self._write(self.folder / "done", "", "w")

    def _append(self, name: str, content: dict[str, Any]) -> None:
        self._write(self.folder / name, json.dumps(content) + "\n", "a")

    def _write(self, path: Path, text: str, mode: str) -> None:
        with path.open(mode) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
