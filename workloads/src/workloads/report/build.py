"""The report itself: JSON for machines (report.schema.json says of what shape) and HTML for people."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from workloads.common.plan import SKY_PREFIX
from workloads.report import figures
from workloads.report.facts import Facts
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
    """Write report.json and report.html into a night's folder and return the report."""
    facts = Facts.read(folder)
    report: dict[str, Any] = {
        "schema": "report/1", "night": facts.night["night"], "plan": facts.night, "exposures": figures.exposures(facts), "alerts": figures.alerts(facts),
        "latency": figures.latency(facts), "waterfall": figures.waterfall(facts), "transients": figures.transients(facts), "visits": _visits(facts),
    }  # fmt: skip
    requirements = REPLAYED_REQUIREMENTS if facts.night["sky"].startswith(SKY_PREFIX) else REQUIREMENTS
    report["requirements"] = [_judge(report, *requirement) for requirement in requirements]
    report["passed"] = all(requirement["met"] for requirement in report["requirements"])
    _write(folder / "report.json", json.dumps(report, indent=1, sort_keys=False))
    _write(folder / "report.html", render(report, folder))
    return report


def _judge(report: dict[str, Any], title: str, path: str, comparison: str, limit: float) -> dict[str, Any]:
    part, name = path.split(".")
    value = report[part].get(name)
    met = value is not None and (value <= limit if comparison == "<=" else value >= limit)
    judge = "clock" if part == "latency" else "count"
    return {"title": title, "value": value, "comparison": comparison, "limit": limit, "judged_by": judge, "met": met}


def _visits(facts: Facts) -> list[dict[str, Any]]:
    """Return, per visit and detector, the ledger's time stamps and figures."""
    announced = {row["group"]: row for row in facts.visits if not row["cancelled"]}
    cancelled = {row["group"] for row in facts.visits if row["cancelled"]}
    stamps: dict[tuple[str, str], dict[str, Any]] = {}
    for row in facts.ledger:
        if row["detector"]:
            detector = stamps.setdefault((row["obsId"], row["detector"]), {"steps": {}, "figures": {}, "reasons": []})
            detector["steps"].setdefault(row["step"], row["time"])
            detector["figures"] |= row["figures"]
            if row["reason"]:
                detector["reasons"].append(f"{row['step']}: {row['reason']}")
    visits = []
    for readout in facts.readouts:
        of_visit = {
            detector: content for (obs_id, detector), content in sorted(stamps.items()) if obs_id == readout["obsId"]
        }
        known = announced.get(readout["group"], {})
        visits.append(
            {
                "obsId": readout["obsId"],
                "group": readout["group"],
                "field": known.get("field", ""),
                "announced": known.get("announced"),
                "endOfReadout": readout["endOfReadout"],
                "detectors": of_visit,
            }
        )
    return visits + [
        {
            "obsId": "",
            "group": group,
            "field": announced.get(group, {}).get("field", ""),
            "announced": announced.get(group, {}).get("announced"),
            "endOfReadout": None,
            "detectors": {},
        }
        for group in sorted(cancelled)
    ]


def _write(path: Path, text: str) -> None:
    aside = path.with_suffix(f"{path.suffix}.part")
    with aside.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
