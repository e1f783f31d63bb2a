"""A machine outside the lab is adopted if it answers as a host does, and nothing is pretended where it does not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dpp.model.errors import FatalError, RetriableError
from dpp.model.folders import Folders
from dpp.provider.resources import machine
from dpp.provider.resources.machine import Machine

URN = "urn:pulumi:production.ncsa-itc::observatory::dpp:machines:Machine::gw01.ncsa"
WANTED: dict[str, Any] = {
    "environment": "production",
    "host": "gw01.ncsa",
    "site": "ncsa",
    "network": "ncsa-hosts",
    "address": "127.0.0.1/20",
    "gateway": "127.0.0.254",
    "functions": ["base_system"],
    "image": "",
    "operations": False,
}


@pytest.fixture
def resource(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return Machine(Folders("nolab"))


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
