"""A machine that is found and not made is adopted if it answers as a host does, and nothing is pretended where it does not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from dpp.lab.machine_spec import MachineSpec
from dpp.lab.machines import LABEL, Machines
from dpp.model.errors import FatalError, RetriableError
from dpp.model.folders import Folders
from dpp.provider import kinds
from dpp.provider.resources import machine
from dpp.provider.resources.machine import Machine

URN = "urn:pulumi:production.ncsa-itc::observatory::dpp:machines:Machine::gw01.ncsa"
WANTED = kinds.Machine(
    environment="production",
    host="gw01.ncsa",
    site="ncsa",
    network="ncsa-hosts",
    address="127.0.0.1/20",
    gateway="127.0.0.254",
    functions=["base_system"],
    operations=False,
    image="",
    volumes=[],
    recipe="",
)


@pytest.fixture
def resource(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return Machine()


@contextmanager
def host(greeting: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Answer on the port that is asked, with these first words; with none, nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(machine, "_SSH_PORT", server.getsockname()[1])
        if not greeting:
            server.close()
            yield
            return

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(greeting)

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join()


def test_a_host_that_answers_is_adopted(resource: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with host(b"SSH-2.0-OpenSSH_9.2\r\n", monkeypatch):
        assert resource.create(URN, WANTED, print) == ("gw01.ncsa", {"identity": "gw01.ncsa"})


def test_a_host_that_is_not_there_is_named_with_what_to_do(resource: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with host(b"", monkeypatch), pytest.raises(RetriableError) as caught:
        resource.create(URN, WANTED, print)

    said = str(caught.value)
    assert said.startswith("machine gw01.ncsa: 127.0.0.1 does not answer: ")
    assert said.endswith("expected SSH on port 22; install or start it")


def test_something_else_at_its_address_is_no_host(resource: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        host(b"HTTP/1.0 400 Bad Request\r\n", monkeypatch),
        pytest.raises(
            FatalError, match=r"machine gw01\.ncsa: 127\.0\.0\.1 answers b'HTTP/1\.0 400.*expected an SSH server"
        ),
    ):
        resource.create(URN, WANTED, print)


class _Podman:
    """Knows one container, and what was written in it."""

    def __init__(self, spec: MachineSpec, *written: str) -> None:
        labels = {"urn": spec.urn, "digest": spec.digest, "spec": json.dumps(asdict(spec))}
        self.container = {
            "Id": "0123456789abcdef",
            "Config": {"Labels": {f"{LABEL}{key}": value for key, value in labels.items()}},
            "State": {"Status": "exited", "Pid": 0, "StartedAt": ""},
        }
        self.written = written

    def inspect(self, _: str) -> dict[str, Any]:
        return self.container

    def run(self, *words: str) -> str:
        assert words[0] == "diff"
        return json.dumps({"changed": self.written})


def lab_machine(volumes: tuple[str, ...]) -> MachineSpec:
    return MachineSpec("svc01.ncsa", "ncsa", "ncsa-hosts", "10.0.0.1/24", None, "base:1", URN, volumes=volumes)


def test_what_makes_a_machine_is_in_its_digest() -> None:
    spec = lab_machine(("/srv",))
    others = [
        replace(spec, recipe="flags or init script changed"),
        replace(spec, volumes=()),
        replace(spec, image="base:2"),
    ]
    assert len({one.digest for one in (spec, *others)}) == 4
    assert replace(spec, urn="another", operations=True).digest == spec.digest


def test_volumes_that_would_leave_data_behind_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folders = Folders("nolab")
    spec = lab_machine(("/srv", "/var/lib/kafka"))
    machines = Machines(folders, _Podman(spec, "/etc/hosts", "/var/lib/postgresql/15/main"))  # type: ignore[arg-type]
    machines.refuse_loss(spec.host, ["/srv", "/var/lib/kafka"])
    machines.refuse_loss(spec.host, ["/srv", "/var/lib/kafka", "/var/lib/etcd"])  # nothing was written there
    machines.refuse_loss(spec.host, ["/srv"])  # nothing is in it

    kept = folders.state / "volumes/svc01.ncsa/var-lib-kafka/topic"
    kept.parent.mkdir(parents=True)
    kept.touch()
    with pytest.raises(FatalError, match=r"/var/lib/kafka is to be no volume any more, and .*var-lib-kafka has data"):
        machines.refuse_loss(spec.host, ["/srv"])
    with pytest.raises(FatalError, match=r"/var/lib/postgresql is to be a volume, and its container has data there"):
        machines.refuse_loss(spec.host, [*spec.volumes, "/var/lib/postgresql"])
