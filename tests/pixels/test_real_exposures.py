"""Real exposures, one epoch against the other, with injected transients: as good as sfft, and fluxes without bias."""

import os
from pathlib import Path

import pytest

SKY = Path(os.environ.get("DPP_SKY", "-"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SKY.is_dir(), reason="DPP_SKY names no directory of real exposures"),
]


@pytest.fixture(scope="module")
def figures():
    from bench.sky import measure

    found = measure(SKY, count=10, threads=2)
    print(found)
    return found


def test_no_fewer_transients_are_found_than_by_sfft(figures):
    ours, theirs = (figures[side]["complete"] / figures[side]["wanted"] for side in ("ours", "sfft"))
    assert figures["ours"]["wanted"] >= 90
    assert ours >= theirs - 0.005


def test_no_more_is_found_where_nothing_is_than_by_sfft(figures):
    assert figures["ours"]["false"] <= figures["sfft"]["false"]


def test_fluxes_are_not_biased(figures):
    """The median is known to within 0.7 % here (95 %), so its interval must reach no further than both together."""
    assert figures["fluxes"] >= 500
    assert abs(figures["flux_bias"]) <= 0.01
    low, high = figures["flux_bias_95"]
    assert -0.017 <= low <= high <= 0.017


def test_every_pair_is_matched(figures):
    assert figures["not_matched"] == 0
