"""A night over real exposures on the standing observatory; ``DPP_SKY`` names their directory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lab.observatory import Observatory

SKY = os.environ.get("DPP_SKY", "-")
VISITS, INTERVAL, SEED = 6, 25, 4711
pytestmark = pytest.mark.skipif(not Path(SKY).is_dir(), reason="DPP_SKY names no directory of real exposures")


@pytest.fixture(scope="module")
def report(observatory: Observatory) -> dict[str, Any]:
    folder = observatory.night(f"--visits={VISITS}", f"--interval={INTERVAL}", f"--seed={SEED}", f"--sky={SKY}")
    content: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return content


def test_the_night_over_real_sky_meets_its_own_requirements(report: dict[str, Any]) -> None:
    print(json.dumps(report["requirements"], indent=1))
    assert [one["title"] for one in report["requirements"] if not one["met"]] == [], report["transients"]
    assert report["plan"]["sky"].startswith("sky-")
    assert report["exposures"]["processed"] == VISITS
    assert report["transients"]["injected"] >= 5 * VISITS


def test_a_directory_that_cannot_be_replayed_is_refused_with_its_reason(
    observatory: Observatory, tmp_path: Path
) -> None:
    said = observatory.dpp("night", "run", "--visits=1", f"--sky={tmp_path}", code=1)
    assert "no FITS files, expected the exposures of two epochs" in said
