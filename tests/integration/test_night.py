"""A visit's whole way, from the camera's memory to a decoded alert, through real Kafka, PostgreSQL and object stores.

The night is the one that odd messages are written into (`test_odd_messages`): it must be as good as one without them.
"""

from __future__ import annotations

import hashlib
import json

import jsonschema
import pytest

from integration.conftest import DETECTOR, rows, stamped
from workloads.common.names import ExposureName

pytestmark = pytest.mark.root


@pytest.fixture
def night(fed):
    return fed.folder


@pytest.fixture
def report(night):
    return json.loads((night / "report.json").read_text())


def test_nothing_is_lost_and_everything_is_answered(report):
    exposures = report["exposures"]
    assert exposures["lost"] == 0, exposures["losses"]
    for step in ("expected", "arrived", "verified", "ingested", "processed", "archived"):
        assert exposures[step] == 3, step
    assert exposures["failures"] == []


def test_alerts_are_received_once_and_decode(report):
    alerts = report["alerts"]
    assert alerts["made"] > 0
    assert (alerts["received"], alerts["decoded"]) == (alerts["made"], alerts["made"])
    assert (alerts["missing"], alerts["undecodable"], alerts["duplicates"]) == (0, 0, 0)


def test_transients_are_recovered_and_those_missed_are_named(report):
    found = report["transients"]
    assert found["injected"] > 5
    assert found["completeness"] > 0.85
    assert len(found["missed"]) == found["injected"] - found["recovered"]


def test_the_report_keeps_its_schema_and_has_its_page(night, report):
    from importlib import resources

    schema = json.loads(resources.files("workloads.report").joinpath("report.schema.json").read_text())
    jsonschema.validate(report, schema)
    page = (night / "report.html").read_text()
    assert "Where the time goes" in page
    assert "data:image/png" in page


def test_raw_files_stand_at_three_sites_with_the_same_bytes(system, night):
    for fact in rows(night / "exposures.jsonl"):
        key = ExposureName.from_obs_id(fact["obsId"]).key(fact["detector"])
        found = {
            hashlib.sha256(system.miniature.s3(site).get_object(Bucket="raw", Key=key)["Body"].read()).hexdigest()
            for site in ("summit", "base", "ncsa")
        }
        assert len(found) == 1
        for suffix in (key.replace(".fits", ".json"), ExposureName.from_obs_id(fact["obsId"]).expected_sensors_key):
            assert system.miniature.s3("ncsa").head_object(Bucket="raw", Key=suffix)["ContentLength"] > 10


def test_five_groups_received_the_full_stream(system, night):
    wanted = {row["diaSourceId"] for row in rows(night / "alerts.jsonl")}

    def received(group):
        listed = (
            system.miniature.s3("ncsa")
            .list_objects_v2(Bucket="alerts", Prefix=f"receipts/{group}/")
            .get("Contents", [])
        )
        bodies = [
            system.miniature.s3("ncsa").get_object(Bucket="alerts", Key=one["Key"])["Body"].read() for one in listed
        ]
        return {json.loads(line).get("diaSourceId") for body in bodies for line in body.splitlines()}

    for number in range(1, 6):
        system.wait(lambda number=number: wanted <= received(f"broker-{number}"), f"broker-{number} has all receipts")


def test_the_database_of_the_ledger_has_every_stamp_once(system, night):
    stamps = rows(night / "ledger.jsonl")
    obs_id = rows(night / "exposures.jsonl")[0]["obsId"]
    own = [(row["step"], row["detector"], row["time"]) for row in stamps if row["obsId"] == obs_id]

    def kept():
        query = "SELECT step, detector, tai FROM stamps WHERE obs_id = %s"
        return sorted(system.miniature.sql("visit-ledger", "ledger", query, obs_id))

    system.wait(lambda: len(kept()) >= len(own), "the ledger's database has the night")
    assert kept() == sorted(own)
    [[images, alerted, lost]] = system.miniature.sql("visit-ledger", "ledger", "SELECT sum(images)::int, sum(alerted)::int, sum(lost)::int FROM nights")  # fmt: skip
    assert (images, alerted, lost) == (3, 3, 0)


def test_a_deleted_object_fails_the_night(system, night):
    fact = rows(night / "exposures.jsonl")[0]
    key = ExposureName.from_obs_id(fact["obsId"]).key(fact["detector"])
    store = system.miniature.s3("base")
    data = store.get_object(Bucket="raw", Key=key)
    body, metadata = data["Body"].read(), data["Metadata"]
    store.delete_object(Bucket="raw", Key=key)
    try:
        report = system.report(night)
        assert report["exposures"]["lost"] == 1
        assert "base: no such object" in report["exposures"]["losses"][0]
        assert not report["passed"]
    finally:
        store.put_object(Bucket="raw", Key=key, Body=body, Metadata=metadata)
    assert system.report(night)["exposures"]["lost"] == 0


def test_a_lost_alert_fails_the_night(system, night):
    path = night / "alerts.jsonl"
    whole = path.read_text()
    try:
        path.write_text("".join(whole.splitlines(keepends=True)[1:]))
        report = system.report(night)
        assert report["alerts"]["missing"] == 1
        assert not report["passed"]
    finally:
        path.write_text(whole)
    assert system.report(night)["alerts"]["missing"] == 0


def test_the_truth_is_nowhere_in_the_system(system, night):
    truths = [str(row["x"]).encode() for row in rows(night / "truth.jsonl")]
    assert truths
    for site in ("summit", "base", "ncsa"):
        files = [path for path in (system.miniature.folder / f"store-{site}/data").rglob("*") if path.is_file()]
        assert files
        for path in files:
            data = path.read_bytes()
            assert "truth" not in path.name
            assert not any(truth in data for truth in truths), path


def test_stock_pipetask_finds_the_same_sources(system, night):
    """The night's task under `pipetask` on the archive's repository gives what the warm worker found."""
    import subprocess
    import sys
    from importlib import resources

    fact = rows(night / "exposures.jsonl")[0]
    name = ExposureName.from_obs_id(fact["obsId"])
    environment = system.miniature.client("data-backbone", "ncsa")
    pipeline = resources.files("workloads.prompt_processing").joinpath("pipelines", "prompt.yaml")
    command = [
        sys.executable,
        "-c",
        "from lsst.ctrl.mpexec.cli.pipetask import main; main()",
        "run",
        "-b",
        "s3://butler/repo/",
        "-p",
        str(pipeline),
    ]
    command += [
        "-i",
        "LSSTCam/raw/all,LSSTCam/calib/valid,LSSTCam/templates",
        "--output-run",
        "test/stock",
        "--register-dataset-types",
    ]
    command += ["-d", f"instrument='LSSTCam' AND visit={name.exposure_id} AND detector=94"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    script = (
        "from lsst.daf.butler import Butler; b = Butler.from_config('s3://butler/repo/', collections='test/stock');"
        f"t = b.get('dia_source', instrument='LSSTCam', visit={name.exposure_id}, detector=94);"
        "import json; print(json.dumps([[float(r['x']), float(r['y'])] for r in t]))"
    )
    found = json.loads(
        subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        ).stdout
    )
    alerts = [row for row in rows(night / "alerts.jsonl") if row["visit"] == name.exposure_id]
    assert alerts
    for alert in alerts:
        assert min(abs(x - alert["x"]) + abs(y - alert["y"]) for x, y in found) < 1e-3
    assert (fact["obsId"], DETECTOR) in stamped(night, "alerted")
