"""How people, Ansible and the tool itself reach the lab's hosts: in band, through the operations host of their site.

The ssh configuration works for plain ``ssh``, ``scp`` and ``ansible-playbook``: its proxy enters the network namespace of
the site's operations host and nothing else of it. The console (podman) serves bootstrap only.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import yaml

from dpp.adapters.podman import Podman
from dpp.adapters.process import CommandFailedError, run
from dpp.adapters.secrets import Secrets
from dpp.lab import wires
from dpp.model.environment import Environment
from dpp.model.errors import FatalError, RetriableError
from dpp.model.folders import Folders
from dpp.model.types import Cluster

USER = "operator"
_FORWARD_SECONDS = 60
_CONFIGURED = "/etc/ssh/dpp_user_authority.pub"
"""Stands on a host once its base system trusts our users."""
_RELAY = "exec 3<>/dev/tcp/$0/$1 4<&0 && { cat <&4 >&3 & exec cat <&3; }"
"""Joins standard input and output with a TCP connection, in bash alone."""


def write_access(folders: Folders, environment: Environment) -> None:
    """Write hosts file, known hosts and ssh configuration of a lab; elsewhere operators sit on the network already."""
    if not environment.made:
        return
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
    # Convergences of one process run side by side in threads: the process alone does not tell their drafts apart.
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    fresh.write_text(text)
    fresh.rename(path)


def console_needed(folders: Folders, environment: Environment, hosts: Sequence[str]) -> bool:
    """Say whether `hosts` can only be reached by their console: one was never configured, or its site has no way in yet."""
    if not environment.made:
        return False
    sites = {environment.host(host).site for host in hosts}
    if not all((folders.run / "vantages" / site).exists() for site in sites):
        return True
    return not all(_configured(wires.namespace(folders.instance, host)) for host in hosts)


def _configured(container: str) -> bool:
    try:
        Podman().execute(container, ["test", "-e", _CONFIGURED])
    except CommandFailedError as error:
        if error.code == 1:
            return False
        raise
    return True


def forward(folders: Folders, host: str, port: int) -> int:
    """Return a port on 127.0.0.1 that leads to a port of a host, in band; a way that is open already is used again.

    Raises
    ------
    RetriableError
        If the host's operations host cannot be entered.
    """
    record = folders.run / "forwards" / f"{host}-{port}"
    if record.exists() and _listens(int(record.read_text())):
        return int(record.read_text())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        local = int(probe.getsockname()[1])
    options = ["-o", "ExitOnForwardFailure=yes", "-o", "ControlPath=none", "-o", "ControlMaster=no"]
    words = ["ssh", "-F", str(folders.ssh_config), *options, "-f", "-N", "-L", f"127.0.0.1:{local}:{host}:{port}", host]
    done = run(words, timeout=_FORWARD_SECONDS, check=False)
    if done.code != 0:
        raise RetriableError(f"way to {host}:{port}", done.said, "a host that answers", "see dpp lab status")
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(str(local))
    return local


def local_kubeconfig(folders: Folders, cluster: Cluster) -> Path:
    """Return a kubeconfig that works on this machine: the administrator's, through a way on 127.0.0.1.

    Raises
    ------
    FatalError
        If the cluster has not been made.
    """
    path = folders.state / "kubeconfig" / cluster.name
    if not path.exists():
        raise FatalError(f"cluster {cluster.name}", f"no {path}", "a cluster that stands", "run dpp lab up")
    config = yaml.safe_load(path.read_text())
    local = forward(folders, cluster.endpoint, 6443)
    for entry in config["clusters"]:
        entry["cluster"] |= {"server": f"https://127.0.0.1:{local}", "tls-server-name": cluster.endpoint}
    target = path.with_name(f"{cluster.name}-local")
    _write(target, yaml.safe_dump(config))
    target.chmod(0o600)
    return target


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
