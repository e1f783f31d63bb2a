"""The workloads: their images in the registry of every site with a cluster, and the services that each cluster runs."""

import pulumi

from components.workloads import ClusterWorkloads, has_workloads, workload_images
from dpp.model.environment import Environment


def provision(environment: Environment) -> None:
    """Provision the workloads of all clusters that have any."""
    clusters = [cluster for cluster in environment.clusters.values() if has_workloads(environment, cluster)]
    images = {site: workload_images(environment, site) for site in dict.fromkeys(cluster.site for cluster in clusters)}
    services = {c.name: ClusterWorkloads(environment, c, images[c.site]).services for c in clusters}
    pulumi.export("images", {site: one.references for site, one in images.items()})
    pulumi.export("services", services)
