"""Whether circuits carry traffic: packets are sent over each, and the ports at both of its ends must have received them."""

from __future__ import annotations

import json
import re
import subprocess

from dpp.lab import wires
from dpp.model.environment import Environment
from dpp.model.folders import Folders
from dpp.model.types import Circuit, CircuitEnd

_PACKETS, _BYTES = 100, 1400
"""Far more than what routers say to each other meanwhile."""


def carries(folders: Folders, circuit: Circuit) -> str:
    """Send packets from one end of a circuit to the other, which sends them back; say what is wrong, empty if nothing."""
    before = [_received(folders, end) for end in (circuit.a, circuit.b)]
    command = ["ping", "-q", f"-c{_PACKETS}", "-i0.01", f"-s{_BYTES}", "-W5", f"-I{circuit.a.interface}"]
    name = wires.namespace(folders.instance, circuit.a.host)
    said = subprocess.run(
        ["ip", "netns", "exec", name, *command, str(circuit.b.address)], capture_output=True, text=True, check=False
    ).stdout
    answered = int(next(iter(re.findall(r"(\d+) received", said)), "0"))
    grown = [_received(folders, end) - one for end, one in zip((circuit.a, circuit.b), before, strict=True)]
    if answered < _PACKETS or min(grown) < _PACKETS * _BYTES:
        return f"{circuit.name}: {answered} of {_PACKETS} packets came back; its ends received {grown} bytes"
    return ""


def silent(folders: Folders, environment: Environment) -> list[str]:
    """Return what is wrong with circuits that do not carry traffic in both directions."""
    return [reason for name in environment.circuits if (reason := carries(folders, environment.circuit(name)))]


def _received(folders: Folders, end: CircuitEnd) -> int:
    name = wires.namespace(folders.instance, end.host)
    command = ["ip", "-n", name, "-json", "-statistics", "link", "show", "dev", end.interface]
    (link,) = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return int(link["stats64"]["rx"]["bytes"])
