"""Circuits carry what they declare, are cut in silence, and leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from dpp.adapters.vantage import Vantage
from dpp.lab import wires
from dpp.lab.links import Links
from dpp.lab.links.delayline import DelayLine
from dpp.model.environment import Environment
from dpp.model.errors import FatalError
from dpp.model.folders import Folders
from instances import instance
from network.topology import Topology, wait
from network.traffic import carries, silent

CIRCUIT = "base-ncsa-primary"
URN = "urn:dpp:links"


@pytest.fixture
def links() -> Links:
    """Circuits between bare namespaces."""
    folders = Folders(instance("l"))
    made = Links(folders, Environment.load("lab"))
    circuit = made.environment.circuit(CIRCUIT)
    for end in (circuit.a, circuit.b):
        wires.ensure_namespace(wires.namespace(folders.instance, end.host))
    made.ensure(CIRCUIT, URN)
    yield made
    made.remove(CIRCUIT)
    for name in wires.namespaces(folders.instance):
        wires.remove_namespace(name)
    assert not list((folders.run / "links").glob("*"))
    shutil.rmtree(folders.run)


def test_a_circuit_carries_what_it_declares(links: Links):
    state = links.read(CIRCUIT)
    assert state.sound
    assert (state.urn, state.ends) == (URN, ("rt01.base:wan1", "rt01.ncsa:wan0"))
    found = links.measure(CIRCUIT)
    print(f"\n{CIRCUIT}: {found.rate_mbps} Mbit/s, {found.rtt_ms} ms; declared {found.declared}")
    assert found.probes_lost == 0
    for rate in found.rate_mbps:
        assert rate == pytest.approx(state.declared.rate_mbps, rel=0.1)
    assert 2 * state.declared.delay_ms <= found.rtt_ms < 2 * state.declared.delay_ms + 10


def test_nothing_comes_sooner_than_a_circuit_lets_it(links: Links):
    """What a busy machine cannot make wrong: packets are late or lost by it, never early."""
    state = links.read(CIRCUIT)
    assert state.sound
    assert (state.urn, state.ends) == (URN, ("rt01.base:wan1", "rt01.ncsa:wan0"))
    found = links.measure(CIRCUIT)
    assert found.probes_lost == 0
    assert found.rtt_ms >= 2 * state.declared.delay_ms


def test_a_cut_is_silent_and_one_way_if_asked(links: Links):
    assert links.cut(CIRCUIT, "a-to-b").cut == ("a-to-b",)
    found = links.measure(CIRCUIT)
    assert found.rate_mbps[0] is None
    assert found.rate_mbps[1] is not None
    carrier = wires.links(wires.namespace(links.folders.instance, "rt01.base"))["wan1"]
    assert "LOWER_UP" in carrier["flags"]
    assert links.cut(CIRCUIT).cut == ("a-to-b", "b-to-a")
    assert links.restore(CIRCUIT).sound


def test_a_degraded_circuit_is_worse_and_says_so(links: Links):
    state = links.degrade(CIRCUIT, rate_mbps=50, delay_ms=20, loss_percent=20)
    assert not state.sound
    assert state.actual.model_dump() == {"rate_mbps": 50, "delay_ms": 20, "loss_percent": 20}
    assert links.measure(CIRCUIT).rtt_ms >= 40
    assert links.ensure(CIRCUIT, URN).sound


def test_a_circuit_belongs_to_one_owner(links: Links):
    with pytest.raises(FatalError, match=f"owned by {URN}; expected urn:other"):
        links.ensure(CIRCUIT, "urn:other")
    assert links.ensure(CIRCUIT).urn == URN


def test_a_killed_delay_line_is_found_and_started_again(links: Links):
    line = DelayLine(links._wire(CIRCUIT))
    if line.pid is None:
        pytest.skip("this kernel has netem: there is no delay line")
    os.kill(line.pid, signal.SIGKILL)
    wait(lambda: line.pid is None, lambda: "it does not end")
    assert links.read(CIRCUIT).faults == ("its delay line does not run",)
    assert links.ensure(CIRCUIT, URN).sound
    assert links.measure(CIRCUIT).probes_lost == 0


def test_an_unplugged_end_is_found_and_mended(links: Links):
    wires.ip("-n", wires.namespace(links.folders.instance, "rt01.base"), "link", "delete", "wan1")
    assert "no port towards rt01.base" in links.read(CIRCUIT).faults
    assert links.ensure(CIRCUIT, URN).sound
    assert links.measure(CIRCUIT).probes_lost == 0


def test_the_delay_line_carries_three_times_the_declared_rate(links: Links):
    declared = links.read(CIRCUIT).declared.rate_mbps
    links.degrade(CIRCUIT, rate_mbps=10 * declared)
    carried = _tcp_rate(links, 6)
    print(f"\n{carried:.0f} Mbit/s through a circuit of {declared:.0f}")
    assert carried > 3 * declared


def test_an_idle_delay_line_costs_nothing(links: Links):
    line = DelayLine(links._wire(CIRCUIT))
    if line.pid is None:
        pytest.skip("this kernel has netem: there is no delay line")
    before = _cpu_ticks(line.pid)
    time.sleep(5)  # what is asked is what it does in that time
    assert _cpu_ticks(line.pid) - before <= 1


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _tcp_rate(links: Links, seconds: float) -> float:
    """Return what one TCP connection carries, in Mbit/s, in its best second."""
    circuit = links.environment.circuit(CIRCUIT)
    places = []
    for end in (circuit.a, circuit.b):
        name = wires.namespace(links.folders.instance, end.host)
        wires.ip("-n", name, "address", "replace", f"{end.address}/31", "dev", end.interface)
        places.append(Vantage(end.host, wires.NAMESPACES / name))
    listener = places[1].run(_listen, str(circuit.b.address))
    received, over = [0], threading.Event()

    def drain() -> None:
        stream, _ = listener.accept()
        while not over.is_set():
            received[0] += len(stream.recv(1 << 20))

    threading.Thread(target=drain, daemon=True).start()
    sender = places[0].run(_connect, str(circuit.b.address))

    def fill() -> None:
        block = bytes(1 << 20)
        while not over.is_set():
            sender.send(block)

    threading.Thread(target=fill, daemon=True).start()
    rates = []
    for _ in range(round(seconds)):
        before = received[0]
        time.sleep(1)
        rates.append((received[0] - before) * 8e-6)
    over.set()
    sender.close()
    listener.close()
    return max(rates)


def _buffered() -> socket.socket:
    opened = socket.socket()
    for option in (32, 33):  # SO_SNDBUFFORCE, SO_RCVBUFFORCE
        opened.setsockopt(socket.SOL_SOCKET, option, 64 << 20)
    return opened


def _listen(address: str) -> socket.socket:
    opened = _buffered()
    opened.bind((address, 5001))
    opened.listen(1)
    return opened


def _connect(address: str) -> socket.socket:
    opened = _buffered()
    opened.connect((address, 5001))
    return opened


def test_every_circuit_carries_traffic_both_ways_unless_it_is_cut(network: Topology):
    assert silent(network.folders, network.environment) == []
    circuit = network.environment.circuit(CIRCUIT)
    for direction in ("a-to-b", "b-to-a"):
        network.links.cut(CIRCUIT, direction)
        assert f"{CIRCUIT}: 0 of " in carries(network.folders, circuit)
        network.links.restore(CIRCUIT)


def test_the_network_of_the_lab_measures_as_declared(network: Topology):
    for circuit in network.environment.circuits:
        found = network.links.measure(circuit)
        assert found.rtt_ms == pytest.approx(2 * found.declared.delay_ms, abs=8), circuit
        assert found.rate_mbps[0] == pytest.approx(found.declared.rate_mbps, rel=0.15), circuit
