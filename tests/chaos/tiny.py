"""Bring a lab of a few machines up, as `dpp lab up` marks it, killed on the way: started by the lifecycle test."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from typing import Any

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


def _killed_before(program: int) -> type[subprocess.Popen[bytes]]:
    """Return what starts programs, and is killed in place of starting that one."""
    left = itertools.count(program - 1, -1)

    class Mortal(subprocess.Popen[bytes]):
        def __init__(self, command: Any, *arguments: Any, **options: Any) -> None:
            if next(left) <= 0:
                print(f"killed before {command}", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            super().__init__(command, *arguments, **options)

    return Mortal


def main() -> None:
    folders, environment = Folders.current(), Environment.load("lab")
    image = base_image()
    program, *hosts = sys.argv[1:]
    with session(folders.instance):
        write_access(folders, environment)
        subprocess.Popen = _killed_before(int(program))  # type: ignore[misc]
        for name in hosts:
            Machines(folders).ensure(specification(environment, name, image))


if __name__ == "__main__":
    main()
