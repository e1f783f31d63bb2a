"""The workloads: their images in the registry of every site with a cluster, and the services that each cluster runs."""

import pulumi

from components.workloads import ClusterWorkloads, workload_images
from dpp.model.environment import Environment
from dpp.rendering.clusters import cluster_objects


def provision(environment: Environment) -> None:
    """Provision the workloads of all clusters that have any."""
    objects = {cluster: cluster_objects(environment, cluster) for cluster in environment.clusters.values()}
    clusters = [cluster for cluster, services in objects.items() if services]
    images = {site: workload_images(environment, site) for site in dict.fromkeys(cluster.site for cluster in clusters)}
    services = {c.name: ClusterWorkloads(environment, c, objects[c], images[c.site]).services for c in clusters}
    pulumi.export("images", {site: one.references for site, one in images.items()})
    pulumi.export("services", services)
