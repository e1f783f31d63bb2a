"""Broken input everywhere while nights go on: no process restarts, nothing good is lost, nothing spurious leaves.

One minute, and ten in a proof of its own. The seed is printed; ``DPP_FUZZ_SEED`` repeats it.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from integration.conftest import rows, stamped
from integration.noise import Noise
from workloads.common.names import ExposureName

SEED = int(os.environ.get("DPP_FUZZ_SEED", "0")) or time.time_ns() % 1_000_000_007
PAUSE_SECONDS = 0.25
"""Between two rounds, so that a small machine has time for the night as well."""
GROUPS = (
    ("visit-ledger", "ledger"),
    ("alert-distribution", "ledger"),
    ("data-backbone-keeper", "forwarded"),
    ("forwarder", "MTArchiver.logevent_imageStored"),
)
"""Who may still be at it when the night is over."""
STORES = ("summit", "ncsa")


@pytest.fixture(
    scope="module",
    params=[pytest.param(3, id="a minute"), pytest.param(70, id="ten minutes", marks=pytest.mark.slow)],
)
def fuzzed(system: Any, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return a night with noise in it: its folder, the processes before and after, and how much noise there was."""
    print(f"seed {SEED}: DPP_FUZZ_SEED={SEED} repeats this")
    noise = Noise({role: topic.name for role, topic in system.miniature.principals.topics.items()}, SEED)
    producer = Producer(
        {"bootstrap.servers": f"127.0.0.1:{system.miniature.kafka_port}", "message.max.bytes": 4_000_000}
    )
    found: dict[str, Any] = {"visits": request.param, "messages": 0, "objects": 0, "before": _processes(system)}

    def during(folder: Path) -> None:
        while f"camera-{folder.name}" in system.miniature.pids():
            found["messages"] += noise.feed(producer)
            key, data = noise.objects()
            for site in STORES:
                system.miniature.s3(site).put_object(Bucket="raw", Key=key, Body=data)
            found["objects"] += 1
            noise.call(system.miniature.camera_port)
            time.sleep(PAUSE_SECONDS)

    found["folder"] = system.night(request.param, during=during)
    for group, role in GROUPS:
        system.wait(
            lambda group=group, role=role: system.miniature.read_to_the_end(group, role), f"{group} has read all"
        )
    found["after"] = _processes(system)
    return found


def _processes(system: Any) -> dict[str, Any]:
    lasting = {name: pid for name, pid in system.miniature.pids().items() if "night" not in name}
    return lasting | {"workers": system.miniature.children("prompt_processing-ncsa")}


def test_there_was_noise(fuzzed: dict[str, Any]) -> None:
    assert fuzzed["messages"] > 50 * fuzzed["visits"]
    assert fuzzed["objects"] > 5 * fuzzed["visits"]


def test_no_process_restarts(fuzzed: dict[str, Any]) -> None:
    assert fuzzed["after"] == fuzzed["before"]


def test_nothing_good_is_lost(fuzzed: dict[str, Any]) -> None:
    report = json.loads((fuzzed["folder"] / "report.json").read_text())
    exposures, alerts, visits = report["exposures"], report["alerts"], fuzzed["visits"]
    assert (exposures["lost"], exposures["processed"], exposures["archived"]) == (0, visits, visits), exposures
    assert (alerts["missing"], alerts["duplicates"], alerts["undecodable"]) == (0, 0, 0), alerts
    taken = {(row["obsId"], row["detector"]) for row in rows(fuzzed["folder"] / "exposures.jsonl")}
    assert taken <= stamped(fuzzed["folder"], "alerted")


def test_nothing_spurious_leaves(system: Any, fuzzed: dict[str, Any]) -> None:
    own = {ExposureName.from_obs_id(row["obsId"]).exposure_id for row in rows(fuzzed["folder"] / "exposures.jsonl")}
    visits = {row["visit"] for row in rows(fuzzed["folder"] / "alerts.jsonl")}
    assert visits
    assert visits <= own
    s3 = system.miniature.s3("summit")
    for fact in rows(fuzzed["folder"] / "exposures.jsonl"):
        listed = s3.list_objects_v2(Bucket="raw", Prefix=f"LSSTCam/{fact['obsId'].split('_')[2]}/{fact['obsId']}/")
        assert listed["KeyCount"] >= 2  # nobody's deletion was heard
