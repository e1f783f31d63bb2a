"""Waits, at the end of a night, until each exposure is archived and answered, or its loss has a name, and its alerts are there."""

from __future__ import annotations

import json
import time
from pathlib import Path

from workloads.common.ledger import ANSWERED, ARCHIVED
from workloads.report.facts import Growing

PATIENCE_SECONDS = 240.0


def settle(folder: Path, patience: float = PATIENCE_SECONDS) -> int:
    """Wait, at most `patience` seconds; each second a line of progress goes to standard output.

    Exposures that have not settled by then, and alerts that have not come, are the report's to name, no failure of this step.
    """
    deadline, settling = time.monotonic() + patience, Settling(folder)
    while True:
        done, wanted = settling.look()
        print(json.dumps({"settled": done, "of": wanted, "coming": settling.coming}), flush=True)
        if (done == wanted and not settling.coming) or time.monotonic() > deadline:
            return 0
        time.sleep(1.0)


class Settling:
    """How many exposures of the camera's records are archived and answered; each look reads what is new.

    Parameters
    ----------
    folder
        The night's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._exposures, self._ledger, self._alerts = (
            Growing(folder / f"{name}.jsonl") for name in ("exposures", "ledger", "alerts")
        )
        self._wanted = set[tuple[str, str]]()
        self._ends: dict[tuple[str, str], int] = {}
        self._made: dict[tuple[str, str], int] = {}
        self._received = 0

    @property
    def coming(self) -> int:
        """How many alerts were made, as processing said of each exposure, and have not come to the consumer yet."""
        return max(0, sum(self._made.values()) - self._received)

    def look(self) -> tuple[int, int]:
        """Return how many have settled, and how many there are."""
        self._wanted |= {(row["obsId"], row["detector"]) for row in self._exposures.new()}
        for row in self._ledger.new():
            image = row["obsId"], row["detector"]
            end = 1 * (row["step"] in ARCHIVED) + 2 * (row["step"] in ANSWERED)
            if end:
                self._ends[image] = self._ends.get(image, 0) | end
            if row["step"] == "processed":
                self._made[image] = int(row["figures"].get("alerts", 0))
        self._received += sum(1 for _ in self._alerts.new())
        return sum(self._ends.get(image) == 3 for image in self._wanted), len(self._wanted)
