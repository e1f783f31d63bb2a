"""Hosts of one layer: their machines, then one convergence over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pulumi

from dpp.adapters.progress import Reporter
from dpp.build.base_image import BaseImage
from dpp.lab.machine_spec import recipe, volumes_of
from dpp.model.environment import Environment
from dpp.model.types import Host
from dpp.provider import kinds
from dpp.rendering.hosts import host_digests
from resources import Convergence, Machine


class HostLayer(pulumi.ComponentResource):
    """The hosts of one layer, standing and converged.

    Parameters
    ----------
    name
        Name of the layer: ``summit-operations``.
    environment, hosts
        The model and the hosts of the layer in it.
    depends_on
        What must be there before the hosts are converged.
    """

    def __init__(
        self,
        name: str,
        environment: Environment,
        hosts: Sequence[Host],
        depends_on: Iterable[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("dpp:hosts:HostLayer", name, None, opts)
        self.machines = {host.name: self._machine(environment, host) for host in hosts}
        digests = host_digests(environment.name)
        self.convergence = Convergence(
            name,
            kinds.Convergence(
                environment=environment.name,
                layer=name,
                digests={host: digests[host] for host in self.machines},
                machines={host: machine.identity for host, machine in self.machines.items()},
            ),
            pulumi.ResourceOptions(parent=self, depends_on=list(depends_on)),
        )
        self.addresses = {host.name: str(host.address) for host in hosts}
        self.register_outputs({"addresses": self.addresses})

    def _machine(self, environment: Environment, host: Host) -> Machine:
        attachment = environment.attachment(host.name)
        is_router = "border_router" in host.groups
        return Machine(
            host.name,
            kinds.Machine(
                environment=environment.name,
                host=host.name,
                site=host.site,
                network=attachment.network.name,
                address=str(attachment.address),
                gateway="" if is_router else str(attachment.gateway),
                functions=sorted(host.groups),
                operations=environment.operations_host(host.site) == host,
                image=BaseImage(Reporter()).reference if environment.made else "",
                volumes=list(volumes_of(tuple(host.groups))) if environment.made else [],
                recipe=recipe() if environment.made else "",
            ),
            pulumi.ResourceOptions(parent=self),
        )
