"""What goes wrong on the way of a visit, and what is then seen."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress

import psutil
import pytest
from confluent_kafka import Producer

from integration.conftest import DETECTOR, rows, stamped
from workloads.common.names import ExposureName
from workloads.prompt_processing.worker import ALERTS, INGESTED

pytestmark = pytest.mark.root


def reasons(folder, step):
    return {
        (row["obsId"], row["detector"]): row["reason"] for row in rows(folder / "ledger.jsonl") if row["step"] == step
    }


def raw_of(system, night, number=0):
    fact = rows(night / "exposures.jsonl")[number]
    key = ExposureName.from_obs_id(fact["obsId"]).key(fact["detector"])
    return key, system.miniature.s3("ncsa").get_object(Bucket="raw", Key=key)["Body"].read()


def alive(pid):
    """Tell whether a process runs; what is dead and waits for its parent to notice does not."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture(scope="module")
def outside(system):
    """Follow the ledger and the alerts outside of nights, and return the folder that has them."""
    folder = system.nights / "outside"
    folder.mkdir(parents=True)
    system.miniature.workload("report", "ncsa", "follow", str(folder), name="outside")
    system.wait((folder / "following").exists, "the consumer follows")
    yield folder
    assert system.miniature.end("outside") == 0


DAMAGES = {
    "truncated": lambda data: data[: len(data) // 2],
    "flipped": lambda data: data[:60000] + b"\x00\xff\x00" + data[60003:],
    "header": lambda data: data.replace(b"OBSID   = 'MC_S", b"OBSID   = 'MC_X", 1),
    "empty": lambda _: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_bad_files_are_quarantined_with_their_reason(system, night, outside, damage):
    said = "damaged or no raw file"
    _, data = raw_of(system, night)
    name = ExposureName(20261122, 90000 + sorted(DAMAGES).index(damage))
    key = name.key(DETECTOR)
    system.miniature.s3("ncsa").put_object(Bucket="raw", Key=key, Body=DAMAGES[damage](data))
    system.wait(lambda: (name.obs_id, DETECTOR) in stamped(outside, "quarantined"), "quarantined")
    assert said in reasons(outside, "quarantined")[name.obs_id, DETECTOR]
    report = json.loads(
        system.miniature.s3("ncsa").get_object(Bucket="raw", Key=f"quarantine/{key}.reason.json")["Body"].read()
    )
    assert said in report["reason"]


def test_a_whole_file_under_the_wrong_name_is_quarantined(system, night, outside):
    _, data = raw_of(system, night)
    name = ExposureName(20261122, 90999)
    system.miniature.s3("ncsa").put_object(Bucket="raw", Key=name.key(DETECTOR), Body=data)
    system.wait(lambda: (name.obs_id, DETECTOR) in stamped(outside, "quarantined"), "quarantined")
    said = reasons(outside, "quarantined")[name.obs_id, DETECTOR]
    assert "header has OBSID" in said
    assert name.obs_id in said


def test_duplicate_deliveries_change_nothing(system, night, outside):
    key, _ = raw_of(system, night)
    obs_id = key.split("/")[2]
    before, asked = system.miniature.ends(ALERTS), system.miniature.ends(INGESTED)
    assert sum(before.values()) > 0
    message = json.dumps(
        {"Records": [{"eventName": "s3:ObjectCreated:Put", "s3": {"bucket": {"name": "raw"}, "object": {"key": key}}}]}
    )
    producer = Producer({"bootstrap.servers": f"127.0.0.1:{system.miniature.kafka_port}"})
    for _ in range(3):
        producer.produce(system.miniature.name("arrivals"), message)
    producer.flush()
    system.wait(lambda: (obs_id, DETECTOR) in stamped(outside, "ingested"), "taken as a success")
    assert system.miniature.ends(INGESTED) != asked, "the worker is asked again"
    group = "prompt-processing"
    system.wait(lambda: system.miniature.read_to_the_end(group, INGESTED), "the worker has taken what it was asked")
    assert system.miniature.ends(ALERTS) == before, "an exposure that was answered must not be answered again"


def test_a_lost_notification_is_made_good_by_the_sweep(system, night, outside):
    """A file that the store holds but never announced is found, ingested and named so."""
    from workloads.common.raw import decode_raw, encode_raw
    from workloads.common.times import day_obs, tai_now

    _, data = raw_of(system, night)
    pixels, layout, header = decode_raw(data)
    name = ExposureName(day_obs(tai_now()), 90555)
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
    path = system.miniature.folder / "store-ncsa/data/raw" / name.key(DETECTOR)
    path.parent.mkdir(parents=True)
    path.write_bytes(encode_raw(pixels, layout, cards))
    old = time.time() - 60
    os.utime(path, (old, old))
    system.wait(lambda: (name.obs_id, DETECTOR) in stamped(outside, "ingested"), "found by the sweep")
    assert "its notification was lost" in reasons(outside, "arrived")[name.obs_id, DETECTOR]


def test_cancelled_unannounced_and_missing_are_named(system):
    folder = system.night(3, "--fault", "cancel:0", "--fault", "unannounced:1", "--fault", f"missing:2:{DETECTOR}")
    ledger = rows(folder / "ledger.jsonl")
    steps = {}
    for row in ledger:
        steps.setdefault(row["step"], []).append(row["reason"])
    assert steps["cancelled"] == ["cancelled by the OCS"]
    assert "image without an announced visit" in steps["expected"]
    assert steps["lost"] == ["the camera has no such image"]
    report = json.loads((folder / "report.json").read_text())
    assert report["exposures"]["expected"] == 1
    assert report["exposures"]["lost"] == 0
    assert any(line.startswith("cancelled") for line in report["exposures"]["failures"])


def test_a_worker_killed_in_the_middle_answers_once(system):
    """Kill the whole of prompt processing while it works; the next process answers, and nothing comes twice."""

    def kill(folder):
        system.wait(lambda: bool(stamped(folder, "ingested")), "the first exposure is ingested")
        workers = system.miniature.children("prompt_processing-ncsa")
        system.miniature.end("prompt_processing-ncsa", signal.SIGKILL)
        assert workers
        system.wait(lambda: not any(alive(worker) for worker in workers), "workers end with their parent")
        system.miniature.workload("prompt_processing", "ncsa")

    folder = system.night(2, during=kill)
    report = json.loads((folder / "report.json").read_text())
    assert report["exposures"]["processed"] == 2
    assert (report["alerts"]["missing"], report["alerts"]["duplicates"]) == (0, 0)


def test_the_archiver_resumes_what_it_had_acknowledged(system):
    """The summit's store is away during a night: everything waits in the journal and is stored when it is back."""

    def away(folder):
        with system.miniature.away("store-summit"):
            system.wait(lambda: len(rows(folder / "exposures.jsonl")) >= 1, "an exposure is taken")
            waits = "trying again"
            system.wait(lambda: waits in system.miniature.log(f"archiver-{folder.name}"), "the archiver waits")

    folder = system.night(2, during=away)
    assert json.loads((folder / "report.json").read_text())["exposures"]["lost"] == 0


OUTAGES = {
    "postgresql": ("expected", "ingested", "processed"),
    "store-ncsa": ("expected", "ingested", "processed"),
    "kafka": ("ingested",),
}
"""Steps of the first exposure at which something is killed: before it is ingested, while it is processed, and then."""
NOTICED = (
    "again in ",
    "notifications wait: ",
    "starts again from its last commit",
    "worker ends: ",
    "Connection refused",
)
"""What workloads say that wait for a peer, or end to be started again; the last is said by Kafka's client."""


@pytest.mark.parametrize("gone", OUTAGES)
def test_a_night_loses_nothing_to_a_peer_that_crashes(system, gone):
    """What everything leans on is killed, each time until somebody noticed; workloads that end start again."""
    services = ("forwarder-summit", *(f"{name}-ncsa" for name in ("data_backbone", "prompt_processing", "broker")))

    def noticed():
        return sum(system.miniature.log(name).count(said) for name in services for said in NOTICED)

    def crash(folder):
        for step in OUTAGES[gone]:
            system.wait(lambda step=step: bool(stamped(folder, step)), f"the first exposure is {step}")
            before = noticed()
            with system.miniature.away(gone):
                system.wait(lambda before=before: noticed() > before, f"somebody misses {gone}")

    with system.miniature.restarting(*services, "alert_distribution-ncsa"):
        folder = system.night(4, during=crash)
    report = json.loads((folder / "report.json").read_text())
    exposures, alerts = report["exposures"], report["alerts"]
    assert (exposures["lost"], exposures["processed"]) == (0, 4), exposures
    assert [line for line in exposures["failures"] if not line.startswith("late")] == []
    assert (alerts["missing"], alerts["duplicates"]) == (0, 0), alerts
