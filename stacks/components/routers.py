"""The border routers of the whole observatory and the circuits between them."""

from __future__ import annotations

import pulumi

from components.hosts import HostLayer
from dpp.adapters.devices import router_text
from dpp.model.environment import Environment
from dpp.provider import kinds
from resources import DeviceConfiguration, Link


class WideAreaNetwork(pulumi.ComponentResource):
    """Routers converged, circuits drawn (where they are made), and each router's whole configuration.

    Parameters
    ----------
    environment
        The model.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__("dpp:network:WideAreaNetwork", "wide-area-network")
        here = pulumi.ResourceOptions(parent=self)
        routers = environment.hosts_of(group="border_router")
        layer = HostLayer("border-routers", environment, routers, opts=here)
        links = self._links(environment, layer) if environment.made else []
        for router in routers:
            DeviceConfiguration(
                router.name,
                kinds.DeviceConfiguration(
                    environment=environment.name,
                    host=router.name,
                    configuration=router_text(environment, router.name),
                    machine=layer.machines[router.name].identity,
                ),
                pulumi.ResourceOptions.merge(here, pulumi.ResourceOptions(depends_on=[layer.convergence, *links])),
            )
        self.routers = layer.addresses
        self.register_outputs({"routers": self.routers})

    def _links(self, environment: Environment, layer: HostLayer) -> list[Link]:
        return [
            Link(
                circuit.name,
                kinds.Link(
                    environment=environment.name,
                    circuit=circuit.name,
                    rate_mbps=circuit.rate_mbps * environment.circuit_scale,
                    delay_ms=circuit.delay_ms,
                    loss_percent=circuit.loss_percent,
                    ends={
                        end.host: {"interface": end.interface, "machine": layer.machines[end.host].identity}
                        for end in (circuit.a, circuit.b)
                    },
                ),
                pulumi.ResourceOptions(
                    parent=self, depends_on=[layer.machines[circuit.a.host], layer.machines[circuit.b.host]]
                ),
            )
            for circuit in environment.circuits.values()
        ]
