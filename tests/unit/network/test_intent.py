"""What routers are told, for both environments: as text for the lab, as structure for production."""

from __future__ import annotations

import os
import re
from collections import Counter
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from dpp.adapters.devices import Change, router_text
from dpp.adapters.devices.intent import announced, intent, site_prefixes
from dpp.model.environment import Environment
from dpp.model.errors import FatalError

GOLDEN = Path(__file__).with_name("golden")
LAB, PRODUCTION = Environment.load("lab"), Environment.load("production")
ROUTERS = [(e, host.name) for e in (LAB, PRODUCTION) for host in e.hosts_of(group="border_router")]
every_router = pytest.mark.parametrize(("environment", "host"), ROUTERS, ids=[f"{e.name}-{h}" for e, h in ROUTERS])
every_environment = pytest.mark.parametrize("environment", [LAB, PRODUCTION], ids=lambda e: e.name)


@pytest.mark.parametrize("host", [host for e, host in ROUTERS if e is LAB])
def test_a_lab_router_is_told_what_the_golden_file_says(host: str):
    golden = GOLDEN / f"{host}.conf"
    if "DPP_UPDATE_GOLDEN" in os.environ:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(router_text(LAB, host))
    assert router_text(LAB, host) == golden.read_text(), (
        f"look at the difference, then set DPP_UPDATE_GOLDEN to accept it in {golden}"
    )


@every_environment
def test_router_ids_are_unique(environment: Environment):
    ids = Counter(
        re.search(r"router-id (\S+)", router_text(environment, host.name))[1]
        for host in environment.hosts_of(group="border_router")
    )
    assert set(ids.values()) == {1}


@every_environment
def test_both_ends_of_a_circuit_agree(environment: Environment):
    texts = {host.name: router_text(environment, host.name) for host in environment.hosts_of(group="border_router")}
    for circuit in environment.circuits.values():
        for near, far in ((circuit.a, circuit.b), (circuit.b, circuit.a)):
            interface = re.search(rf"interface {near.interface}\n(?: .*\n)*? ip address (\S+)", texts[near.host])
            assert interface is not None, (circuit.name, near.host)
            address = IPv4Interface(interface[1])
            assert address.network.prefixlen == 31
            assert far.address in address.network
            asn = environment.site(environment.host(far.host).site).asn
            assert f"neighbor {far.address} remote-as {asn}" in texts[near.host]
            assert f"neighbor {far.address} bfd profile path" in texts[near.host]
            assert f"neighbor {far.address} ttl-security hops 1" in texts[near.host]


@every_router
def test_every_session_is_filtered_both_ways_and_limited(environment: Environment, host: str):
    text = router_text(environment, host)
    lists = set(re.findall(r"^ip prefix-list (\S+) ", text, re.MULTILINE))
    for neighbor in intent(environment, host).neighbors:
        for way in ("in", "out"):
            used = re.search(rf"neighbor {neighbor.address} prefix-list (\S+) {way}", text)
            assert used is not None
            assert used[1] in lists
        assert re.search(rf"neighbor {neighbor.address} maximum-prefix \d+ ", text)
    assert text.index("ip prefix-list") < text.index("router bgp"), (
        "filters must stand before the sessions that use them"
    )


@every_router
def test_routers_of_a_site_know_each_other(environment: Environment, host: str):
    site = environment.host(host).site
    others = {str(router.address) for router in environment.routers(site)} - {str(environment.host(host).address)}
    text = router_text(environment, host)
    for other in others:
        assert f"neighbor {other} remote-as {environment.site(site).asn}" in text
        assert f"neighbor {other} next-hop-self" in text
    holds_gateway = f"ip address {environment.attachment(host).gateway}/32" in text
    assert holds_gateway == (not others), "a gateway address belongs to VRRP where two routers could hold it"


@every_environment
def test_a_site_speaks_only_for_itself_and_those_whose_traffic_it_carries(environment: Environment):
    neighbours = {
        tuple(environment.host(end.host).site for end in ends)
        for c in environment.circuits.values()
        for ends in ((c.a, c.b), (c.b, c.a))
    }
    for source, to in neighbours:
        told = set(announced(environment, source, to).prefixes)
        assert told >= set(site_prefixes(environment, source))
        assert not told & set(site_prefixes(environment, to)), f"{source} tells {to} of its own prefixes"
    assert not set(site_prefixes(LAB, "ncsa")) & set(announced(LAB, "summit", "base").prefixes)
    assert not set(site_prefixes(LAB, "summit")) & set(announced(LAB, "in2p3", "ncsa").prefixes)


@every_environment
def test_every_site_learns_of_every_other(environment: Environment):
    sites = {end.name: set(site_prefixes(environment, end.name)) for end in environment.sites.values()}
    links = {frozenset(environment.host(e.host).site for e in (c.a, c.b)) for c in environment.circuits.values()}
    known: dict[str, set[IPv4Network]] = {site: set(own) for site, own in sites.items()}
    for _ in sites:
        for link in links:
            for source, to in (tuple(link), tuple(link)[::-1]):
                known[to] |= known[source] & set(announced(environment, source, to).prefixes)
    for site, prefixes in known.items():
        assert prefixes == set().union(*sites.values()), f"{site} does not learn of every site"


def test_the_primary_path_is_preferred_at_both_ends():
    for circuit in PRODUCTION.circuits.values():
        preferences = {
            n.preference
            for end in (circuit.a, circuit.b)
            for n in intent(PRODUCTION, end.host).neighbors
            if n.circuit == circuit.name
        }
        assert preferences == {200 if circuit.path == "primary" else 100}


def test_a_host_that_is_no_router_is_refused():
    with pytest.raises(FatalError, match=r"host svc01\.base: no border router"):
        intent(LAB, "svc01.base")


def test_an_unknown_platform_is_refused():
    routing = LAB.routing.model_copy(update={"platforms": {"rt01.base": "abacus"}})
    with pytest.raises(FatalError, match=r"platform 'abacus'; expected one of frr"):
        router_text(LAB.model_copy(update={"routing": routing}), "rt01.base")


def test_a_change_names_each_line_with_its_sections():
    change = Change.of(
        [],
        [
            "interface wan0",
            "interface wan0",
            " description x",
            "router bgp 1",
            " address-family ipv4 unicast",
            "  network 10.0.0.0/8",
        ],
    )
    assert change.text().splitlines() == [
        "+ interface wan0",
        "+ interface wan0 / description x",
        "+ router bgp 1 / address-family ipv4 unicast / network 10.0.0.0/8",
    ]
