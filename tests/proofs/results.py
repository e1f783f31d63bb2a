"""What a run of pytest came to, read from its JUnit report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET


@dataclass(frozen=True)
class Results:
    """Counts of tests, how long each took, and why some were skipped.

    Parameters
    ----------
    passed, failed, skipped
        How many; an error in set-up or tear-down is a failure.
    seconds
        Test to its seconds, with set-up and tear-down.
    reasons
        Skipped test to the reason.
    """

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, report: Path) -> Results:
        """Read a report; a run that left none came to nothing."""
        if not report.exists():
            return cls()
        seconds: dict[str, float] = {}
        reasons: dict[str, str] = {}
        failed: set[str] = set()
        for case in ET.parse(report).iter("testcase"):  # noqa: S314 - our own file
            name = f"{case.get('classname', '')}::{case.get('name', '')}".removeprefix("tests.")
            seconds[name] = seconds.get(name, 0.0) + float(case.get("time", 0))
            if case.find("failure") is not None or case.find("error") is not None:
                failed.add(name)
            elif (skip := case.find("skipped")) is not None:
                reasons[name] = skip.get("message") or "no reason given"
        passed = len(seconds) - len(failed) - len(reasons)
        return cls(passed, len(failed), len(reasons), seconds, reasons)
