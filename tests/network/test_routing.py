"""Routers converge, filter, fail over and refuse what they should not learn."""

from __future__ import annotations

import json

import pytest

from dpp.adapters.devices.channels import reachable
from dpp.adapters.devices.intent import intent
from network.probes import Stream
from network.topology import Topology, wait


def test_every_session_is_up_with_liveness_detection(network: Topology):
    for host in network.routers:
        told = intent(network.environment, host)
        neighbours = {str(n.address) for n in told.neighbors} | {str(address) for _, address in told.siblings}
        assert network.sessions(host) == dict.fromkeys(neighbours, True)
        peers = json.loads(network.vtysh(host, "show bfd peers json"))
        assert {peer["peer"]: peer["status"] for peer in peers} == dict.fromkeys(neighbours, "up")


def test_every_site_reaches_every_other(network: Topology):
    sites = network.environment.sites
    pairs = [(a, b) for a in sites for b in sites if a != b]
    lost = [
        f"{a} to {b}"
        for a, b in pairs
        if not reachable(network.vantage(a), str(network.environment.operations_host(b).address))
    ]
    assert not lost


@pytest.mark.parametrize("direction", ["a-to-b", "b-to-a"])
def test_a_silent_one_way_drop_moves_traffic_to_the_secondary_path(network: Topology, direction: str):
    source, sink = ("summit", "ncsa") if direction == "a-to-b" else ("ncsa", "summit")
    target = str(network.environment.operations_host(sink).address)
    routing = network.environment.routing
    detection = routing.bfd_interval_ms * routing.bfd_multiplier / 1000
    with Stream(network.vantage(source), network.vantage(sink), target) as stream:
        wait(lambda: len(stream.arrived) > 50, lambda: "no probe arrives")
        network.links.cut("base-ncsa-primary", direction)
        wait(lambda: not network.sessions("rt01.base")["10.80.0.5"], lambda: "the drop is not noticed")
        after = stream.sent
        wait(lambda: sum(number > after for number in stream.arrived) > 100, lambda: "nothing arrives after the drop")
    lost = stream.lost_in_a_row()
    print(
        f"\n{direction}: {lost} probes lost in a row, {stream.interval} s apart; liveness is given up after {detection} s"
    )
    assert network.links.read("base-ncsa-primary").cut == (direction,)
    assert 0.2 / stream.interval < lost < (detection + 2.5) / stream.interval


def test_a_restored_primary_path_is_used_again(network: Topology):
    network.links.cut("base-ncsa-primary")
    wait(lambda: not network.sessions("rt01.base")["10.80.0.5"], lambda: "the cut is not noticed")
    assert "10.82.0.2" in network.vtysh("rt01.base", "show ip route 10.83.0.0/24")
    network.links.restore("base-ncsa-primary")
    took = wait(lambda: network.sessions("rt01.base")["10.80.0.5"], lambda: "the session stays down")
    wait(
        lambda: "10.80.0.5" in network.vtysh("rt01.base", "show ip route 10.83.0.0/24"),
        lambda: "the route stays away",
    )
    print(f"\nback after {took:.1f} s")


def test_nobody_announces_more_than_intended(network: Topology):
    for host in network.routers:
        for neighbor in intent(network.environment, host).neighbors:
            command = f"show bgp ipv4 unicast neighbors {neighbor.address} advertised-routes json"
            told = set(json.loads(network.vtysh(host, command))["advertisedRoutes"])
            allowed = {str(prefix) for prefix in neighbor.announce.prefixes}
            assert told <= allowed, f"{host} tells {neighbor.host}"
            assert {str(p) for p in intent(network.environment, host).own if p.prefixlen == 24} <= told


def test_a_site_gives_no_transit_by_accident(network: Topology):
    """The summit's filter towards the base is taken away: the base refuses what the summit may not speak for."""
    network.vtysh(
        "rt01.summit",
        "configure terminal",
        "ip route 203.0.113.0/24 blackhole",
        "ip route 10.83.0.128/25 blackhole",
        "router bgp 65081",
        "address-family ipv4 unicast",
        "network 203.0.113.0/24",
        "network 10.83.0.128/25",
        "no neighbor 10.80.0.1 prefix-list summit-to-base out",
        "neighbor 10.80.0.1 route-map own-address out",
    )
    received = "show bgp ipv4 unicast neighbors 10.80.0.0 received-routes json"
    wait(lambda: "203.0.113.0/24" in network.vtysh("rt01.base", received), lambda: "nothing was announced")
    for host in network.routers:
        if host != "rt01.summit":
            routes = json.loads(network.vtysh(host, "show ip route json"))
            assert not {"203.0.113.0/24", "10.83.0.128/25"} & set(routes), host


def test_a_neighbour_that_announces_too_much_is_shut_out(network: Topology):
    extra = [f"192.0.2.{number * 8}/29" for number in range(16)]
    network.vtysh(
        "rt01.in2p3",
        "configure terminal",
        *(f"ip route {prefix} blackhole" for prefix in extra),
        "router bgp 65084",
        "address-family ipv4 unicast",
        "redistribute static",
        "no neighbor 10.80.0.8 prefix-list in2p3-to-ncsa out",
        "neighbor 10.80.0.8 route-map own-address out",
    )
    summary = "show bgp summary json"

    def state() -> str:
        peers = json.loads(network.vtysh("rt01.ncsa", summary))["ipv4Unicast"]["peers"]
        return str(peers["10.80.0.9"]["state"])

    wait(lambda: state().startswith("Idle"), state)
    assert "Maximum Number of Prefixes Reached" in network.vtysh("rt01.ncsa", "show bgp neighbor 10.80.0.9")
    assert reachable(network.vantage("ncsa"), str(network.environment.operations_host("in2p3").address)), (
        "the other path holds"
    )
    network.console.apply("rt01.in2p3")
    network.vtysh("rt01.ncsa", "clear bgp 10.80.0.9")


def test_traffic_is_marked_and_classed(network: Topology):
    target = str(network.environment.host("rt01.ncsa").address)
    before = _packets(network, "administration"), _packets(network, "bulk")
    network.devices.read("rt01.ncsa")  # administration from the same site crosses no circuit
    assert reachable(network.vantage("summit"), target)
    far = type(network.devices)(network.environment, network.folders, site="summit")
    far.read("rt01.ncsa")
    after = _packets(network, "administration"), _packets(network, "bulk")
    assert after[0] - before[0] > 20, "SSH is administration"
    assert after[1] - before[1] >= 3, "what nobody marked is bulk"
    classes = network.shell("rt01.summit", "tc", "class", "show", "dev", "wan0")
    assert "rate 388Mbit" in classes


def _packets(network: Topology, name: str) -> int:
    rules = json.loads(network.shell("rt01.summit", "nft", "--json", "list", "table", "inet", "dpp_router"))["nftables"]
    rule = next(one["rule"] for one in rules if one.get("rule", {}).get("comment") == name)
    return next(part["counter"]["packets"] for part in rule["expr"] if "counter" in part)
