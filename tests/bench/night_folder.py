"""A night's folder of any size, as camera, follower and readers of stores leave it: from one seed, written as a stream."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workloads.broker.groups import GROUPS
from workloads.common.names import ExposureName

DAY = 20261122
_STEPS = ("arrived", "verified", "ingested", "processed", "alerted", "archived")
Rows = Iterator[dict[str, Any]]


@dataclass(frozen=True)
class Night:
    """How large a night is, and how much of it goes wrong.

    Parameters
    ----------
    visits, detectors, alerts
        Exposures of the sky, detectors of the camera, and alerts of each image.
    injected
        What the camera knows to be on each image.
    odd
        One image of so many has something odd: a stamp of failure, an alert that does not decode, one that came twice, a
        store that lacks it. None where it is 0.
    """

    visits: int = 1000
    detectors: int = 189
    alerts: int = 53
    injected: int = 10
    odd: int = 1000

    @property
    def names(self) -> list[str]:
        """Names of detectors, as many as rafts of nine have."""
        return [f"R{raft:02}_S{number // 3}{number % 3}" for raft in range(1, 23) for number in range(9)][
            : self.detectors
        ]

    def exposure(self, visit: int) -> ExposureName:
        """Return the exposure of a visit."""
        return ExposureName(DAY, visit + 1, "O")

    def end(self, visit: int) -> float:
        """Return the end of a readout, TAI seconds."""
        return 1.8e9 + 37.0 * visit

    def write(self, folder: Path) -> None:
        """Write the files."""
        plan = {
            "night": "bench",
            "seed": 1,
            "sky": "synthetic",
            "visits": self.visits,
            "interval": 37.0,
            "begun": 1.8e9,
        }
        numbers = {name: number for number, name in enumerate(self.names)}
        night = plan | {"detectors": self.names, "detectorNumbers": numbers}
        (folder / "night.json").write_text(json.dumps(night))
        for name, rows in {"visits": self._visits(), "readouts": self._readouts()}.items():
            (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        names = ("exposures", "truth", "ledger", "alerts", "stores", "receipts")
        files = {name: (folder / f"{name}.jsonl").open("w") for name in names}
        for visit in range(self.visits):
            for name, text in self._of_visit(visit).items():
                files[name].write(text)
        for file in files.values():
            file.close()

    def _visits(self) -> Rows:
        for visit in range(self.visits):
            group, announced = f"g{visit}", self.end(visit) - 50
            yield {
                "visit": visit,
                "group": group,
                "announced": announced,
                "field": f"f{visit % 100}",
                "cancelled": False,
            }
        if self.odd:
            yield {"visit": -1, "group": "off", "announced": 1.8e9, "field": "f", "cancelled": True}

    def _readouts(self) -> Rows:
        for visit in range(self.visits):
            yield {
                "obsId": self.exposure(visit).obs_id,
                "group": f"g{visit}",
                "endOfReadout": self.end(visit),
                "detectors": self.names,
            }

    def _of_visit(self, visit: int) -> dict[str, str]:
        rng, exposure, end = np.random.default_rng(visit), self.exposure(visit), self.end(visit)
        parts: dict[str, list[str]] = {
            name: [] for name in ("exposures", "truth", "ledger", "alerts", "stores", "receipts")
        }
        for number, detector in enumerate(self.names):
            image = {"obsId": exposure.obs_id, "detector": detector}
            odd = bool(self.odd) and (visit * self.detectors + number) % self.odd == self.odd - 1
            digest = hashlib.sha256(f"{visit} {number}".encode()).hexdigest()
            parts["exposures"].append(_line({**image, "group": f"g{visit}", "visit": visit, "sha256": digest}))
            sites = dict.fromkeys(("summit", "base", "ncsa"), digest)
            errors = {"base": "no such object"} if odd else {}
            parts["stores"].append(
                _line({**image, "sites": sites, "errors": errors, "pixels": dict.fromkeys(sites, True)})
            )
            parts["ledger"] += self._stamps(image, f"g{visit}", end, rng, odd=odd)
            places = rng.uniform(0, 4096, (max(self.alerts, self.injected), 2)).round(3)
            parts["truth"] += [
                _line(
                    {
                        **image,
                        "id": n,
                        "x": x + rng.uniform(0, 0.6),
                        "y": y,
                        "snr": 7.0 + n,
                        "kind": n % 4,
                        "masked": n % 7 == 6,
                    }
                )
                for n, (x, y) in enumerate(places[: self.injected].tolist())
            ]
            alerts, receipts = self._alerts(exposure.exposure_id, number, end, places, rng, odd=odd)
            parts["alerts"] += alerts
            parts["receipts"] += receipts
        return {name: "".join(lines) for name, lines in parts.items()}

    def _stamps(
        self, image: dict[str, str], group: str, end: float, rng: np.random.Generator, *, odd: bool
    ) -> list[str]:
        times = end + np.cumsum(rng.uniform(0.5, 6.0, len(_STEPS)))
        rows = []
        for step, time in zip(_STEPS, times.tolist(), strict=True):
            figures = {"alerts": float(self.alerts), "pixels_s": 4.0 + rng.uniform(), "load_s": 0.5, "association_s": 0.2, "latency_s": time - end} if step == "processed" else {"bytes": 2e7}  # fmt: skip
            rows.append({**image, "groupId": group, "step": step, "time": time, "service": "bench", "site": "ncsa", "reason": "", "figures": figures})  # fmt: skip
        if odd:
            rows.append({**rows[0], "step": "late", "reason": "not arrived 30 s after its readout", "figures": {}})
            rows.append({**rows[3], "time": end + 99.0, "figures": {"alerts": 1.0}})
        return [_line(row) for row in rows]

    def _alerts(
        self, visit: int, detector: int, end: float, places: Any, rng: np.random.Generator, *, odd: bool
    ) -> tuple[list[str], list[str]]:
        alerts, receipts = [], []
        first = (visit * 256 + detector) << 13
        received = (end + rng.uniform(8.0, 32.0) + rng.uniform(0, 1, self.alerts)).tolist()
        for number, ((x, y), time) in enumerate(zip(places[: self.alerts].tolist(), received, strict=True)):
            digest = hashlib.sha256(f"{first + number}".encode()).hexdigest()
            row = {
                "received": time, "sha256": digest, "bytes": 82000, "diaSourceId": first + number, "visit": visit, "detector": detector,
                "x": x, "y": y, "ra": 150.0 + x / 18000, "dec": -30.0 + y / 18000, "snr": 9.5, "psfFlux": 812.25,
                "diaObjectId": (detector << 13) + number if number % 5 == 0 else first + number, "history": 20,
            }  # fmt: skip
            alerts.append(_line(row))
            receipt = {"partition": number % 45, "offset": number, "sha256": digest, "received": time, "diaSourceId": row["diaSourceId"], "visit": visit, "detector": detector}  # fmt: skip
            receipts += [_line({"group": group, **receipt}) for group in GROUPS[odd and number == 0 :]]
        if odd and alerts:
            alerts += [
                alerts[-1],
                _line({"received": end + 20.0, "sha256": "ab" * 32, "bytes": 5, "error": "ValueError: odd"}),
            ]
        return alerts, receipts


def _line(row: dict[str, Any]) -> str:
    return f"{json.dumps(row)}\n"
