"""The report itself: JSON for machines (report.schema.json says of what shape) and HTML for people."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from workloads.common.plan import SKY_PREFIX
from workloads.report import figures
from workloads.report.facts import Facts, Row
from workloads.report.page import render

_COMMON = (
    ("exposures lost", "exposures.lost", "<=", 0.0),
    ("exposures without an answer", "exposures.unanswered", "<=", 0.0),
    ("exposures that processing gave up", "exposures.given_up", "<=", 0.0),
    ("alerts missing at the consumer", "alerts.missing", "<=", 0.0),
    ("alerts that do not decode", "alerts.undecodable", "<=", 0.0),
    ("alerts delivered twice", "alerts.duplicates", "<=", 0.0),
    ("alerts missing at a broker", "alerts.not_at_brokers", "<=", 0.0),
    ("alerts within 60 s of the end of readout", "latency.within_60_s", ">=", 0.98),
    ("growth of latency, seconds per visit", "latency.slope_s_per_visit", "<=", 1.0),
)
REQUIREMENTS = (
    *_COMMON,
    ("transients above 8 sigma recovered within a pixel", "transients.completeness", ">=", 0.98),
    ("false alerts per detector image", "transients.false_per_image", "<=", 1.0),
)
"""What a night must reach: title, where in the report, comparison, limit.

A clock judges what is a latency, so that a machine which is busy with others misses it; the rest is counted.
"""
REPLAYED_REQUIREMENTS = (
    *_COMMON,
    ("injected transients above 8 sigma recovered within a pixel", "transients.completeness", ">=", 0.9),
    (
        "alerts on nothing injected, once and never again, per detector image",
        "transients.false_once_per_image",
        "<=",
        2.0,
    ),
)
"""The same over real sky: few stars to match on, noise that is correlated, and things that really change."""


def build(folder: Path) -> dict[str, Any]:
    """Write report.json and report.html into a night's folder and return the report but for its visits."""
    facts = Facts.read(folder)
    report: dict[str, Any] = {
        "schema": "report/1", "night": facts.night["night"], "plan": facts.night, "exposures": figures.exposures(facts), "alerts": figures.alerts(facts),
        "latency": figures.latency(facts), "waterfall": figures.waterfall(facts), "transients": figures.transients(facts),
    }  # fmt: skip
    requirements = REPLAYED_REQUIREMENTS if facts.night["sky"].startswith(SKY_PREFIX) else REQUIREMENTS
    report["requirements"] = [_judge(report, *requirement) for requirement in requirements]
    report["passed"] = all(requirement["met"] for requirement in report["requirements"])
    _write(folder / "report.json", _json(report, facts))
    _write(folder / "report.html", [render(report, folder, Visits(facts))])
    return report


def _judge(report: dict[str, Any], title: str, path: str, comparison: str, limit: float) -> dict[str, Any]:
    part, name = path.split(".")
    value = report[part].get(name)
    met = value is not None and (value <= limit if comparison == "<=" else value >= limit)
    judge = "clock" if part == "latency" else "count"
    return {"title": title, "value": value, "comparison": comparison, "limit": limit, "judged_by": judge, "met": met}


def _json(report: dict[str, Any], facts: Facts) -> Iterator[str]:
    """Yield the text of the report, a visit at a time: a full night has two hundred thousand images."""
    head = json.dumps(report, indent=1, sort_keys=False)
    yield f'{head.removesuffix("}").rstrip()},\n "visits": ['
    before = "\n"
    for visit in Visits(facts):
        yield f"{before}{json.dumps(visit)}"
        before = ",\n"
    yield "\n ]\n}"


class Visits:
    """Per visit and detector, the ledger's time stamps and figures; gone through, not kept.

    Parameters
    ----------
    facts
        The night's.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts, self._detectors = facts, facts.stamps.by_exposure()
        self.images = sum(map(len, self._detectors.values()))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        announced = {row["group"]: row for row in self._facts.visits if not row["cancelled"]}
        for readout in self._facts.readouts:
            detectors = {name: self._content(image) for name, image in self._detectors.get(readout["obsId"], [])}
            yield _visit(readout["obsId"], readout["group"], announced, readout["endOfReadout"], detectors)
        for group in sorted({row["group"] for row in self._facts.visits if row["cancelled"]}):
            yield _visit("", group, announced, None, {})

    def _content(self, image: int) -> dict[str, Any]:
        stamps = self._facts.stamps
        return {
            "steps": stamps.times.of(image),
            "figures": stamps.figures.of(image),
            "reasons": stamps.reasons.get(image, []),
        }


def _visit(
    obs_id: str, group: str, announced: dict[str, Row], end: float | None, detectors: dict[str, Any]
) -> dict[str, Any]:
    known = announced.get(group, {})
    return {
        "obsId": obs_id, "group": group, "field": known.get("field", ""), "announced": known.get("announced"),
        "endOfReadout": end, "detectors": detectors,
    }  # fmt: skip


def _write(path: Path, parts: Iterable[str]) -> None:
    aside = path.with_suffix(f"{path.suffix}.part")
    with aside.open("w") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
