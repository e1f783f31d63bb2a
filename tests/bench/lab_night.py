"""A night of the standing lab: seconds from readout to consumer, on the cores that the lab has.

It takes no night itself: `dpp night run` does, on a machine that does nothing else. ``DPP_NIGHT`` names its folder; by default it
is the one that was taken last.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dpp.model.folders import Folders

from .harness import Values, Verdict, against, skipped

BENCH = "lab_night"
MOST_SECONDS = 12.0
"""Of 98 % of alerts on two cores, where everything else of the observatory runs as well."""


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Judge the alerts of a whole night; `quick` is no other night, and the cores are the lab's."""
    del quick, threads
    folder = _folder()
    if folder is None:
        return skipped(BENCH, "a night of the lab: run `dpp night run`, or name its folder in DPP_NIGHT")
    report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    exposures, latency = report["exposures"], report["latency"]
    assert latency["count"] > 0, f"{folder}: no alerts"
    assert not exposures["lost"], f"{folder}: {exposures['losses']}"
    notes = {"night": report["night"], "alerts": latency["count"], "visits": len(latency["per_visit_p98_s"])}
    last = Values(latency["p98_s"])
    return [against(BENCH, "98 % of alerts from readout to consumer, s", last, MOST_SECONDS, **notes)]


def _folder() -> Path | None:
    if named := os.environ.get("DPP_NIGHT"):
        return Path(named)
    nights = Folders.of("lab", instances=True).state / "nights"
    reports = sorted(nights.glob("*/report.json"), key=lambda path: path.stat().st_mtime)
    return reports[-1].parent if reports else None
