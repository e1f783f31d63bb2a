"""The module of Kafka's users and topics where brokers come one after the other; with a real one: tests/integration."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dpp.adapters.ansible_plugins.modules import dpp_kafka
from ports import free_port

MODULE = Path(__file__).parents[3] / "src/dpp/adapters/ansible_plugins/modules/dpp_kafka.py"


@pytest.fixture
def controller() -> Iterator[int]:
    """Listen as this host's controller does before it has found the others."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def run(**arguments: Any) -> dict[str, Any]:
    given = {"bootstrap": f"127.0.0.1:{free_port()}", "admin_password": "secret", **arguments}
    done = subprocess.run(
        [sys.executable, str(MODULE)],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": given}),
        capture_output=True,
        text=True,
        check=False,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_the_first_of_three_brokers_waits_for_nobody(controller: int) -> None:
    others = [f"localhost:{free_port()}" for _ in range(2)]
    found = run(controllers=[f"127.0.0.1:{controller}", *others], patience=600)
    assert not found.get("failed")
    assert found["changes"] == []


def test_where_a_majority_runs_the_broker_is_waited_for_and_then_asked_for(controller: int) -> None:
    controllers = [f"127.0.0.1:{controller}", f"localhost:{controller}", f"localhost:{free_port()}"]
    found = run(controllers=controllers, patience=1)
    assert found["failed"]
    assert found["changes"] == []


def test_a_check_tells_that_no_broker_answers(controller: int) -> None:
    found = run(controllers=[f"127.0.0.1:{controller}"], _ansible_check_mode=True)
    assert found["changes"] == ["all: the broker does not answer yet"]


_DEFAULTS = {"min.compaction.lag.ms": "0"}


class Admin:
    """Kafka's administration, with topics that somebody changed by hand."""

    def __init__(self, found: dict[str, dict[str, str]]) -> None:
        self.found, self.altered = found, dict[str, dict[str, str]]()

    def describe_configs(self, resources: list[Any]) -> dict[Any, Future[Any]]:
        return {
            one: _done({key: SimpleNamespace(value=value) for key, value in (_DEFAULTS | self.found[one.name]).items()})
            for one in resources
        }

    def incremental_alter_configs(self, changes: list[Any]) -> dict[Any, Future[Any]]:
        for one in changes:
            self.altered.setdefault(one.name, {}).update({entry.name: entry.value for entry in one.incremental_configs})
        return {one: _done(None) for one in changes}


def _done(result: Any) -> Future[Any]:
    future = Future[Any]()
    future.set_result(result)
    return future


@pytest.mark.parametrize(
    ("topic", "found", "altered"),
    [
        ({}, {"cleanup.policy": "delete", "retention.ms": "604800000"}, {"cleanup.policy": "compact", "retention.ms": "-1"}),
        ({}, {"cleanup.policy": "compact,delete", "retention.ms": "-1"}, {"cleanup.policy": "compact"}),
        ({}, {"cleanup.policy": "compact", "retention.ms": "-1"}, {}),
        ({"compacted_after_hours": 1}, {"cleanup.policy": "compact", "retention.ms": "-1"}, {"min.compaction.lag.ms": "3600000"}),
        ({"retention_hours": 1}, {"cleanup.policy": "compact", "retention.ms": "3600000"}, {"cleanup.policy": "delete"}),
    ],
)  # fmt: skip
def test_a_topic_is_held_to_how_it_is_declared_to_be_kept(
    topic: dict[str, Any], found: dict[str, str], altered: dict[str, str]
) -> None:
    cluster = dpp_kafka.Cluster.__new__(dpp_kafka.Cluster)
    cluster.admin, cluster.changes = Admin({"a": found}), []
    cluster.wanted, cluster.module = {"topics": {"a": topic}}, SimpleNamespace(check_mode=False)
    cluster.keep(["a"])
    assert cluster.admin.altered.get("a", {}) == altered
    assert len(cluster.changes) == len(altered)
