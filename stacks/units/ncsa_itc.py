"""NCSA's hosts: archive, US data access centre, and the clusters there."""

from components.sites import site_unit
from dpp.model.environment import Environment


def provision(environment: Environment) -> None:
    """Provision NCSA."""
    site_unit(environment, ["ncsa"], lambda _: True)
