"""Waits, at the end of a night, until each exposure is archived and answered, or its loss has a name."""

from __future__ import annotations

import json
import time
from pathlib import Path

from workloads.common.ledger import ANSWERED, ARCHIVED
from workloads.report.facts import lines

PATIENCE_SECONDS = 240.0


def settle(folder: Path, patience: float = PATIENCE_SECONDS) -> int:
    """Wait, at most `patience` seconds; each second a line of progress goes to standard output.

    Exposures that have not settled by then are the report's to name, no failure of this step.
    """
    deadline = time.monotonic() + patience
    while True:
        done, wanted = settled(folder)
        print(json.dumps({"settled": done, "of": wanted}), flush=True)
        if done == wanted or time.monotonic() > deadline:
            return 0
        time.sleep(1.0)


def settled(folder: Path) -> tuple[int, int]:
    """Return how many exposures of the camera's records are archived and answered, and how many there are."""
    wanted = {(row["obsId"], row["detector"]) for row in lines(folder / "exposures.jsonl")}
    stamps = [(row["obsId"], row["detector"], row["step"]) for row in lines(folder / "ledger.jsonl")]
    done = [{(obs_id, detector) for obs_id, detector, step in stamps if step in ends} for ends in (ARCHIVED, ANSWERED)]
    return len(wanted & done[0] & done[1]), len(wanted)
