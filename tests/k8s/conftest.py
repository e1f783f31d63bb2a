"""A real API server for all tests of a session."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from dpp.rendering.clusters import GROUND
from k8s.deployed import HUNG_SECONDS, Server, by_service, pod
from k8s.serving import serving


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run an API server with the ground that workloads stand on (k8s/platform) in force."""
    with serving(tmp_path_factory.mktemp("api")) as found:
        _prepare(found)
        yield found


def _prepare(server: Server) -> None:
    done = server.apply(by_service("lab", "summit")[GROUND])
    assert done.returncode == 0, done.stderr
    # its controller makes this account in a cluster
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "workloads"}}
    assert server.apply(account).returncode == 0
    deadline = time.monotonic() + HUNG_SECONDS
    while server.apply(pod(image="elsewhere/image:latest"), dry=True).returncode == 0:
        assert time.monotonic() < deadline, "the house rules did not come into force"
        time.sleep(0.5)
