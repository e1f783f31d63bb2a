"""The standing lab's clusters: ready, closed to whom no policy names, back after a restart, quiet when nothing is to do."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpp.adapters.kubernetes import Cluster
from dpp.adapters.podman import Podman
from dpp.adapters.registry import Registry
from dpp.lab import wires
from dpp.model.environment import Environment
from lab.observatory import Observatory

CLUSTERS = sorted(Environment.load("lab").clusters)
OWNER = "urn:test:probes"
IDLE_SECONDS = 120
IDLE_CORES = 0.6


class Cli:
    """kubectl, as an operator at the cluster's site uses it."""

    def __init__(self, observatory: Observatory, cluster: str) -> None:
        self._observatory = observatory
        self.cluster, self.folders = observatory.environment.cluster(cluster), observatory.folders

    def __call__(self, *args: str) -> subprocess.CompletedProcess[str]:
        return self._observatory.kubectl(self.cluster.name, *args)

    def container(self) -> str:
        """Return the name of the container that is the cluster's machine."""
        return wires.namespace(self.folders.instance, self.cluster.endpoint)


@pytest.fixture(scope="module", params=CLUSTERS)
def cli(request: pytest.FixtureRequest, observatory: Observatory) -> Cli:
    return Cli(observatory, request.param)


def _image(cli: Cli) -> str:
    registry = Registry.at(cli.cluster.site, "lab", cli.folders)
    digest = registry.digest("dpp/probe", "1")
    assert digest, f"{registry.address} has no dpp/probe:1"
    return registry.reference("dpp/probe", digest)


def _deployment(name: str, image: str, command: list[str]) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": image,
        "command": command,
        "resources": {"limits": {"memory": "32Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "workloads"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


def _policy(name: str, rules: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "workloads"},
        "spec": {"podSelector": {"matchLabels": {"app": name}}, **rules},
    }


@pytest.fixture(scope="module")
def probes(cli: Cli) -> Iterator[Cli]:
    """Run a server that admits one client, that client, and another whose own policy would let it go there too.

    Each has a port on the registry's host that the other has not.
    """
    image = _image(cli)
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "probe-server", "namespace": "workloads"},
        "spec": {"selector": {"app": "probe-server"}, "ports": [{"port": 8080}]},
    }
    server = {"to": [{"podSelector": {"matchLabels": {"app": "probe-server"}}}], "ports": [{"port": 8080}]}
    registry, secure_shell = (
        {"to": [{"ipBlock": {"cidr": "10.80.0.0/13"}}], "ports": [{"port": n}]} for n in (5000, 22)
    )
    friend = {"from": [{"podSelector": {"matchLabels": {"app": "probe-friend"}}}], "ports": [{"port": 8080}]}
    objects = [
        service,
        _deployment("probe-server", image, ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/bin"]),
        _deployment("probe-friend", image, ["/bin/sleep", "infinity"]),
        _deployment("probe-stranger", image, ["/bin/sleep", "infinity"]),
        _policy("probe-server", {"policyTypes": ["Ingress"], "ingress": [friend]}),
        _policy("probe-friend", {"policyTypes": ["Egress"], "egress": [server, registry]}),
        _policy("probe-stranger", {"policyTypes": ["Egress"], "egress": [server, secure_shell]}),
    ]
    cluster = Cluster(cli.cluster.name, "lab", cli.folders)
    try:
        cluster.apply(objects, OWNER, timeout=600)
        yield cli
    finally:
        cluster.delete(OWNER)


CONNECTED, SHUT_OUT = "connected", "timed out"


def _try(cli: Cli, who: str, host: str, port: int) -> str:
    """Return how a pod's attempt to connect ended; a policy says nothing to who is shut out."""
    script = f"nc -w 3 {host} {port} < /dev/null 2>&1 && echo {CONNECTED}; true"
    done = cli("exec", "--namespace=workloads", f"deployment/{who}", "--", "sh", "-c", script)
    if done.returncode:
        return f"not tried: {done.stderr}"
    return next((word for word in (CONNECTED, SHUT_OUT) if word in done.stdout), done.stdout)


def test_nodes_and_platform_are_ready(cli: Cli):
    done = cli("wait", "--for=condition=Ready", "node", "--all", "--timeout=170s")
    assert done.returncode == 0, done.stderr
    done = cli("wait", "--namespace=kube-system", "--for=condition=Ready", "pod", "--all", "--timeout=170s")
    assert done.returncode == 0, done.stderr


def test_metrics_are_served(cli: Cli):
    done = cli("top", "nodes", "--no-headers")
    assert done.stdout.split()[0] == cli.cluster.endpoint, done.stderr


@pytest.mark.parametrize(
    ("host", "port", "admitted", "shut_out"),
    [
        ("probe-server", 8080, "probe-friend", "probe-stranger"),
        ("REGISTRY", 5000, "probe-friend", "probe-stranger"),
        ("REGISTRY", 22, "probe-stranger", "probe-friend"),
    ],
)
def test_policies_decide_who_reaches_whom(probes: Cli, host: str, port: int, admitted: str, shut_out: str):
    target = host.replace("REGISTRY", f"svc01.{probes.cluster.site}")
    found = {who: _try(probes, who, target, port) for who in (admitted, shut_out)}
    assert found == {admitted: CONNECTED, shut_out: SHUT_OUT}


@pytest.mark.slow  # all machines at once: test_reboot.py
def test_a_restarted_machine_brings_its_cluster_back(probes: Cli):
    before = Podman().inspect(probes.container())
    Podman(timeout=120).run("restart", "--time=60", probes.container())
    after = Podman().inspect(probes.container())
    assert before
    assert after
    assert after["State"]["StartedAt"] != before["State"]["StartedAt"]
    deadline = time.monotonic() + 300
    while probes("get", "--raw=/readyz").stdout != "ok":
        assert time.monotonic() < deadline, "the API server did not come back"
        time.sleep(1)
    while Cluster(probes.cluster.name, "lab", probes.folders).unready(OWNER):
        assert time.monotonic() < deadline, "the workloads did not come back"
        time.sleep(1)
    while (found := _try(probes, "probe-friend", "probe-server", 8080)) != CONNECTED:
        assert time.monotonic() < deadline, f"the network did not come back: {found}"
        time.sleep(1)
    assert _try(probes, "probe-stranger", "probe-server", 8080) == SHUT_OUT


def _cpu_seconds(container: str) -> float:
    """Return the CPU time that a machine has used, from its control group."""
    found = Podman().inspect(container)
    assert found, container
    for line in Path(f"/proc/{found['State']['Pid']}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own = path.removesuffix("/init.scope")
        if "cpuacct" in controllers.split(","):
            return int(Path(f"/sys/fs/cgroup/cpuacct{own}/cpuacct.usage").read_text()) / 1e9
        if not controllers and Path("/sys/fs/cgroup/cgroup.controllers").exists():
            rows = dict(row.split() for row in Path(f"/sys/fs/cgroup{own}/cpu.stat").read_text().splitlines())
            return int(rows["usage_usec"]) / 1e6
    raise AssertionError(f"{container} has no control group that counts CPU time")


def _said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def idle(observatory: Observatory) -> Iterator[list[str]]:
    """Take the workloads away for a while; yield the containers of the clusters' machines."""
    tools = [Cli(observatory, name) for name in CLUSTERS]
    words = "jsonpath={range .items[*]}{.metadata.name}={.spec.replicas} {end}"
    replicas = [_said(cli("get", "deployments", "--namespace=workloads", "--output", words)) for cli in tools]
    try:
        for cli in tools:
            _said(cli("scale", "deployment", "--all", "--namespace=workloads", "--replicas=0"))
            _said(cli("wait", "--namespace=workloads", "--for=delete", "pod", "--all", "--timeout=170s"))
        yield [cli.container() for cli in tools]
    finally:
        for cli, listed in zip(tools, replicas, strict=True):
            for name, count in (pair.split("=") for pair in listed.split()):
                cli("scale", f"deployment/{name}", "--namespace=workloads", f"--replicas={count}")


@pytest.mark.slow
def test_idle_clusters_take_less_than_sixty_percent_of_one_core(idle: list[str]):
    time.sleep(30)  # what was taken away has been seen to by then
    before = {name: _cpu_seconds(name) for name in idle}
    time.sleep(IDLE_SECONDS)
    used = {name: (_cpu_seconds(name) - before[name]) / IDLE_SECONDS for name in idle}
    assert sum(used.values()) <= IDLE_CORES, used
