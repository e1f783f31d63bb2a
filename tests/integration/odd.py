"""Messages that nobody can handle, and what operators do with those that were set aside."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from confluent_kafka import Producer

from integration.miniature import HUNG_SECONDS
from workloads.common.avro import Codec, frame

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
    detector = system.miniature.camera["detectors"][0]
    stamp = {
        "groupId": "odd", "obsId": "MC_S_20261122_099999", "detector": detector["name"], "step": "processed", "time": 1.0,
        "service": "tests", "site": "ncsa", "reason": "", "figures": {"alerts": 7.0},
    }  # fmt: skip
    ingested = {
        "obsId": "MC_S_20261122_099999", "exposure": 2026112299999, "detector": detector["id"], "detectorName": detector["name"],
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
