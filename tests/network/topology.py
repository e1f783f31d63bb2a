"""The observatory's routers and circuits alone: six machines, and a bare namespace where each site's operators sit."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from dpp.adapters.ansible import Play
from dpp.adapters.devices import DeviceConfigurations
from dpp.adapters.progress import Reporter
from dpp.adapters.vantage import Vantage
from dpp.build.base_image import BaseImage
from dpp.build.tools import tool
from dpp.build.tools.build import Builder
from dpp.lab import wires
from dpp.lab.access import write_access
from dpp.lab.links import Links
from dpp.lab.machine_spec import MachineSpec
from dpp.lab.machines import Machines
from dpp.model.environment import Environment
from dpp.model.folders import Folders

URN = "urn:dpp:network"
_HUNG_SECONDS = 600.0
PLAYBOOK = Path(__file__).with_name("routers.yml")


class Topology:
    """The wide-area network of an instance of its own."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders
        self.environment = Environment.load("lab")
        self.machines = Machines(folders)
        self.links = Links(folders, self.environment)
        self.devices = DeviceConfigurations(self.environment, folders)
        self.console = DeviceConfigurations(self.environment, folders, console=True)
        self.routers = [host.name for host in self.environment.hosts_of(group="border_router")]

    def up(self) -> None:
        reporter = Reporter(quiet=True)
        Builder(reporter, keep_caches=True).build([tool("delayline")])
        image = os.environ.get("DPP_IMAGE") or BaseImage(reporter).ensure()
        for name in self.routers:
            place = self.environment.attachment(name)
            site = self.environment.host(name).site
            self.machines.ensure(MachineSpec(name, site, place.network.name, str(place.address), None, image, URN))
        for site in self.environment.sites:
            self._operators(site)
        for circuit in self.environment.circuits:
            self.links.ensure(circuit, URN)
        write_access(self.folders, self.environment)
        Play("lab", self.folders).run(self.routers, console=True, playbook=str(PLAYBOOK))
        for host in self.routers:
            self.console.apply(host)

    def down(self) -> None:
        Links.remove_all(self.folders)
        for state in self.machines.all():
            self.machines.remove(state.host, URN)
        for name in wires.namespaces(self.folders.instance):
            wires.remove_namespace(name)
        shutil.rmtree(self.folders.state, ignore_errors=True)
        shutil.rmtree(self.folders.run, ignore_errors=True)

    def settle(self) -> None:
        """Bring every router to its intended configuration and wait until all sessions are up."""
        for host in self.routers:
            if self.console.diff(host):
                self.console.apply(host)
        wait(lambda: not self.down_sessions(), lambda: f"sessions down: {self.down_sessions()}")

    def down_sessions(self) -> list[str]:
        return [f"{host} to {peer}" for host in self.routers for peer, up in self.sessions(host).items() if not up]

    def sessions(self, host: str) -> dict[str, bool]:
        return self.console._driver(host).sessions()

    def shell(self, host: str, *command: str) -> str:
        """Run a command on a router by its console (never where routing, autonomy or rollback is judged)."""
        return self.machines.podman.execute(self.machines.name(host), command)

    def vtysh(self, host: str, *commands: str) -> str:
        return self.shell(host, "vtysh", *(word for command in commands for word in ("-c", command)))

    def vantage(self, site: str) -> Vantage:
        return Vantage.at(site, "lab", self.folders)

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


def wait(condition: Callable[[], bool], otherwise: Callable[[], str]) -> float:
    """Wait until the condition holds and return how long that took; what takes ten times the usual hangs."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < _HUNG_SECONDS, otherwise()
        time.sleep(0.2)
    return time.monotonic() - start
