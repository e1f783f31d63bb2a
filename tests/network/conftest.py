"""One wide-area network for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dpp.model.folders import Folders
from instances import instance
from network.topology import Topology


@pytest.fixture(scope="package")  # gone before a lab comes: inotify instances do not suffice for both
def topology() -> Iterator[Topology]:
    made = Topology(Folders(instance("n")))
    made.down()
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture
def network(topology: Topology) -> Iterator[Topology]:
    """Bring the network to its intended state before the test, its circuits after it."""
    topology.settle()
    yield topology
    for circuit in topology.environment.circuits:
        topology.links.restore(circuit)
