"""Messages that no broker takes are refused where they are made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from workloads.common import consumer, producer
from workloads.common.consumer import Receiver
from workloads.common.errors import NonRetriableError
from workloads.common.producer import Sender
from workloads.common.settings import Settings
from workloads.common.sizes import TooLargeError, largest, require_small

LIMIT = 4 * 2**20


class Client:
    """A client library that notes its options and what it is given."""

    def __init__(self, options):
        self.options, self.sent = options, []

    def produce(self, topic, value, **_):
        self.sent.append((topic, len(value)))

    def poll(self, _):
        return 0

    def subscribe(self, *_, **__):
        return None


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(producer, "Producer", Client)
    monkeypatch.setattr(consumer, "Consumer", Client)
    topic = {"name": "lsst-alerts-v11", "written_at": "ncsa", "read_at": "ncsa", "groups": ["g"]}
    site = {
        "environment": "lab", "site": "ncsa", "principal": "prompt-processing", "topics": {"alerts": topic},
        "kafka": {"ncsa": {"bootstrap": "broker:9094", "message_bytes": LIMIT}},
    }  # fmt: skip
    (tmp_path / "site.yml").write_text(yaml.safe_dump(site))
    (tmp_path / "kafka").write_text("secret")
    return Settings(tmp_path / "site.yml", tmp_path, tmp_path / "ca.crt")


def test_clients_have_the_limit_of_their_brokers(settings):
    assert Sender(settings, "ncsa", "alerts")._producer.options["message.max.bytes"] == LIMIT
    assert Receiver(settings, "ncsa", "g", ["alerts"])._consumer.options["fetch.message.max.bytes"] == LIMIT


@pytest.mark.parametrize("size", [4_200_000, LIMIT, 8_000_000, largest(LIMIT) + 1])
def test_a_message_over_the_limit_is_refused_with_topic_size_and_limit(settings, size):
    sender = Sender(settings, "ncsa", "alerts")
    with pytest.raises(TooLargeError) as caught:
        sender.send("alerts", bytes(size))
    assert isinstance(caught.value, NonRetriableError)
    for word in ("lsst-alerts-v11", str(size), str(LIMIT)):
        assert word in str(caught.value)
    assert sender._producer.sent == []


def test_key_and_headers_count(settings):
    sender = Sender(settings, "ncsa", "alerts")
    room = largest(LIMIT)
    sender.send("alerts", bytes(room - 4), key="keys")
    with pytest.raises(TooLargeError):
        sender.send("alerts", bytes(room - 4), key="keys!")
    with pytest.raises(TooLargeError):
        sender.send("alerts", bytes(room - 4), headers={"name": b"x"})
    assert sender._producer.sent == [("lsst-alerts-v11", room - 4)]


@pytest.mark.parametrize("limit", [LIMIT, 2**20, 64 * 2**20])
def test_what_is_let_through_fits_however_badly_it_compresses(limit):
    size = largest(limit)
    require_small("t", limit, b"", os.urandom(16) * (size // 16), {})
    blocks = size // 65_536 + 1
    assert size + size // 255 + 16 + 8 * blocks + 200 <= limit, (
        "LZ4's worst case, frames of its blocks, batch and record"
    )
