"""How people, Ansible and the tool itself reach the lab's hosts: in band, through the operations host of their site.

The ssh configuration works for plain ``ssh``, ``scp`` and ``ansible-playbook``: its proxy enters the network namespace of
the site's operations host and nothing else of it. The console (podman) serves bootstrap only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dpp.adapters.podman import Podman, PodmanError
from dpp.adapters.secrets import Secrets
from dpp.lab import wires
from dpp.model.environment import Environment
from dpp.model.folders import Folders

USER = "operator"
_CONFIGURED = "/etc/ssh/dpp_user_authority.pub"
"""Stands on a host once its base system trusts our users."""
_RELAY = "exec 3<>/dev/tcp/$0/$1 4<&0 && { cat <&4 >&3 & exec cat <&3; }"
"""Joins standard input and output with a TCP connection, in bash alone."""


def write_access(folders: Folders, environment: Environment) -> None:
    """Write hosts file, known hosts and ssh configuration of an instance; nothing where they are right already."""
    secrets = Secrets(folders.secrets)
    addresses = "".join(f"{address} {name}\n" for name, address in environment.addresses().items())
    _write(folders.state / "hosts", f"127.0.0.1 localhost\n::1 localhost\n{addresses}")
    _write(folders.state / "known_hosts", f"@cert-authority * {secrets.ssh_authority().public.strip()}\n")
    identity = secrets.ssh_user_certificate(USER)
    _write(folders.ssh_config, _ssh_config(folders, environment, identity.path))


def _ssh_config(folders: Folders, environment: Environment, identity: Path) -> str:
    lines = ["# Written by dpp; later changes are lost."]
    for host in environment.hosts.values():
        namespace = folders.run / "vantages" / host.site
        lines += [
            f"Host {host.name} {host.address}",
            f"  HostName {host.address}",
            f"  HostKeyAlias {host.name}",
            f"  ProxyCommand nsenter --net={namespace} -- bash -c '{_RELAY}' %h %p",
        ]
    return "\n".join(
        [
            *lines,
            "Host *",
            f"  User {USER}",
            f"  IdentityFile {identity}",
            f"  CertificateFile {identity}-cert.pub",
            "  IdentitiesOnly yes",
            f"  UserKnownHostsFile {folders.state / 'known_hosts'}",
            "  StrictHostKeyChecking yes",
            "  ConnectTimeout 10",
            f"  ControlPath {folders.run}/ssh-%C",
            "",
        ]
    )


def _write(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.rename(path)


def console_needed(folders: Folders, environment: Environment, hosts: Sequence[str]) -> bool:
    """Say whether `hosts` can only be reached by their console: one was never configured, or its site has no way in yet."""
    if environment.name != "lab":
        return False
    sites = {environment.host(host).site for host in hosts}
    if not all((folders.run / "vantages" / site).exists() for site in sites):
        return True
    return not all(_configured(wires.namespace(folders.instance, host)) for host in hosts)


def _configured(container: str) -> bool:
    try:
        Podman().execute(container, ["test", "-e", _CONFIGURED])
    except PodmanError as error:
        if error.code == 1:
            return False
        raise
    return True
