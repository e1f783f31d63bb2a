"""What a lab must leave as it was on its host, and what it must not leave behind."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

_RESTLESS = (
    "dentry-state", "file-nr", "inode-nr", "inode-state", "aio-nr", "ns_last_pid", "uuid", "boot_id", "entropy_avail",
    "pty/nr", "nf_conntrack_count", "nf_conntrack_expect", "sched_", "quota/", "tainted", "dmesg", "keys/", "/neigh/",
    "cad_pid", "overflow", "perf_", "usermodehelper", "seccomp", "epoll",
)  # fmt: skip
"""Sysctls that change by themselves."""


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def network() -> dict[str, Any]:
    """Addresses, links, routes, rules and packet filters of the host's own network namespace, counters left out."""
    links = [
        {key: link.get(key) for key in ("ifname", "flags", "mtu", "address", "operstate", "master", "link_type")}
        for link in json.loads(_output("ip", "-j", "link"))
    ]
    addresses = [
        (link["ifname"], entry["local"], entry["prefixlen"])
        for link in json.loads(_output("ip", "-j", "address"))
        for entry in link.get("addr_info", [])
    ]
    routes = [_output("ip", family, "route", "show", "table", "all") for family in ("-4", "-6")]
    return {
        "links": links,
        "addresses": addresses,
        "routes": routes,
        "rules": _output("ip", "rule"),
        "filters": _output("nft", "--stateless", "list", "ruleset"),
    }


def sysctls() -> dict[str, str]:
    found = {}
    for folder, _, names in os.walk("/proc/sys"):
        for name in names:
            path = Path(folder) / name
            if any(word in str(path) for word in _RESTLESS):
                continue
            try:
                found[str(path)] = path.read_text(errors="replace")
            except OSError:
                continue
    return found


def mounts() -> set[str]:
    """Return what is mounted, namespaces apart (`traces` names them) and what containers stand on that the storage knows.

    Others come and go meanwhile: roles' machines, images being built. The storage itself, which is mounted over itself when
    it is first used, is not the lab's doing either.
    """
    storage = Path(_output("podman", "info", "--format={{.Store.GraphRoot}}/{{.Store.GraphDriverName}}").strip())
    before = _layers(storage)
    targets = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    others = ["/run/netns", *before, *_layers(storage)]
    return {target for target in targets - {str(storage)} if not any(name in target for name in others)}


def _layers(storage: Path) -> set[str]:
    """Return containers, running or being built, and the layers that they write to."""
    found: set[str] = set()
    for file in storage.with_name(f"{storage.name}-containers").glob("*containers.json"):
        found |= {entry[key] for entry in json.loads(file.read_text()) for key in ("id", "layer")}
    return found


def configuration() -> dict[str, tuple[int, int]]:
    """Size and time of change of every file that configures the host."""
    found = {}
    for top in ("/etc", "/usr/local", "/var/spool/cron"):
        for folder, _, names in os.walk(top):
            for name in names:
                status = (Path(folder) / name).lstat()
                found[f"{folder}/{name}"] = (status.st_size, status.st_mtime_ns)
    return found


def control_groups() -> set[str]:
    """Return the groups at the top of every hierarchy: a machine must stay below its own."""
    return {str(path) for path in Path("/sys/fs/cgroup").glob("*/*") if path.is_dir()}


def traces(instance: str) -> list[str]:
    """Everything that carries the instance's name: containers, volumes, namespaces, processes, folders."""
    mark = f"dpp-{instance}-"
    found = [line for line in _output("podman", "ps", "-a", "--format={{.Names}}").split() if line.startswith(mark)]
    found += [line for line in _output("podman", "volume", "ls", "-q").split() if instance in line]
    found += [str(path) for path in Path("/run/netns").glob(f"{mark}*")]
    found += [target for target in mounts() if mark in target or f"/dpp/{instance}" in target]
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if mark.encode() in command:
            found.append(f"process {entry.name}: {command.replace(bytes(1), b' ').decode(errors='replace')}")
    home = Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local/state"))
    return found + [str(path) for path in (home / "dpp" / instance, Path("/run/dpp") / instance) if path.exists()]


def snapshot() -> dict[str, Any]:
    return {
        "network": network(),
        "sysctls": sysctls(),
        "mounts": mounts(),
        "configuration": configuration(),
        "control groups": control_groups(),
    }


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    found = []
    for part, value in before.items():
        now = after[part]
        if isinstance(value, dict):
            keys = value.keys() | now.keys()
            found += [
                f"{part} {key}: {value.get(key)!r} -> {now.get(key)!r}"
                for key in keys
                if value.get(key) != now.get(key)
            ]
        elif value != now:
            found.append(f"{part}: gone {sorted(value - now)}, new {sorted(now - value)}")
    return found
