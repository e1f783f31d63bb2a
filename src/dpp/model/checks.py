"""What no single file can know: whether the declarations of an environment agree with each other.

Each check is a generator of findings over an environment whose objects are right in shape.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from itertools import combinations
from typing import Final

from dpp.model import capacity
from dpp.model.declared import Declared
from dpp.model.problems import Finding
from dpp.model.sources import Sources
from dpp.model.types import Circuit, CircuitEnd, Cluster, Host

Check = Callable[[Declared], Iterator[Finding]]
NODE_GROUPS: Final = {"control_plane": "kubernetes_control_plane", "nodes": "kubernetes_node"}
STORE_GROUPS: Final = frozenset({"object_store", "summit_storage"})


def findings(environment: Declared, origin: Sources, *, complete: bool) -> Iterator[Finding]:
    """Yield every contradiction; without `complete` (objects were refused) what counts objects is left out."""
    for check in (
        _prefixes,
        _networks,
        _hosts,
        _circuits,
        _clusters,
        _storage,
        _outside,
        _camera,
        _volumes,
        _asns,
        _transit,
        _platforms,
    ):
        yield from check(environment)
    yield from _groups(environment, origin)
    if complete:
        yield from _autonomy(environment)
        yield from _membership(environment)
        yield from _pools(environment)
        yield from capacity.findings(environment, origin)


def _prefixes(environment: Declared) -> Iterator[Finding]:
    prefixes: list[tuple[tuple[str, ...], IPv4Network]] = [
        *((("dpp_networks", n.name, "prefix"), n.prefix) for n in environment.networks.values()),
        *((("dpp_circuits", c.name, "prefix"), c.prefix) for c in environment.circuits.values()),
    ]
    for cluster in environment.clusters.values():
        prefixes.append((("dpp_clusters", cluster.name, "pod_prefix"), cluster.pod_prefix))
        prefixes.append((("dpp_clusters", cluster.name, "service_prefix"), cluster.service_prefix))
    for (_, one), (keys, other) in combinations(prefixes, 2):
        if one.overlaps(other):
            owner = next("/".join(k[:2]) for k, p in prefixes if p is one)
            yield Finding(
                keys, f"{other}, which overlaps {one} of {owner}", "prefixes of their own", "choose a free prefix"
            )


def _networks(environment: Declared) -> Iterator[Finding]:
    for network in environment.networks.values():
        keys = ("dpp_networks", network.name)
        yield from _site_exists(environment, (*keys, "site"), network.site)
        if network.gateway not in network.prefix:
            yield Finding(
                (*keys, "gateway"), str(network.gateway), f"an address in {network.prefix}", "correct one of the two"
            )


def _site_exists(environment: Declared, keys: tuple[str, ...], site: str) -> Iterator[Finding]:
    if site not in environment.sites:
        yield Finding(
            keys, f"site {site}", f"one of {', '.join(environment.sites)}", "correct the site or declare it", (site,)
        )


def _hosts(environment: Declared) -> Iterator[Finding]:
    owners: dict[object, str] = {
        network.gateway: f"the gateway of {network.name}" for network in environment.networks.values()
    }
    for host in environment.hosts.values():
        keys = (host.name, "dpp_address")
        yield from _site_exists(environment, (host.name,), host.site)
        if host.name.rpartition(".")[2] != host.site:
            yield Finding(
                (host.name,), f"a host of {host.site}", f"a name ending in .{host.site}", "rename or move the host"
            )
        own = [network.prefix for network in environment.networks.values() if network.site == host.site]
        if not any(host.address in prefix for prefix in own):
            expected = f"an address in {', '.join(map(str, own)) or 'a network, but the site has none'}"
            yield Finding(keys, str(host.address), expected, "correct the address or the network", (host.site,))
        if any(host.address in (prefix.network_address, prefix.broadcast_address) for prefix in own):
            yield Finding(
                keys, f"{host.address}, a network's first or last address", "an address of a host", "choose another"
            )
        if host.address in owners:
            yield Finding(
                keys, f"{host.address}, used by {owners[host.address]} too", "an address of its own", "choose another"
            )
        owners.setdefault(host.address, host.name)


def _circuits(environment: Declared) -> Iterator[Finding]:
    interfaces: dict[tuple[str, str], str] = {}
    for circuit in environment.circuits.values():
        keys = ("dpp_circuits", circuit.name)
        for side, end in (("a", circuit.a), ("b", circuit.b)):
            yield from _circuit_end(environment, circuit, (*keys, side), end)
            other = interfaces.setdefault((end.host, end.interface), circuit.name)
            if other != circuit.name:
                found = f"{end.interface} of {end.host}, used by {other} too"
                yield Finding((*keys, side, "interface"), found, "an interface per circuit", "choose another interface")
        if circuit.a.address == circuit.b.address:
            yield Finding(
                (*keys, "b", "address"), f"{circuit.b.address} at both ends", "two addresses", "correct one end"
            )
        sites = {environment.hosts[end.host].site for end in (circuit.a, circuit.b) if end.host in environment.hosts}
        if circuit.a.host == circuit.b.host or len(sites) == 1:
            yield Finding(
                keys, "both ends at one site", "two sites", "correct one end", (circuit.a.host, circuit.b.host)
            )


def _transit(environment: Declared) -> Iterator[Finding]:
    ends = [{end.host.rpartition(".")[2] for end in (c.a, c.b)} for c in environment.circuits.values()]
    for site in environment.sites.values():
        keys = ("dpp_sites", site.name, "transit_for")
        for other in site.transit_for:
            if {site.name, other} not in ends:
                yield Finding(
                    keys,
                    f"{other}, to which no circuit leads",
                    "sites at the far end of a circuit",
                    "correct the list",
                    (other,),
                )
            elif other in environment.sites and site.name in environment.sites[other].transit_for:
                yield Finding(
                    keys,
                    f"{other}, which carries {site.name}'s traffic too",
                    "transit one way",
                    "delete one of the two",
                )


def _platforms(environment: Declared) -> Iterator[Finding]:
    for host in environment.routing.platforms:
        if host not in environment.hosts or "border_router" not in environment.hosts[host].groups:
            yield Finding(("dpp_routing", "platforms", host), host, "a border router of hosts.yml", "correct the name")


def _circuit_end(environment: Declared, circuit: Circuit, keys: tuple[str, ...], end: CircuitEnd) -> Iterator[Finding]:
    host = environment.hosts.get(end.host)
    if host is None:
        yield Finding(
            (*keys, "host"),
            f"host {end.host}, which does not exist",
            "a host of hosts.yml",
            "correct the name",
            (end.host,),
        )
    elif "border_router" not in host.groups:
        yield Finding(
            (*keys, "host"),
            f"{end.host}, no border router",
            "a host of group border_router",
            "correct the end or its groups",
        )
    if end.address not in circuit.prefix:
        yield Finding(
            (*keys, "address"), str(end.address), f"an address in {circuit.prefix}", "correct the address or the prefix"
        )
    if end.interface == "eth0":
        yield Finding(
            (*keys, "interface"), "eth0, the local network's", "an interface of its own", "name it wan0, wan1, ..."
        )


def _clusters(environment: Declared) -> Iterator[Finding]:
    for cluster in environment.clusters.values():
        keys = ("dpp_clusters", cluster.name)
        yield from _site_exists(environment, (*keys, "site"), cluster.site)
        for kind, group in NODE_GROUPS.items():
            for name in getattr(cluster, kind):
                yield from _member(environment, (*keys, kind), name, group, cluster.site)
        if cluster.endpoint not in cluster.control_plane:
            expected = f"one of {', '.join(cluster.control_plane)}"
            yield Finding((*keys, "endpoint"), cluster.endpoint, expected, "name a control plane host")
        if len(cluster.control_plane) % 2 == 0:
            found = f"{len(cluster.control_plane)} control plane hosts"
            yield Finding(
                (*keys, "control_plane"), found, "an odd number, so that etcd has a majority", "add or remove one"
            )
    for name, count in Counter(host for c in environment.clusters.values() for host in c.hosts).items():
        if count > 1:
            yield Finding(
                ("dpp_clusters",), f"{name} listed {count} times", "each host once", "remove it from one list"
            )


def _member(environment: Declared, keys: tuple[str, ...], name: str, group: str, site: str) -> Iterator[Finding]:
    host = environment.hosts.get(name)
    if host is None:
        yield Finding(keys, f"host {name}, which does not exist", "a host of hosts.yml", "correct the name", (name,))
        return
    if group not in host.groups:
        yield Finding(
            keys, f"{name}, not in group {group}", f"a host of group {group}", "add it to the group in hosts.yml"
        )
    if host.site != site:
        yield Finding(keys, f"{name}, a host of {host.site}", f"a host of {site}", "correct the name or the site")


def _storage(environment: Declared) -> Iterator[Finding]:
    for store in environment.storage.values():
        keys = ("dpp_storage", store.site)
        yield from _site_exists(environment, keys, store.site)
        for name in store.hosts:
            host = environment.hosts.get(name)
            group = next(iter(sorted(STORE_GROUPS & host.groups)), "object_store") if host else "object_store"
            yield from _member(environment, (*keys, "hosts"), name, group, store.site)


def _outside(environment: Declared) -> Iterator[Finding]:
    for outside in environment.outside.values():
        keys = ("dpp_outside", outside.name)
        yield from _site_exists(environment, (*keys, "site"), outside.site)
        taken = next((host.name for host in environment.hosts.values() if host.address == outside.address), None)
        if taken:
            found, expected = f"{outside.address}, used by {taken} too", "an address of its own"
            yield Finding((*keys, "address"), found, expected, "choose another")


def _volumes(environment: Declared) -> Iterator[Finding]:
    nodes = {host for cluster in environment.clusters.values() for host in cluster.hosts}
    for volume in environment.volumes.values():
        if volume.node not in nodes:
            keys = ("dpp_volumes", volume.name, "node")
            yield Finding(keys, f"{volume.node}, no node of a cluster", "a node", "correct the name", (volume.node,))


def _asns(environment: Declared) -> Iterator[Finding]:
    owners: dict[int, str] = {}
    for site in environment.sites.values():
        if owners.setdefault(site.asn, site.name) != site.name:
            found = f"{site.asn}, used by {owners[site.asn]} too"
            yield Finding(("dpp_sites", site.name, "asn"), found, "a number of its own", "choose another")


def _groups(environment: Declared, origin: Sources) -> Iterator[Finding]:
    """Yield groups that are no site, function or pool of that name."""
    roles = {path.parents[1].name for path in (origin.root / "roles").glob("*/meta/argument_specs.yml")}
    for group in sorted(origin.children.get("functions", frozenset()) - roles):
        yield Finding(
            (group,), f"group {group}", "a role of the same name in roles/", "correct the group or write the role"
        )
    for group in sorted(origin.children.get("sites", frozenset()) - set(environment.sites)):
        yield Finding((group,), f"group {group} under sites", "a site of sites.yml", "declare the site", (group,))
    for group in sorted(origin.children.get("pools", frozenset()) ^ set(environment.pools)):
        yield Finding(
            ("dpp_pools", group),
            f"pool {group} in one place only",
            "a group and an entry of dpp_pools",
            "add the other",
            (group,),
        )


def _autonomy(environment: Declared) -> Iterator[Finding]:
    """Yield what a site lacks to run, be reconfigured and be rebuilt without its links."""
    for site in environment.sites:
        needs = ["operations_host", "border_router"]
        needs += ["container_registry"] if environment.clusters_of(site) else []
        for group in needs:
            if not environment.hosts_of(site, group):
                yield Finding(
                    ("dpp_sites", site),
                    f"no host of group {group}",
                    "one, so that it runs without its links",
                    "add one",
                )
        if not any(network.site == site for network in environment.networks.values()):
            yield Finding(("dpp_sites", site), "no network", "a network with a gateway", "declare one in networks.yml")
        paths = {leg.circuit.path for host in environment.routers(site) for leg in environment.legs(host.name)}
        for path in sorted({"primary", "secondary"} - paths):
            yield Finding(
                ("dpp_sites", site),
                f"no {path} circuit",
                "a primary and a secondary path",
                "declare one in circuits.yml",
            )


def _membership(environment: Declared) -> Iterator[Finding]:
    """Yield hosts that are in a Kubernetes or store group but in no cluster or store."""
    used: dict[str, set[str]] = defaultdict(set)
    for cluster in environment.clusters.values():
        _enlist(used, cluster)
    for store in environment.storage.values():
        used["store"].update(store.hosts)
    for host in environment.hosts.values():
        for group in sorted(host.groups & set(NODE_GROUPS.values())):
            if host.name not in used[group]:
                yield Finding(
                    (host.name,), f"group {group}, but no cluster lists it", "a cluster of clusters.yml", "add it there"
                )
        if host.groups & STORE_GROUPS and host.name not in used["store"]:
            yield Finding((host.name,), "a store host in no store", "a store of storage.yml", "add it there")


def _enlist(used: dict[str, set[str]], cluster: Cluster) -> None:
    for kind, group in NODE_GROUPS.items():
        used[group].update(getattr(cluster, kind))


def _camera(environment: Declared) -> Iterator[Finding]:
    """Yield detectors that are declared off and that the camera does not have, and a camera with none that is on."""
    camera = environment.camera
    names = [detector.name for detector in camera.detectors]
    for name in sorted(set(camera.detectors_off) - set(names)):
        expected = f"a detector of rafts {', '.join(camera.rafts)}"
        yield Finding(
            ("dpp_camera", "detectors_off"), f"{name}, which the camera does not have", expected, "correct the name"
        )
    if set(names) <= set(camera.detectors_off):
        yield Finding(
            ("dpp_camera", "detectors_off"), "every detector", "one that is on", "delete those that are not off"
        )


def _pools(environment: Declared) -> Iterator[Finding]:
    if not environment.pools:
        return
    for host in environment.hosts_of(group="kubernetes_node"):
        yield from _one_pool(environment, host)
    camera = environment.camera
    needed = len(camera.detectors) * camera.visits_in_flight + camera.spare_workers
    if environment.prompt_capacity() < needed:
        found = f"{environment.prompt_capacity()} prompt workers over all pools"
        expected = f"{needed}: {len(camera.detectors)} detectors x {camera.visits_in_flight} visits in flight, {camera.spare_workers} spare"
        yield Finding(("dpp_pools",), found, expected, "add nodes or workers per node")


def _one_pool(environment: Declared, host: Host) -> Iterator[Finding]:
    own = sorted(host.groups & set(environment.pools))
    if len(own) != 1:
        yield Finding(
            (host.name,), f"in {len(own)} pools ({', '.join(own) or 'none'})", "in one pool", "correct hosts.yml"
        )
