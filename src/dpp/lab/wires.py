"""The lab's network below its routers: one namespace per machine, one for the wires, a bridge per network.

Nothing here touches the host's own network namespace: veth pairs are made inside the wires' namespace with their far
end directly in the machine's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpp.adapters.locks import exclusive
from dpp.adapters.process import Words, run
from dpp.model.folders import Folders

NAMESPACES = Path("/run/netns")
_MAX_INTERFACE = 15
_LOCK_SECONDS, _COMMAND_SECONDS = 300, 30


def namespace(instance: str, host: str) -> str:
    """Return the name that a machine's network namespace and container share."""
    return f"dpp-{instance}-{host.replace('.', '-')}"


def wires(instance: str) -> str:
    """Return the name of the namespace that holds an instance's bridges and circuits."""
    return f"dpp-{instance}-wires"


def interface(name: str) -> str:
    """Return `name` as an interface name of at most 15 characters, shortened by digest where it must be."""
    plain = name.replace(".", "-")
    if len(plain) <= _MAX_INTERFACE:
        return plain
    return f"{plain[:8]}-{hashlib.sha256(plain.encode()).hexdigest()[:6]}"


def hardware_address(name: str) -> str:
    """Return the hardware address of an interface: derived from its name, so that neighbours' caches survive a rebuild."""
    return "02:" + hashlib.sha256(name.encode()).digest()[:5].hex(":")


def lock(instance: str) -> AbstractContextManager[None]:
    """Hold an instance's wires alone, against other threads and processes."""
    path = Folders(instance).run / "wires.lock"
    return exclusive(path, subject=f"wires of {instance}", seconds=_LOCK_SECONDS)


def ip(*args: str) -> str:
    """Run iproute2's ``ip`` and return what it printed.

    Raises
    ------
    FatalError
        If it fails.
    """
    return _run(["ip", *args])


def batch(name: str, lines: Iterable[str]) -> None:
    """Run many lines of ``ip`` in one process inside the namespace `name`; errors as in `ip`."""
    text = "\n".join(lines)
    if text:
        _run(["ip", "-n", name, "-batch", "-"], text + "\n")


def links(name: str) -> dict[str, dict[str, Any]]:
    """Return the interfaces of a namespace by name, as ``ip -j -d`` describes them."""
    found: list[dict[str, Any]] = json.loads(ip("-n", name, "-json", "-details", "address", "show") or "[]")
    return {link["ifname"]: link for link in found if link}


def exists(name: str) -> bool:
    """Say whether a live network namespace of this name is mounted."""
    path = NAMESPACES / name
    return path.exists() and path.stat().st_dev != NAMESPACES.stat().st_dev


def ensure_namespace(name: str) -> None:
    """Make a network namespace with its loopback up, if it is not there."""
    if not exists(name):
        (NAMESPACES / name).unlink(missing_ok=True)
        ip("netns", "add", name)
    ip("-n", name, "link", "set", "lo", "up")


def ensure_wires(instance: str) -> str:
    """Make the wires' namespace, deaf to IPv6, and return its name."""
    name = wires(instance)
    if not exists(name):
        ensure_namespace(name)
        sysctl(name, {"net/ipv6/conf/all/disable_ipv6": "1", "net/ipv6/conf/default/disable_ipv6": "1"})
    return name


def sysctl(name: str, values: dict[str, str]) -> None:
    """Set network sysctls (paths below /proc/sys) of the namespace `name`, and of no other."""
    script = "".join(f"echo {value} > /proc/sys/{key}\n" for key, value in values.items())
    _run(["nsenter", f"--net={NAMESPACES / name}", "sh", "-e"], script)


@dataclass(frozen=True)
class Port:
    """A machine's place on its site's network.

    Parameters
    ----------
    network
        Name of the network, whose bridge the machine is plugged into.
    address
        The machine's address with prefix length.
    gateway
        Where its default route leads, or None for a router.
    mtu
        Bytes.
    """

    network: str
    address: str
    gateway: str | None = None
    mtu: int = 1500


def ensure_port(instance: str, host: str, port: Port) -> None:
    """Plug a machine into its network: bridge, veth pair, address of eth0, default route; made or mended as needed."""
    machine = namespace(instance, host)
    with lock(instance):
        wires_name = ensure_wires(instance)
        ensure_namespace(machine)
        batch(wires_name, _plug(links(wires_name), machine, interface(host), port, has_eth0="eth0" in links(machine)))
    lines = ["link set lo up", "link set eth0 up", f"address replace {port.address} dev eth0"]
    if port.gateway:
        lines.append(f"route replace default via {port.gateway} dev eth0")
    batch(machine, lines)


def _plug(present: dict[str, dict[str, Any]], machine: str, plug: str, port: Port, *, has_eth0: bool) -> list[str]:
    bridge = interface(port.network)
    lines = []
    if bridge not in present:
        lines.append(f"link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
    if plug in present and not has_eth0:
        lines.append(f"link delete {plug}")
    if not (plug in present and has_eth0):
        eth0 = f"eth0 address {hardware_address(machine)} mtu {port.mtu} netns {machine}"
        lines.append(f"link add {plug} mtu {port.mtu} type veth peer name {eth0}")
    return [*lines, f"link set {bridge} up", f"link set {plug} master {bridge} up"]


def is_plugged(instance: str, host: str, port: Port) -> bool:
    """Say whether a machine's eth0 is up with its address, on its network's bridge."""
    machine, wires_name = namespace(instance, host), wires(instance)
    if not (exists(machine) and exists(wires_name)):
        return False
    eth0 = links(machine).get("eth0", {})
    plug = links(wires_name).get(interface(host), {})
    addresses = {f"{entry['local']}/{entry['prefixlen']}" for entry in eth0.get("addr_info", [])}
    return port.address in addresses and "UP" in eth0.get("flags", []) and plug.get("master") == interface(port.network)


def remove_namespace(name: str) -> None:
    """Delete a network namespace with all interfaces in it, if it is there."""
    if (NAMESPACES / name).exists():
        ip("netns", "delete", name)


def remove_folder() -> None:
    """Take away the folder of named namespaces, a mount of iproute2's, when the last of them is gone."""
    if NAMESPACES.exists() and not any(NAMESPACES.iterdir()):
        run(["umount", "--quiet", NAMESPACES], timeout=_COMMAND_SECONDS, check=False)
        with suppress(OSError):  # somebody made one meanwhile
            NAMESPACES.rmdir()


def namespaces(instance: str) -> list[str]:
    """Return the names of all network namespaces of an instance."""
    if not NAMESPACES.exists():
        return []
    return sorted(path.name for path in NAMESPACES.iterdir() if path.name.startswith(f"dpp-{instance}-"))


def _run(command: Words, text: str | None = None) -> str:
    return run(command, timeout=_COMMAND_SECONDS, input=text, remedy=f"in: {text}" if text else "").stdout
