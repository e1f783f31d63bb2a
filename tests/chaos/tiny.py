"""Bring a lab of a few machines up, as `dpp lab up` marks it, and stay: started by the lifecycle test, and killed."""

from __future__ import annotations

import os
import sys
import time

from dpp.adapters.progress import Reporter
from dpp.build.base_image import BaseImage
from dpp.lab.access import write_access
from dpp.lab.lifecycle import session
from dpp.lab.machine_spec import MachineSpec, volumes_of
from dpp.lab.machines import Machines
from dpp.model.environment import Environment
from dpp.model.folders import Folders


def base_image() -> str:
    """Return the image of machines; DPP_IMAGE names another than this checkout's."""
    return os.environ.get("DPP_IMAGE") or BaseImage(Reporter(quiet=True)).ensure()


def specification(environment: Environment, name: str, image: str) -> MachineSpec:
    host, place = environment.host(name), environment.attachment(name)
    return MachineSpec(
        host=name,
        site=host.site,
        network=place.network.name,
        address=str(place.address),
        gateway=str(place.gateway),
        image=image,
        urn=f"urn:test:{name}",
        operations="operations_host" in host.groups,
        volumes=volumes_of(host.groups),
    )


def main() -> None:
    folders, environment = Folders.current(), Environment.load("lab")
    image = base_image()
    with session(folders.instance):
        write_access(folders, environment)
        for name in sys.argv[1:]:
            Machines(folders).ensure(specification(environment, name, image))
            print(name, flush=True)
        time.sleep(600)


if __name__ == "__main__":
    main()
