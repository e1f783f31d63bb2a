"""A night that is judged by the clock as well: rates and latencies are the observatory's on a machine that does nothing else."""

from __future__ import annotations

import json

from lab.observatory import Observatory

VISITS = 6
SEED = 1353374132
"""One night for all runs, so that what fails can be repeated; outside the tests every night is another one."""


def test_a_night_meets_every_requirement_in_time(observatory: Observatory) -> None:
    folder = observatory.night(f"--visits={VISITS}", f"--seed={SEED}")
    report = json.loads((folder / "report.json").read_text())
    assert "clock" in {one["judged_by"] for one in report["requirements"]}
    assert [one for one in report["requirements"] if not one["met"]] == [], report["latency"]
    assert len(report["latency"]["per_visit_p98_s"]) == VISITS
    assert report["passed"]
