"""What the night's folder holds: what is small read once, what is large gone through as it is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from workloads.common.names import ExposureName
from workloads.report.columns import Alerts, Truth
from workloads.report.stamps import Stamps

Row = dict[str, Any]


class Rows:
    """The rows of a file of the night's folder, read anew each time that they are gone through; none where there is no file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[Row]:
        yield from lines(self.path)


@dataclass
class Facts:
    """The files of a night's folder; only stamps and alerts of this night's exposures and groups count.

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
    visits: Iterable[Row] = ()
    readouts: Iterable[Row] = ()
    exposures: Iterable[Row] = ()
    truth: Iterable[Row] = ()
    ledger: Iterable[Row] = ()
    alerts: Iterable[Row] = ()
    stores: Iterable[Row] = ()
    receipts: Iterable[Row] = ()

    @classmethod
    def read(cls, folder: Path) -> Facts:
        """Read a folder; files that are not there are empty."""
        night = json.loads((folder / "night.json").read_text())
        names = ("visits", "readouts", "exposures", "truth", "ledger", "alerts", "stores", "receipts")
        return cls(night, **{name: Rows(folder / f"{name}.jsonl") for name in names})

    @cached_property
    def obs_ids(self) -> dict[int, str]:
        """Observation ids by the number of the exposure, which is all that an alert says of it."""
        return {ExposureName.from_obs_id(row["obsId"]).exposure_id: row["obsId"] for row in self.readouts}

    @cached_property
    def ends(self) -> dict[str, float]:
        """TAI seconds of the end of readout by observation id."""
        return {row["obsId"]: float(row["endOfReadout"]) for row in self.readouts}

    @cached_property
    def stamps(self) -> Stamps:
        """The ledger's stamps of this night."""
        groups = {row["group"] for rows in (self.visits, self.readouts) for row in rows}
        return Stamps(
            row for row in self.ledger if row["obsId"] in self.ends or (not row["obsId"] and row["groupId"] in groups)
        )

    @cached_property
    def found(self) -> Alerts:
        """The alerts of this night."""
        return Alerts.read(self.alerts, self.obs_ids)

    @cached_property
    def injected(self) -> Truth:
        """What the camera knows to be on each image."""
        return Truth.read(self.truth, [(row["obsId"], row["detector"]) for row in self.exposures])

    @cached_property
    def detectors(self) -> dict[str, int]:
        """Numbers of detectors by their names."""
        return {name: int(number) for name, number in self.night.get("detectorNumbers", {}).items()}


class Growing:
    """A file of the night's folder that may still grow, whose whole lines are each read once.

    Parameters
    ----------
    path
        The file; it may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0

    def new(self) -> Iterator[Row]:
        """Yield the rows that have come since the last call."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                for line in file:
                    if line.endswith(b"\n"):
                        self._read += len(line)
                        yield json.loads(line)


def lines(path: Path) -> Iterator[Row]:
    """Yield the rows of a file of the night's folder that may still grow: its whole lines, none where there is no file."""
    return Growing(path).new()
