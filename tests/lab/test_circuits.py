"""The standing lab's circuits carry traffic, each over its own wires."""

from __future__ import annotations

from lab.observatory import Observatory
from network.traffic import silent


def test_every_circuit_carries_traffic_both_ways(observatory: Observatory):
    assert silent(observatory.folders, observatory.environment) == []
