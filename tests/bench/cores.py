"""Two cores beside one: from raw to measured sources."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from tests.bench.detector import ours
from tests.bench.harness import Verdict, compare
from tests.bench.inputs import detector

GOAL = 1.8


def _same(a: Any, b: Any) -> dict[str, Any]:
    """Check that the number of cores changes nothing."""
    assert len(a) == len(b), f"{len(a)} sources with all cores, {len(b)} with one"
    for name in ("x", "y", "psf_flux", "snr"):
        assert np.allclose(a[name], b[name], rtol=1e-5, equal_nan=True), f"{name} differs with the number of cores"
    return {"sources": len(a)}


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Compare all cores with one."""
    if threads == 1:
        print(json.dumps({"bench": "cores", "skipped": "one core has nothing to be compared with"}), flush=True)
        return []
    given = detector(1024 if quick else 4096)
    return [
        compare(
            "cores",
            "one core",
            lambda: ours(given, threads),
            lambda: ours(given, 1),
            GOAL,
            equal=_same,
            pairs=3 if quick else 7,
        )
    ]
