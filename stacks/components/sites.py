"""A site's hosts by layer, and the cluster on top of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pulumi

from components.hosts import HostLayer
from dpp.build.platform_images import RECIPES
from dpp.model.environment import Environment
from dpp.model.types import Cluster, Host
from dpp.provider import kinds
from resources import PlatformImages

CLUSTER_GROUPS = frozenset({"kubernetes_control_plane", "kubernetes_node"})
OWN_UNIT = frozenset({"border_router", "summit_storage"})
"""Groups whose hosts belong to a unit of their own, or to a cluster's layer."""


def service_hosts(environment: Environment, site: str) -> tuple[Host, ...]:
    """Return the hosts of a site that are neither routers, nor nodes of a cluster, nor summit storage."""
    apart = CLUSTER_GROUPS | OWN_UNIT
    return tuple(host for host in environment.hosts_of(site) if apart.isdisjoint(host.groups))


class Site(pulumi.ComponentResource):
    """The operations and service hosts of a site: operators' tools, registry, Kafka, databases, object store.

    Parameters
    ----------
    environment, site
        The model and the site's name.
    """

    def __init__(self, environment: Environment, site: str) -> None:
        super().__init__("dpp:sites:Site", site)
        self.services = HostLayer(
            f"{site}-services", environment, service_hosts(environment, site), opts=pulumi.ResourceOptions(parent=self)
        )
        self.images: list[pulumi.Resource] = []
        if registry := environment.registry(site):
            self.images = [
                PlatformImages(
                    f"{site}-platform",
                    kinds.PlatformImages(
                        environment=environment.name, site=site, registry=registry, recipes=platform_recipes()
                    ),
                    pulumi.ResourceOptions(parent=self, depends_on=[self.services.convergence]),
                )
            ]
        self.register_outputs({"addresses": self.services.addresses})


class KubernetesCluster(pulumi.ComponentResource):
    """A cluster: its nodes' machines, converged by kubeadm.

    Parameters
    ----------
    environment, cluster
        The model and the cluster in it.
    depends_on
        What must stand before, such as the registry's images.
    """

    def __init__(self, environment: Environment, cluster: Cluster, depends_on: Sequence[pulumi.Resource] = ()) -> None:
        super().__init__("dpp:clusters:KubernetesCluster", cluster.name)
        hosts = [environment.host(name) for name in cluster.hosts]
        HostLayer(f"{cluster.name}-cluster", environment, hosts, depends_on, pulumi.ResourceOptions(parent=self))
        self.endpoint = f"https://{cluster.endpoint}:6443"
        self.register_outputs({"endpoint": self.endpoint})


def platform_recipes() -> dict[str, str]:
    """Return the digest of the recipe of every platform image."""
    return {recipe.name: recipe.digest for recipe in RECIPES}


def site_unit(environment: Environment, sites: Sequence[str], clusters: Callable[[Cluster], bool]) -> None:
    """Provision sites with those of their clusters that `clusters` admits, and export the clusters' endpoints."""
    endpoints = {}
    for name in sites:
        site = Site(environment, name)
        for cluster in filter(clusters, environment.clusters_of(name)):
            endpoints[cluster.name] = KubernetesCluster(environment, cluster, site.images).endpoint
    pulumi.export("endpoints", endpoints)
