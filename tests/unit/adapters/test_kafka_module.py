"""The module of Kafka's users and topics where brokers come one after the other; with a real one: tests/integration."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
