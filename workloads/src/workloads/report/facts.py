"""What the night's folder holds, read once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from workloads.common.names import ExposureName

Row = dict[str, Any]


@dataclass
class Facts:
    """The files of a night's folder.

    Parameters
    ----------
    night
        Plan and seed, as the camera wrote them.
    visits, readouts, exposures, truth
        The camera's own records, outside the system under test.
    ledger, alerts
        What the independent consumer received.
    stores, receipts
        What was read back from each store, and from the receipts of each broker.
    """

    night: Row
    visits: list[Row] = field(default_factory=list)
    readouts: list[Row] = field(default_factory=list)
    exposures: list[Row] = field(default_factory=list)
    truth: list[Row] = field(default_factory=list)
    ledger: list[Row] = field(default_factory=list)
    alerts: list[Row] = field(default_factory=list)
    stores: list[Row] = field(default_factory=list)
    receipts: list[Row] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> Facts:
        """Read a folder; files that are not there are empty.

        Only stamps and alerts of this night's exposures and groups count.
        """
        night = json.loads((folder / "night.json").read_text())
        names = ("visits", "readouts", "exposures", "truth", "ledger", "alerts", "stores", "receipts")
        facts = cls(night, **{name: list(lines(folder / f"{name}.jsonl")) for name in names})
        images = {row["obsId"] for row in facts.readouts}
        groups = {row["group"] for row in facts.visits + facts.readouts}
        facts.ledger = [
            row for row in facts.ledger if row["obsId"] in images or (not row["obsId"] and row["groupId"] in groups)
        ]
        facts.alerts = [row for row in facts.alerts if "error" in row or row["visit"] in facts.obs_ids]
        return facts

    @cached_property
    def obs_ids(self) -> dict[int, str]:
        """Observation ids by the number of the exposure, which is all that an alert says of it."""
        return {ExposureName.from_obs_id(row["obsId"]).exposure_id: row["obsId"] for row in self.readouts}

    def end_of_readout(self) -> dict[str, float]:
        """Return TAI seconds of the end of readout by observation id."""
        return {row["obsId"]: float(row["endOfReadout"]) for row in self.readouts}


def lines(path: Path) -> Iterator[Row]:
    """Yield the rows of a file of the night's folder that may still grow: its whole lines, none where there is no file."""
    if path.exists():
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)
