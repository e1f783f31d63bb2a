"""The commissioning cluster at the base; its images come from the base's registry, which unit chilean-itc filled."""

import pulumi

from components.sites import KubernetesCluster
from dpp.model.environment import Environment


def provision(environment: Environment) -> None:
    """Provision the commissioning cluster."""
    cluster = KubernetesCluster(environment, environment.cluster("commissioning"))
    pulumi.export("endpoint", cluster.endpoint)
