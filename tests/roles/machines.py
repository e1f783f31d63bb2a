"""Create and destroy the machines of a role's scenario: the same machines as the lab's, under an instance of their own."""

from __future__ import annotations

import os
import shutil
import sys

from dpp.adapters.progress import Reporter
from dpp.build.base_image import BaseImage
from dpp.lab import wires
from dpp.lab.machine_spec import VOLUMES, MachineSpec, volumes_of
from dpp.lab.machines import Machines
from dpp.model.environment import Environment
from dpp.model.folders import Folders

URN = "urn:dpp:scenario"


def create(hosts: list[str]) -> None:
    environment = Environment.load("lab")
    image = os.environ.get("DPP_IMAGE") or BaseImage(Reporter(quiet=True)).ensure()
    machines = Machines(Folders.current())
    for name in hosts:
        host, place = environment.host(name), environment.attachment(name)
        machines.ensure(
            MachineSpec(
                host=name,
                site=host.site,
                network=place.network.name,
                address=str(place.address),
                gateway=None,
                image=image,
                urn=URN,
                operations="operations_host" in host.groups,
                volumes=volumes_of(tuple(VOLUMES)),  # a scenario may give a machine other functions than the lab does
            )
        )
        print("created", name)


def destroy() -> None:
    folders = Folders.current()
    machines = Machines(folders)
    for state in machines.all():
        machines.remove(state.host, URN)
        print("removed", state.host)
    for name in wires.namespaces(folders.instance):
        wires.remove_namespace(name)
    shutil.rmtree(folders.state, ignore_errors=True)
    shutil.rmtree(folders.run, ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1] == "create":
        create(" ".join(sys.argv[2:]).split())
    else:
        destroy()
