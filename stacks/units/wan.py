"""All border routers and circuits: applied first, by console at bootstrap, in band afterwards."""

import pulumi

from components.routers import WideAreaNetwork
from dpp.model.environment import Environment


def provision(environment: Environment) -> None:
    """Provision the wide-area network."""
    network = WideAreaNetwork(environment)
    pulumi.export("routers", network.routers)
    pulumi.export("circuits", sorted(environment.circuits))
