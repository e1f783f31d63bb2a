"""The observatory's routers and circuits alone: six machines, and a bare namespace where each site's operators sit."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dpp.adapters.ansible import Play
from dpp.lab import wires
from dpp.lab.access import write_access
from dpp.lab.image import BaseImage
from dpp.lab.links import Links
from dpp.lab.machines import Machines, MachineSpec
from dpp.lab.progress import Reporter
from dpp.model.environment import Environment
from dpp.model.folders import Folders

URN = "urn:dpp:network"
PLAYBOOK = Path(__file__).with_name("routers.yml")


class Topology:
    """The wide-area network of an instance of its own."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders
        self.environment = Environment.load("lab")
        self.machines = Machines(folders)
        self.links = Links(folders, self.environment)
        self.routers = [host.name for host in self.environment.hosts_of(group="border_router")]

    def up(self) -> None:
        image = os.environ.get("DPP_IMAGE") or BaseImage(Reporter(quiet=True)).ensure()
        for name in self.routers:
            place = self.environment.attachment(name)
            site = self.environment.host(name).site
            spec = MachineSpec(name, site, place.network.name, str(place.address), None, image, URN)
            self.machines.ensure(spec)
        for site in self.environment.sites:
            self._operators(site)
        for circuit in self.environment.circuits:
            self.links.ensure(circuit, URN)
        write_access(self.folders, self.environment)
        Play("lab", self.folders).run(self.routers, console=True, playbook=str(PLAYBOOK))

    def down(self) -> None:
        Links.remove_all(self.folders)
        for state in self.machines.all():
            self.machines.remove(state.host, URN)
        for name in wires.namespaces(self.folders.instance):
            wires.remove_namespace(name)
        shutil.rmtree(self.folders.state, ignore_errors=True)
        shutil.rmtree(self.folders.run, ignore_errors=True)

    def operations(self, site: str) -> str:
        """Return the namespace where the operators of a site sit."""
        return wires.namespace(self.folders.instance, self.environment.operations_host(site).name)

    def _operators(self, site: str) -> None:
        host = self.environment.operations_host(site).name
        place = self.environment.attachment(host)
        port = wires.Port(place.network.name, str(place.address), str(place.gateway))
        wires.ensure_port(self.folders.instance, host, port)
        link = self.folders.run / "vantages" / site
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(wires.NAMESPACES / self.operations(site))
