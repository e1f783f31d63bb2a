"""Whatever is written to a topic while a night runs: no process restarts, what is good is processed, what is odd is listed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from confluent_kafka import Producer

from integration.conftest import DETECTOR, stamped
from integration.miniature import HUNG_SECONDS
from workloads.common.avro import Codec, frame

pytestmark = pytest.mark.root
WORKERS = "prompt-processing"
GROUPS = {
    "next-visit": ["data-backbone-keeper"],
    "forwarded": ["data-backbone-keeper"],
    "MTArchiver.command_start": ["MTArchiver-commands"],
    "MTArchiver.logevent_imageStored": ["forwarder"],
    "MTArchiver.logevent_imageRetrievalForArchiving": ["data-backbone-keeper"],
    "ledger": ["alert-distribution", "visit-ledger"],
    "ingested": [WORKERS],
}
"""Who owes an answer to each topic."""
REASONS = ("not in Confluent framing", "Schema 123456 not found", "; expected ")


def odd(system: Any, role: str) -> list[bytes]:
    """Return bytes that are no record, a record of a schema that nobody knows, and one of another topic's schema."""
    codec = Codec({name: topic.name for name, topic in system.miniature.principals.topics.items()})
    stamp = {
        "groupId": "odd", "obsId": "MC_S_20261122_099999", "detector": DETECTOR, "step": "processed", "time": 1.0,
        "service": "tests", "site": "ncsa", "reason": "", "figures": {"alerts": 7.0},
    }  # fmt: skip
    ingested = {
        "obsId": "MC_S_20261122_099999", "exposure": 2026112299999, "detector": 94, "detectorName": DETECTOR,
        "groupId": "odd", "uri": "s3://raw/odd", "sha256": "0", "size": 1, "endOfReadout": 1.0, "ingested": 1.0,
    }  # fmt: skip
    other = codec.encode("ingested", ingested) if role == "ledger" else codec.encode("ledger", stamp)
    return [b"hello", frame(123456, b"odd"), other]


def feed(system: Any) -> None:
    """Write odd messages to every topic."""
    producer = Producer({"bootstrap.servers": f"127.0.0.1:{system.miniature.kafka_port}"})
    for role in GROUPS:
        for value in odd(system, role):
            producer.produce(
                system.miniature.name(role), value, key=b"odd", partition=0
            )  # events are compacted, and want one
    assert producer.flush(60.0) == 0


def messages(system: Any, *words: str) -> list[dict[str, Any]]:
    """Do with messages that were set aside what operators do, as their principal."""
    command = [sys.executable, "-m", "workloads.messages", *words]
    environment = system.miniature.environment("health", "ncsa")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=HUNG_SECONDS)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def counted(found: list[dict[str, Any]]) -> dict[tuple[str, str], int]:
    """Return how many messages were set aside, by topic and group."""
    counts: dict[tuple[str, str], int] = {}
    for one in found:
        where = one["role"], one["group"]
        counts[where] = counts.get(where, 0) + 1
    return counts


EXPECTED = {(role, group): len(REASONS) for role, groups in GROUPS.items() for group in groups}


@pytest.fixture(scope="module")
def fed(system: Any) -> Any:
    """Return a night of three visits into which odd messages were written, and the processes before and after it."""
    messages(system, "dismiss")
    processes = {}

    def during(folder: Any) -> None:
        processes.update(system.miniature.pids())
        processes["worker"] = system.miniature.children("prompt_processing-ncsa")
        system.wait(lambda: bool(stamped(folder, "ingested")), "the first exposure is ingested")
        feed(system)

    folder = system.night(3, during=during)
    after = system.miniature.pids() | {"worker": system.miniature.children("prompt_processing-ncsa")}
    return folder, processes, after


def test_no_process_restarts(fed: Any) -> None:
    _, before, after = fed
    lasting = {name: pid for name, pid in before.items() if "night" not in name}
    assert {"data_backbone-ncsa", "alert_distribution-ncsa", "forwarder-summit", "worker"} <= lasting.keys()
    assert {name: after.get(name) for name in lasting} == lasting


def test_what_is_good_is_processed(fed: Any) -> None:
    folder, _, _ = fed
    report = json.loads((folder / "report.json").read_text())
    exposures, alerts = report["exposures"], report["alerts"]
    assert (exposures["lost"], exposures["processed"], exposures["archived"]) == (0, 3, 3), exposures
    assert (alerts["missing"], alerts["duplicates"], alerts["undecodable"]) == (0, 0, 0), alerts
    assert len(stamped(folder, "alerted")) == 3


def test_what_is_odd_is_listed_with_its_reason_and_dealt_with(system: Any, fed: Any) -> None:
    del fed
    system.wait(lambda: counted(messages(system, "list")) == EXPECTED, "all that is odd is listed")
    found = messages(system, "list")
    for where in EXPECTED:
        reasons = [one["reason"] for one in found if (one["role"], one["group"]) == where]
        for reason, said in zip(reasons, REASONS, strict=True):
            assert said in reason, where

    given = messages(system, "give-back", "--group", WORKERS)
    assert len(given) == len(REASONS)
    before = {one["name"] for one in found}
    system.wait(
        lambda: len([one for one in messages(system, "list", "--group", WORKERS) if one["name"] not in before]) == 3,
        "what was given back and is as odd as before is listed anew",
    )
    assert not {one["name"] for one in given} & {one["name"] for one in messages(system, "list")}
    messages(system, "dismiss")
    assert messages(system, "list") == []


def test_asking_whether_it_works_leaves_nothing_behind(system: Any, fed: Any) -> None:
    del fed
    system.miniature.run("health", "ncsa", "main-camera-prompt-processing", "4711")
    assert messages(system, "list") == []
