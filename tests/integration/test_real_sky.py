"""A night over real exposures (``DPP_SKY`` names their directory): the same way as a simulated one, with its own figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from integration.conftest import rows

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,  # the whole lab takes the same night: tests/lab/test_real_sky.py
    pytest.mark.skipif(
        not Path(os.environ.get("DPP_SKY", "-")).is_dir(), reason="DPP_SKY names no directory of real exposures"
    ),
]
VISITS = 10


@pytest.fixture(scope="module")
def real_night(system):
    sky = os.environ["DPP_SKY"]
    scratch = {"DPP_SCRATCH": str(system.miniature.folder / "scratch")}
    said = subprocess.run(
        [sys.executable, "-m", "workloads.calibration", "--deliver", sky],
        env=system.miniature.environment("operator", "ncsa"), capture_output=True, text=True, check=True,
    )  # fmt: skip
    facts = json.loads(said.stdout)
    system.miniature.run("calibration", "ncsa", "--sky", facts["sky"], PIPETASK_PROCESSES="2", **scratch)
    folder = system.night(VISITS, "--sky", sky, "--seed", "4711")
    return folder, facts, json.loads((folder / "report.json").read_text())


def test_the_camera_replays_what_was_delivered(real_night):
    folder, facts, report = real_night
    assert report["plan"]["sky"] == facts["sky"]
    assert {one["file"] for one in report["plan"]["skyFacts"]["science"]} == set(facts["science"])
    assert {row["field"] for row in rows(folder / "visits.jsonl")} == {facts["sky"]}


def test_nothing_is_lost_and_all_is_answered_in_time(real_night):
    _, _, report = real_night
    assert report["exposures"]["lost"] == 0, report["exposures"]["losses"]
    assert report["exposures"]["processed"] == VISITS
    assert (report["alerts"]["missing"], report["alerts"]["duplicates"], report["alerts"]["undecodable"]) == (0, 0, 0)
    assert report["latency"]["within_60_s"] >= 0.98


def test_injected_transients_are_recovered(real_night, record_property):
    _, _, report = real_night
    found = report["transients"]
    for name in ("injected", "recovered", "completeness", "masked", "false", "false_repeating"):
        record_property(name, found[name])
    print({name: value for name, value in found.items() if name != "missed"})
    assert found["injected"] >= 5 * VISITS
    assert found["completeness"] >= 0.9, found["missed"]
    assert found["false_once_per_image"] <= 2.0, found
    assert report["passed"], report["requirements"]


def test_the_template_is_of_the_other_epoch(system, real_night):
    """The archive has one template of this sky, made of the other epoch's exposures, and calibrations of its size."""
    _, facts, _ = real_night
    script = (
        "from lsst.daf.butler import Butler; b = Butler.from_config('s3://butler/repo/');"
        f"t = b.get('template', skymap='{facts['sky']}', tract=1, patch=94, band='i', collections='LSSTCam/{facts['sky']}/templates');"
        f"c = b.get('calibration', instrument='LSSTCam', detector=94, collections='LSSTCam/{facts['sky']}/calib/latest');"
        "import json; print(json.dumps([t.epochs, list(t.image.shape), list(c.bias.shape)]))"
    )
    environment = system.miniature.client("calibration", "ncsa")
    said = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    epochs, shape, calibrated = json.loads(said.stdout)
    assert epochs == len(facts["template"])
    assert shape == calibrated
