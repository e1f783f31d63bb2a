"""Summit and base hosts, the summit cluster and, where declared, the base and Chilean DAC clusters."""

from components.sites import site_unit
from dpp.model.environment import Environment


def provision(environment: Environment) -> None:
    """Provision the Chilean sites, except storage and the commissioning cluster."""
    site_unit(environment, ["summit", "base"], lambda cluster: cluster.name != "commissioning")
