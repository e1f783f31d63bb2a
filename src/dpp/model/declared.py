"""What an inventory declares, checked or not yet, with the questions that others ask of it."""

from __future__ import annotations

import difflib
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import Field

from dpp.model import permits
from dpp.model.errors import FatalError
from dpp.model.folders import Folders
from dpp.model.types import (
    Attachment,
    Camera,
    Circuit,
    CircuitEnd,
    Cluster,
    Host,
    Model,
    Network,
    Outside,
    Pool,
    Provisioning,
    Retired,
    Routing,
    Site,
    StorageSite,
    TopicFigures,
    VolumeFigures,
)

KAFKA_PORT: Final = 9094
"""Of brokers, for those who log in."""
KAFKA_MESSAGE_BYTES: Final = 4 * 2**20
"""Largest message of every Kafka, of the mirrors between them and of all clients, as it is sent."""
POSTGRESQL_PORT: Final = 5432


class Leg(NamedTuple):
    """A circuit seen from one router."""

    circuit: Circuit
    near: CircuitEnd
    far: CircuitEnd


class Declared(Model):
    """What exists in one environment, by name."""

    name: str
    folder: Path
    sites: dict[str, Site]
    networks: dict[str, Network]
    circuits: dict[str, Circuit]
    circuit_scale: float = Field(
        gt=0, le=1, description="Share of a circuit's rate that this environment's links carry."
    )
    clusters: dict[str, Cluster]
    storage: dict[str, StorageSite] = Field(description="By site.")
    topics: dict[str, TopicFigures] = Field(description="By role.")
    volumes: dict[str, VolumeFigures]
    outside: dict[str, Outside]
    camera: Camera
    routing: Routing
    pools: dict[str, Pool]
    provisioning: Provisioning
    retired: Retired
    hosts: dict[str, Host]

    @property
    def made(self) -> bool:
        """Whether its machines and circuits are made here, in instances, and not found where they stand."""
        return self.provisioning.hosts == "made"

    @property
    def folders(self) -> Folders:
        """Where its state, secrets and access lie."""
        return Folders.of(self.name, instances=self.made)

    def require_apply(self) -> None:
        """Refuse, by a ``FatalError`` that says why, to apply an environment that is for previews only, or to whom it is not permitted."""  # fmt: skip
        if not self.provisioning.apply:
            raise FatalError(
                f"environment {self.name}",
                f"for previews only: {self.provisioning.because}",
                "an environment that may be applied, such as lab",
                f"look at it with dpp stack preview; dpp_provisioning of inventories/{self.name} says when that changes",
            )
        if self.provisioning.changes == "authorised":
            permits.require(self.name, self.folders)

    def host(self, name: str) -> Host:
        """Return the host `name`; ``FatalError`` naming the nearest one where there is none."""
        if name in self.hosts:
            return self.hosts[name]
        near = difflib.get_close_matches(name, self.hosts, 3) or [*self.hosts][:3]
        raise FatalError(
            f"host {name}", f"not in inventories/{self.name}", f"such as {', '.join(near)}", "check the name"
        )

    def site(self, name: str) -> Site:
        """Return the site `name`; ``FatalError`` listing the sites where there is none."""
        if name in self.sites:
            return self.sites[name]
        raise FatalError(
            f"site {name}", f"not in inventories/{self.name}", f"one of {', '.join(self.sites)}", "check the name"
        )

    def circuit(self, name: str) -> Circuit:
        """Return the circuit `name`; ``FatalError`` listing the circuits where there is none."""
        if name in self.circuits:
            return self.circuits[name]
        raise FatalError(
            f"circuit {name}", f"not in inventories/{self.name}", f"one of {', '.join(self.circuits)}", "check it"
        )

    def cluster(self, name: str) -> Cluster:
        """Return the cluster `name`; ``FatalError`` listing the clusters where there is none."""
        if name in self.clusters:
            return self.clusters[name]
        raise FatalError(
            f"cluster {name}", f"not in inventories/{self.name}", f"one of {', '.join(self.clusters)}", "check it"
        )

    def hosts_of(self, site: str | None = None, group: str | None = None) -> tuple[Host, ...]:
        """Return the hosts of a site, of a group, or of both at once, in the order of the inventory."""
        return tuple(
            host
            for host in self.hosts.values()
            if (site is None or host.site == site) and (group is None or group in host.groups)
        )

    def operations_host(self, site: str) -> Host:
        """Return the host from which operators of `site` work (the first where there are several)."""
        self.site(site)
        return self.hosts_of(site, "operations_host")[0]

    def routers(self, site: str) -> tuple[Host, ...]:
        """Return the border routers of `site`."""
        return self.hosts_of(site, "border_router")

    def registry(self, site: str) -> str | None:
        """Return ``host:port`` of the container registry of `site`, ``None`` where it has none."""
        hosts = self.hosts_of(site, "container_registry")
        return f"{hosts[0].name}:5000" if hosts else None

    def kafka_bootstrap(self, site: str) -> tuple[str, ...]:
        """Return ``host:port`` of the client listeners of the brokers of `site`."""
        return tuple(f"{host.name}:{KAFKA_PORT}" for host in self.hosts_of(site, "kafka_broker"))

    def attachment(self, host: str) -> Attachment:
        """Return how `host` is attached to its local network: interface, address with prefix length, gateway."""
        here = self.host(host)
        for network in self.networks.values():
            if network.site == here.site and here.address in network.prefix:
                address = IPv4Interface(f"{here.address}/{network.prefix.prefixlen}")
                return Attachment(network=network, interface="eth0", address=address, gateway=network.gateway)
        raise FatalError(f"host {host}", f"address {here.address}", f"in a network of {here.site}", "see networks.yml")

    def legs(self, host: str) -> tuple[Leg, ...]:
        """Return the circuits that end at router `host`, each with its near and far end."""
        ends = (circuit for circuit in self.circuits.values() if host in (circuit.a.host, circuit.b.host))
        return tuple(Leg(circuit, *circuit.end(host)) for circuit in ends)

    def clusters_of(self, site: str) -> tuple[Cluster, ...]:
        """Return the clusters at `site`."""
        return tuple(cluster for cluster in self.clusters.values() if cluster.site == site)

    def cluster_of(self, host: str) -> Cluster | None:
        """Return the cluster that `host` is a node of."""
        return next((cluster for cluster in self.clusters.values() if host in cluster.hosts), None)

    def addresses(self) -> dict[str, str]:
        """Return the address of every host by name: what /etc/hosts and CoreDNS know."""
        return {host.name: str(host.address) for host in self.hosts.values()}

    @property
    def parameters(self) -> dict[str, str]:
        """What the words in braces of contracts stand for."""
        return {"camera": self.camera.component, "instrument": self.camera.instrument}

    def prompt_capacity(self) -> int:
        """Return how many prompt processing workers the pools hold at once."""
        return sum(pool.prompt_workers * len(self.hosts_of(group=name)) for name, pool in self.pools.items())
