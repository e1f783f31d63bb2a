"""What goes wrong on the way of a visit, and what is then seen."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from integration.conftest import DETECTOR, rows, stamped
from workloads.common.names import ExposureName

pytestmark = pytest.mark.root


def reasons(folder, step):
    return {
        (row["obsId"], row["detector"]): row["reason"] for row in rows(folder / "ledger.jsonl") if row["step"] == step
    }


def raw_of(system, night, number=0):
    fact = rows(night / "exposures.jsonl")[number]
    key = ExposureName.from_obs_id(fact["obsId"]).key(fact["detector"])
    return key, system.miniature.s3("ncsa").get_object(Bucket="raw", Key=key)["Body"].read()


def alive(process):
    """Tell whether a process runs; what is dead and waits for its parent to notice does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def listen(system, folder_name):
    """Follow the ledger outside a night; return the folder and what ends it."""
    folder = system.nights / folder_name
    folder.mkdir(parents=True)
    system.miniature.workload("report", "ncsa", "follow", str(folder), name=folder_name)
    system.wait((folder / "following").exists, 60, "the consumer follows")
    return folder, lambda: system.miniature.end(folder_name)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[: len(data) // 2], "damaged or no raw file"),
        (lambda data: data[:60000] + b"\x00\xff\x00" + data[60003:], "damaged or no raw file"),
        (lambda data: data.replace(b"OBSID   = 'MC_S", b"OBSID   = 'MC_X", 1), "damaged or no raw file"),
        (lambda _: b"", "damaged or no raw file"),
    ],
    ids=["truncated", "flipped", "header", "empty"],
)
def test_bad_files_are_quarantined_with_their_reason(system, night, damage, said, request):
    _, data = raw_of(system, night)
    sequence = 900000 + abs(hash(request.node.callspec.id)) % 1000
    name = ExposureName(20261122, sequence)
    key = name.key(DETECTOR)
    folder, end = listen(system, f"bad-{request.node.callspec.id}")
    system.miniature.s3("ncsa").put_object(Bucket="raw", Key=key, Body=damage(data))
    try:
        system.wait(lambda: (name.obs_id, DETECTOR) in stamped(folder, "quarantined"), 60, "quarantined")
    finally:
        end()
    assert said in reasons(folder, "quarantined")[name.obs_id, DETECTOR]
    report = json.loads(
        system.miniature.s3("ncsa").get_object(Bucket="raw", Key=f"quarantine/{key}.reason.json")["Body"].read()
    )
    assert said in report["reason"]


def test_a_whole_file_under_the_wrong_name_is_quarantined(system, night):
    _, data = raw_of(system, night)
    name = ExposureName(20261122, 900999)
    folder, end = listen(system, "wrong-name")
    system.miniature.s3("ncsa").put_object(Bucket="raw", Key=name.key(DETECTOR), Body=data)
    try:
        system.wait(lambda: (name.obs_id, DETECTOR) in stamped(folder, "quarantined"), 60, "quarantined")
    finally:
        end()
    said = reasons(folder, "quarantined")[name.obs_id, DETECTOR]
    assert "header has OBSID" in said
    assert name.obs_id in said


def test_duplicate_deliveries_change_nothing(system, night):
    key, _ = raw_of(system, night)
    obs_id = key.split("/")[2]
    folder, end = listen(system, "duplicates")
    message = json.dumps(
        {"Records": [{"eventName": "s3:ObjectCreated:Put", "s3": {"bucket": {"name": "raw"}, "object": {"key": key}}}]}
    )
    producer = Producer({"bootstrap.servers": f"127.0.0.1:{system.miniature.kafka_port}"})
    for _ in range(3):
        producer.produce("dpp.raw.arrivals", message)
    producer.flush()
    try:
        system.wait(lambda: (obs_id, DETECTOR) in stamped(folder, "ingested"), 60, "taken as a success")
        time.sleep(5)
    finally:
        end()
    before = {row["diaSourceId"]: row["sha256"] for row in rows(night / "alerts.jsonl")}
    again = {row["diaSourceId"]: row["sha256"] for row in rows(folder / "alerts.jsonl") if "error" not in row}
    assert again == {}, "an exposure that was answered must not be answered again"
    assert before


def test_a_lost_notification_is_made_good_by_the_sweep(system, night):
    """A file that the store holds but never announced is found, ingested and named so."""
    from workloads.common.raw import decode_raw, encode_raw
    from workloads.common.times import day_obs, tai_now

    _, data = raw_of(system, night)
    pixels, layout, header = decode_raw(data)
    name = ExposureName(day_obs(tai_now()), 900555)
    skipped = {
        "SIMPLE",
        "BITPIX",
        "NAXIS",
        "EXTEND",
        "CHECKSUM",
        "DATASUM",
        "DETWID",
        "DETHEI",
        "AMPWID",
        "AMPHEI",
        "PRESCAN",
        "OVERSCAN",
    }
    cards = {card.keyword: (card.value, card.comment) for card in header.cards if card.keyword not in skipped}
    cards |= {
        "OBSID": (name.obs_id, ""),
        "EXPID": (name.exposure_id, ""),
        "SEQNUM": (name.seq_num, ""),
        "DAYOBS": (str(name.day_obs), ""),
    }
    folder, end = listen(system, "lost-notification")
    path = system.miniature.folder / "store-ncsa/data/raw" / name.key(DETECTOR)
    path.parent.mkdir(parents=True)
    path.write_bytes(encode_raw(pixels, layout, cards))
    old = time.time() - 60
    os.utime(path, (old, old))
    try:
        system.wait(lambda: (name.obs_id, DETECTOR) in stamped(folder, "ingested"), 90, "found by the sweep")
    finally:
        end()
    assert "its notification was lost" in reasons(folder, "arrived")[name.obs_id, DETECTOR]


def test_cancelled_unannounced_and_missing_are_named(system):
    folder = system.night(3, "--fault", "cancel:0", "--fault", "unannounced:1", "--fault", f"missing:2:{DETECTOR}")
    ledger = rows(folder / "ledger.jsonl")
    steps = {}
    for row in ledger:
        steps.setdefault(row["step"], []).append(row["reason"])
    assert steps["cancelled"] == ["cancelled by the OCS"]
    assert "image without an announced visit" in steps["expected"]
    system.wait(lambda: "imageRetrievalForArchiving" in str(ledger) or "lost" in steps, 1, "the lost detector is named")
    assert any("the camera has no such image" in reason for reason in steps["lost"])
    report = json.loads((folder / "report.json").read_text())
    assert report["exposures"]["expected"] == 1
    assert report["exposures"]["lost"] == 0
    assert any(line.startswith("cancelled") for line in report["exposures"]["failures"])


def test_a_worker_killed_in_the_middle_answers_once(system):
    """Kill the whole of prompt processing while it works; the next process answers, and nothing comes twice."""

    def kill(folder):
        system.wait(lambda: bool(stamped(folder, "ingested")), 90, "the first exposure is ingested")
        workers = system.miniature.children("prompt_processing-ncsa")
        system.miniature.end("prompt_processing-ncsa", signal.SIGKILL)
        time.sleep(1)
        assert workers
        assert not [worker for worker in workers if alive(worker)], "workers end with their parent"
        system.miniature.workload("prompt_processing", "ncsa")

    folder = system.night(2, during=kill)
    report = json.loads((folder / "report.json").read_text())
    assert report["exposures"]["processed"] == 2
    assert (report["alerts"]["missing"], report["alerts"]["duplicates"]) == (0, 0)


def test_the_archiver_resumes_what_it_had_acknowledged(system):
    """The summit's store is away during a night: everything waits in the journal and is stored when it is back."""

    def away(folder):
        system.miniature.end("store-summit", signal.SIGKILL)
        system.wait(lambda: len(rows(folder / "exposures.jsonl")) >= 1, 90, "an exposure is taken")
        time.sleep(3)
        system.miniature.start_store("summit")

    folder = system.night(2, during=away)
    assert json.loads((folder / "report.json").read_text())["exposures"]["lost"] == 0


@pytest.mark.parametrize(
    ("gone", "seconds"), [("postgresql", 5.0), pytest.param("kafka", 5.0, marks=pytest.mark.slow), ("store-ncsa", 25.0)]
)
def test_a_night_loses_nothing_to_a_peer_that_crashes(system, gone, seconds):
    """What everything leans on is killed while an exposure is on its way and comes back; workloads start again as on a cluster."""

    def crash(folder):
        system.wait(lambda: bool(stamped(folder, "ingested")), 90, "the first exposure is ingested")
        system.miniature.crash(gone, seconds=seconds)

    services = ("forwarder-summit", *(f"{name}-ncsa" for name in ("data_backbone", "prompt_processing", "broker")))
    with system.miniature.restarting(*services, "alert_distribution-ncsa"):
        folder = system.night(3, during=crash)
    report = json.loads((folder / "report.json").read_text())
    exposures, alerts = report["exposures"], report["alerts"]
    assert (exposures["lost"], exposures["processed"]) == (0, 3), exposures
    assert [line for line in exposures["failures"] if not line.startswith("late")] == []
    assert (alerts["missing"], alerts["duplicates"]) == (0, 0), alerts
