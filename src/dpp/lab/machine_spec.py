"""What a machine of the lab is to be, and what it is."""

from __future__ import annotations

import hashlib
import json
import resource
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dpp.lab import wires

READY = ("running", "degraded")
"""States of systemd in which a machine can be worked with; degraded means that some unit failed."""

VOLUMES: Mapping[str, tuple[str, ...]] = {
    "container_runtime": ("/var/lib/containerd", "/var/lib/dpp"),
    "kubernetes_control_plane": ("/var/lib/etcd", "/var/lib/kubelet"),
    "kubernetes_node": ("/var/lib/kubelet",),
    "container_registry": ("/var/lib/docker-registry",),
    "kafka_broker": ("/var/lib/kafka",),
    "postgresql": ("/var/lib/postgresql",),
    "object_store": ("/srv",),
    "summit_storage": ("/srv",),
}
"""By function, the folders whose content outlives a machine's container, on the host's own file system."""

INIT = Path(__file__).with_name("machine_init.sh")
"""Runs in a machine before its systemd."""
_CAPABILITIES = ("--cap-add=ALL", "--cap-drop=SYS_TIME", "--cap-drop=SYS_MODULE", "--cap-drop=SYS_BOOT")
FLAGS = (
    *_CAPABILITIES,
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--device-cgroup-rule=a *:* rwm",
    "--device=/dev/fuse",
    "--device=/dev/net/tun",
    "--device=/dev/kmsg",
    "--cgroupns=private",
    "--systemd=always",
    "--no-hosts",
    "--dns=none",
    "--pids-limit=-1",
    "--shm-size=256m",
    "--stop-timeout=60",
    "--log-driver=k8s-file",
    "--log-opt=max-size=1mb",
)
"""How podman is to run a machine, beside what is its own."""
_FILES, _PROCESSES = 1048576, 32768


def recipe() -> str:
    """Return the digest of how machines are run, beside what is each one's own."""
    return hashlib.sha256(json.dumps([FLAGS, INIT.read_text()]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class MachineSpec:
    """What a machine is to be.

    Parameters
    ----------
    host
        Inventory name, ``<function><number>.<site>``.
    site
        The site that it stands at.
    network, address, gateway
        Its place on the site's network: name, address with prefix length, default gateway (none for a router).
    image
        The base image, by a tag that changes with its content.
    urn
        The resource that owns the machine.
    operations
        Whether it is the site's operations host, where in-band connections start.
    volumes
        Folders that outlive its container.
    recipe
        Digest of how it is run.
    """

    host: str
    site: str
    network: str
    address: str
    gateway: str | None
    image: str
    urn: str
    operations: bool = False
    volumes: tuple[str, ...] = ()
    recipe: str = field(default_factory=recipe)

    @property
    def port(self) -> wires.Port:
        """The machine's place on the network."""
        return wires.Port(self.network, self.address, self.gateway)

    @property
    def digest(self) -> str:
        """Digest of all that a container cannot change while it exists."""
        fixed = {
            key: value for key, value in asdict(self).items() if key not in {"urn", "gateway", "network", "operations"}
        }
        return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class MachineState:
    """What a machine is.

    Parameters
    ----------
    host, name
        Inventory name; name of its container and network namespace.
    urn
        The resource that owns it.
    container
        Identity of its container: another one begins anew, but for its volumes.
    digest
        Digest of the specification that it was made from.
    system
        State of its systemd, ``running`` at best; ``off`` when the container does not run.
    plugged
        Whether its eth0 is up on its network.
    started
        When its container was started last, ISO 8601.
    """

    host: str
    name: str
    urn: str
    container: str
    digest: str
    system: str
    plugged: bool
    started: str
    spec: MachineSpec


def volumes_of(functions: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Return the folders that outlive the container of a host with these functions."""
    return tuple(sorted({folder for function in functions for folder in VOLUMES.get(function, ())}))


def limits() -> list[str]:
    """Return the flags of the limits on open files and processes, no higher than this process may set."""
    flags = []
    for word, kind, wanted in (
        ("nofile", resource.RLIMIT_NOFILE, _FILES),
        ("nproc", resource.RLIMIT_NPROC, _PROCESSES),
    ):
        hard = resource.getrlimit(kind)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        flags.append(f"--ulimit={word}={value}:{value}")
    return flags
