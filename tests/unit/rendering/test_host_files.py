"""What roles bring about on hosts, without a host: files as they would be, secrets by name, and what only a host can tell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dpp.model.environment import Environment
from dpp.operations.change import programs

PROGRAM = Path(str(programs.__file__)).with_name("files.py")
LAB = Environment.load("lab")
ROUTERS = ("rt01.base", "rt02.base")


def rendered(environment: str, hosts: dict[str, list[str]]) -> dict[str, Any]:
    """Return what the program prints: it renders in a process of its own."""
    given = json.dumps({"environment": environment, "hosts": hosts})
    done = subprocess.run([sys.executable, "-P", str(PROGRAM)], input=given, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_files_and_units_of_a_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    found = rendered("lab", {"svc01.ncsa": ["kafka_broker", "postgresql", "border_router"]})["svc01.ncsa"]

    assert set(found) == {"kafka_broker", "postgresql"}, "roles of others are left out"
    broker = found["kafka_broker"]
    assert broker["files"]["/etc/kafka/server.properties"].startswith("root:kafka 0640\n")
    assert "[password kafka-admin]" in broker["files"]["/etc/kafka/admin.properties"]
    assert "/etc/kafka/server.properties" in broker["units"]["kafka"]["restart_on"]
    assert broker["unseen"] == {"/etc/kafka/host.pem": "'kafka_broker_identity' is undefined"}
    rights = broker["tasks"]["kafka_broker : Bring users, their rights and topics to what they are to be"]["dpp_kafka"]
    assert rights["users"]["alert-distribution"] == "[password kafka-alert-distribution]"
    assert [*tmp_path.iterdir()] == [], "no secret is made"


def test_what_is_remembered_of_one_host_is_no_other_hosts() -> None:
    roles = ["border_router", "base_system"]
    together = rendered("lab", dict.fromkeys(ROUTERS, roles))
    assert {host: rendered("lab", {host: roles})[host] for host in ROUTERS} == together
    first, second = (together[host]["border_router"]["files"]["/etc/keepalived/keepalived.conf"] for host in ROUTERS)
    assert first != second
    hosts = {together[host]["base_system"]["files"]["/etc/hosts"] for host in ROUTERS}
    assert len(hosts) == 1
    assert all(f"{one.address} {one.name}" in hosts.copy().pop() for one in LAB.hosts.values())


def test_a_host_that_is_not_there_has_nothing() -> None:
    assert rendered("lab", {"svc09.ncsa": ["kafka_broker"]}) == {"svc09.ncsa": {}}


def test_a_process_that_has_looked_secrets_up_renders_nothing() -> None:
    script = (
        "from dpp.rendering.hosts import inventory; inventory('lab'); from ansible.plugins.loader import lookup_loader as known;"
        "known.get('dpp_secret'); from dpp.rendering.files import rendered; rendered('lab', {'svc01.ncsa': ['kafka_broker']})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "render in a process of its own" in done.stderr
