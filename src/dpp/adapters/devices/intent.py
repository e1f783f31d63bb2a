"""What a border router should do, derived from the model and independent of who made the router."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from dpp.model.declared import Leg
from dpp.model.environment import Environment
from dpp.model.errors import FatalError
from dpp.model.names import kebab

LOCAL_PREFERENCE = {"primary": 200, "secondary": 100}
"""Both ends of a circuit weigh it alike, so that traffic takes the same path both ways."""
_FACTOR, _MARGIN = 2, 8
"""A neighbour may announce this many times what it should, and a few more; beyond that it is shut out."""


@dataclass(frozen=True)
class PrefixList:
    """Prefixes under a name; what is not in it is refused."""

    name: str
    prefixes: tuple[IPv4Network, ...]


@dataclass(frozen=True)
class Neighbor:
    """A BGP session over a circuit."""

    circuit: str
    interface: str
    address: IPv4Address
    host: str
    site: str
    asn: int
    preference: int
    accept: PrefixList
    announce: PrefixList
    limit: int


@dataclass(frozen=True)
class Address:
    """An address of an interface."""

    interface: str
    description: str
    address: str


@dataclass(frozen=True)
class Route:
    """A route to what lies behind a host of the site."""

    prefix: IPv4Network
    via: IPv4Address
    purpose: str


@dataclass(frozen=True)
class Intent:
    """The intended behaviour of one border router."""

    host: str
    address: IPv4Address
    asn: int
    addresses: tuple[Address, ...]
    routes: tuple[Route, ...]
    own: tuple[IPv4Network, ...]
    neighbors: tuple[Neighbor, ...]
    siblings: tuple[tuple[str, IPv4Address], ...]
    bfd_interval_ms: int
    bfd_multiplier: int

    @property
    def prefix_lists(self) -> tuple[PrefixList, ...]:
        """All lists that the sessions use, by name."""
        lists = {one.name: one for n in self.neighbors for one in (n.accept, n.announce)}
        return tuple(lists[name] for name in sorted(lists))


def intent(environment: Environment, host: str) -> Intent:
    """Derive what the border router `host` should do.

    Raises
    ------
    FatalError
        If it is no border router.
    """
    router = environment.host(host)
    if "border_router" not in router.groups:
        raise FatalError(f"host {host}", "no border router", "a host of group border_router", "see hosts.yml")
    siblings = tuple((r.name, r.address) for r in environment.routers(router.site) if r.name != host)
    own = site_prefixes(environment, router.site)
    legs = environment.legs(host)
    return Intent(
        host=host,
        address=router.address,
        asn=environment.site(router.site).asn,
        addresses=(*_gateway(environment, host, alone=not siblings), *(_address(leg) for leg in legs)),
        routes=_routes(environment, router.site),
        own=own,
        neighbors=tuple(_neighbor(environment, router.site, leg) for leg in legs),
        siblings=siblings,
        bfd_interval_ms=environment.routing.bfd_interval_ms,
        bfd_multiplier=environment.routing.bfd_multiplier,
    )


def site_prefixes(environment: Environment, site: str) -> tuple[IPv4Network, ...]:
    """Return what a site originates: its host networks, and its clusters' pods and services."""
    hosts = (network.prefix for network in environment.networks.values() if network.site == site)
    clusters = (prefix for c in environment.clusters_of(site) for prefix in (c.pod_prefix, c.service_prefix))
    return tuple(sorted((*hosts, *clusters)))


def reached_through(environment: Environment, site: str) -> tuple[str, ...]:
    """Return a site and all those whose traffic it carries, directly or through those it carries."""
    found = [site]
    for one in found:
        found += [other for other in environment.site(one).transit_for if other not in found]
    return tuple(found)


def announced(environment: Environment, source: str, to: str) -> PrefixList:
    """Return what site `source` tells its neighbour `to`.

    A neighbour whose traffic it carries is told of everything; any other only of what `source` speaks for.
    """
    if to in environment.site(source).transit_for:
        sites = [site for site in environment.sites if site not in reached_through(environment, to)]
    else:
        sites = list(reached_through(environment, source))
    prefixes = sorted(prefix for site in sites for prefix in site_prefixes(environment, site))
    return PrefixList(f"{kebab(source)}-to-{kebab(to)}", tuple(prefixes))


def _neighbor(environment: Environment, site: str, leg: Leg) -> Neighbor:
    there = environment.host(leg.far.host).site
    accept = announced(environment, there, site)
    return Neighbor(
        circuit=leg.circuit.name,
        interface=leg.near.interface,
        address=leg.far.address,
        host=leg.far.host,
        site=there,
        asn=environment.site(there).asn,
        preference=LOCAL_PREFERENCE[leg.circuit.path],
        accept=accept,
        announce=announced(environment, site, there),
        limit=len(accept.prefixes) * _FACTOR + _MARGIN,
    )


def _address(leg: Leg) -> Address:
    text = f"{leg.circuit.name} to {leg.far.host}"
    return Address(leg.near.interface, text, f"{leg.near.address}/{leg.circuit.prefix.prefixlen}")


def _gateway(environment: Environment, host: str, *, alone: bool) -> tuple[Address, ...]:
    """Return the site's gateway address where no other router could take it over; else VRRP moves it."""
    place = environment.attachment(host)
    if not alone:
        return ()
    return (Address(place.interface, place.network.name, f"{place.gateway}/32"),)


def _routes(environment: Environment, site: str) -> tuple[Route, ...]:
    """Return routes to pods and services: every control plane host knows the way to each."""
    return tuple(
        Route(prefix, environment.host(node).address, f"{purpose} of {cluster.name}")
        for cluster in environment.clusters_of(site)
        for prefix, purpose in ((cluster.pod_prefix, "pods"), (cluster.service_prefix, "services"))
        for node in cluster.control_plane
    )
