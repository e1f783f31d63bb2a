"""The registry's log: kept for ever and in one order, or refused; whatever stands in it, it is read to its end."""

from __future__ import annotations

import json
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from workloads.common.errors import NonRetriableError, RetriableError
from workloads.common.received import Received
from workloads.common.serve import run_together
from workloads.schema_registry import __main__ as program
from workloads.schema_registry import keeping
from workloads.schema_registry.keeping import complaint_about, require_kept
from workloads.schema_registry.log import applied
from workloads.schema_registry.store import State

STRING = '{"type": "string"}'


class Admin:
    """Kafka's administration as it answers about one topic."""

    def __init__(self, policy="compact", partitions=1, error=None):
        self.policy, self.partitions, self.error = policy, partitions, error

    def describe_configs(self, resources, **_):
        answer = Future()
        if self.error is None:
            answer.set_result({"cleanup.policy": SimpleNamespace(value=self.policy)})
        else:
            answer.set_exception(KafkaException(KafkaError(self.error)))
        return dict.fromkeys(resources, answer)

    def list_topics(self, topic, **_):
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions=dict.fromkeys(range(self.partitions)))})


SETTINGS = SimpleNamespace(
    site=SimpleNamespace(site="summit", catalogue={}, schema_ids=[]),
    written_topic=lambda role, site: f"_{role}" if site == "summit" else "",
    kafka_options=lambda _: {},
)


@pytest.mark.parametrize(
    ("admin", "said"),
    [
        (
            Admin("delete"),
            "topic _schemas of summit: cleanup.policy is delete, expected compact: ids would be forgotten",
        ),
        (Admin("compact,delete"), "topic _schemas of summit: cleanup.policy is compact,delete, expected compact"),
        (Admin(None), "topic _schemas of summit: cleanup.policy is not set, expected compact"),
        (Admin(partitions=3), "topic _schemas of summit: 3 partitions, expected 1"),
    ],
)
def test_a_log_that_would_lose_ids_is_refused_in_one_sentence(monkeypatch, caplog, admin, said):
    monkeypatch.setattr(keeping, "AdminClient", lambda _: admin)
    with pytest.raises(NonRetriableError) as caught:
        require_kept(SETTINGS, "schemas")
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
    with pytest.raises(NonRetriableError):
        program._prepare(None, None, SETTINGS)
    assert run_together(Quiet(), {"http": lambda: program._prepare(None, None, SETTINGS)}) == 1
    assert said in caplog.text


def test_a_compacted_log_of_one_partition_is_right_and_silence_is_asked_again(monkeypatch):
    assert complaint_about("compact", 1) == ""
    monkeypatch.setattr(keeping, "AdminClient", lambda _: Admin())
    require_kept(SETTINGS, "schemas")
    monkeypatch.setattr(keeping, "AdminClient", lambda _: Admin(error=KafkaError._TIMED_OUT))
    with pytest.raises(RetriableError, match="how it is kept"):
        require_kept(SETTINGS, "schemas")


class Quiet:
    """Told to stop, it stops nothing."""

    def set(self):
        return None


def record(key, value, offset=0):
    return Received("schemas", "_schemas", 0, offset, 0.0, key, value, {})


def good(subject, number):
    key = {"kind": "schema", "subject": subject, "version": 1}
    return record(json.dumps(key).encode(), json.dumps({"id": number, "schema": STRING}).encode())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"hello", b"{}"),
        (None, b"hello"),
        (b"[]", b"{}"),
        (b'"text"', b"{}"),
        (b'{"kind": "schema"}', b"{}"),
        (b'{"kind": "schema", "subject": "a", "version": "x"}', b'{"id": 1, "schema": "{}"}'),
        (b'{"kind": "schema", "subject": "a", "version": 1}', b'{"id": 1, "schema": "no schema"}'),
        (b'{"kind": "mode"}', b"[]"),
        (b"[" * 100_000, b""),
    ],
)
def test_what_is_no_record_costs_nobody_the_records_behind_it(key, value):
    state = State()
    assert applied(state, record(key, value)) == ""
    assert applied(state, good("b-value", 7))
    assert state.schemas == {7: '{"type":"string"}'}
    assert list(state.subjects) == ["b-value"]
    assert state.mode == "READWRITE"
