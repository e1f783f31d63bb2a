"""CC-IN2P3 and every other designated site."""

from components.sites import site_unit
from dpp.model.environment import Environment

_OWN_UNITS = ("summit", "base", "ncsa")


def provision(environment: Environment) -> None:
    """Provision the satellite sites."""
    site_unit(environment, [site for site in environment.sites if site not in _OWN_UNITS], lambda _: True)
