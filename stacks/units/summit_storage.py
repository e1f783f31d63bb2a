"""The summit's storage hosts and their service: what keeps observing possible while the fiber is cut."""

import pulumi

from components.hosts import HostLayer
from dpp.model.environment import Environment


def provision(environment: Environment) -> None:
    """Provision the summit storage."""
    hosts = environment.hosts_of(group="summit_storage")
    HostLayer("summit-storage", environment, hosts)
    storage = environment.storage["summit"]
    pulumi.export("endpoint", storage.endpoint)
    pulumi.export("capacity_nights", storage.nights)
