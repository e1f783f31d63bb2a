"""The contracts against the real systems: every cell of principal x resource is as they say, allowed or refused."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from dpp.adapters.kubernetes import Cluster
from dpp.adapters.registry import Registry
from dpp.adapters.secrets import Secrets
from dpp.adapters.vantage import Vantage
from dpp.model import rights
from dpp.model.environment import Environment
from dpp.model.principals import Principals
from dpp.rendering.contracts import SERVICE
from lab.cells import Cell, cells, topics_of_groups, wrong
from lab.observatory import Observatory

OWNER = "urn:test:contracts"
CONNECTED, TIMED_OUT = "connected", "timed out"
MATRIX = cells(Principals.load(Environment.load("lab")))
PLACES = sorted({(cell.system, cell.site) for cell in MATRIX})
CLUSTERS = ("ncsa", "summit")


@pytest.fixture(scope="module")
def principals() -> Principals:
    return Principals.load(Environment.load("lab"))


def _password(secrets: Secrets, principals: Principals, cell: Cell) -> str:
    """Return the password of a principal for a system; nothing where it has none there, so that none is made."""
    users = {
        "kafka": (rights.kafka_users(principals, cell.site), rights.kafka_secret(cell.principal)),
        "store": (rights.store_users(principals, cell.site), rights.store_secret(cell.site, cell.principal)),
        "database": (
            rights.database_users(rights.databases_on(principals, principals.database_host(cell.thing)))
            if cell.system == "database"
            else (),
            rights.database_secret(cell.principal),
        ),
    }
    known, secret = users[cell.system]
    return secrets.password(secret) if cell.principal in known else ""


def _system(principals: Principals, place: tuple[str, str], authority: Path) -> dict[str, Any]:
    system, site = place
    environment = principals.environment
    address = {
        "kafka": lambda: ",".join(environment.kafka_bootstrap(site)),
        "store": lambda: environment.storage[site].endpoint,
        "database": lambda: f"{environment.hosts_of(site, 'postgresql')[0].name}:5432",
    }[system]()
    here = [topic for topic in principals.topics.values() if site in topic.sites]
    topics = {"any": here[0].name} if here else {}
    topics |= topics_of_groups(principals, {topic.role for topic in here})
    return {"address": address, "authority": str(authority), "topics": topics}


def _is_askable(cell: Cell, principals: Principals) -> bool:
    """Say whether a cell can be asked without harm: who takes the id of a living producer's transactions ends it."""
    fixed = {name for one in principals.contracts.values() for name in one.transactions if not name.endswith("*")}
    return not (cell.kind == "transactional id" and cell.allowed and cell.thing in fixed)


@pytest.mark.parametrize("place", PLACES, ids="-".join)
def test_every_cell_is_as_the_contracts_say(
    observatory: Observatory, principals: Principals, tmp_path: Path, place: tuple[str, str]
) -> None:
    secrets, authority = Secrets(observatory.folders.secrets), tmp_path / "ca.crt"
    authority.write_text(secrets.bundle())
    asked = [c for c in MATRIX if (c.system, c.site) == place and _is_askable(c, principals)]
    assert {cell.principal for cell in asked} == set(principals.present)
    system = _system(principals, place, authority)
    prefix = Vantage.at(place[1], "lab", observatory.folders).prefix()
    found = wrong(asked, lambda cell: _password(secrets, principals, cell), system, prefix)
    assert not found, "\n".join(found)
    assert {True, False} <= {cell.allowed for cell in asked} or place == ("store", "in2p3")


# -- the network -------------------------------------------------------------------------------------------------------


_PYTHON = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor
def tried(place):
    host, port = place.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 4).close()
        return place, "connected"
    except TimeoutError:
        return place, "timed out"
    except OSError as error:
        return place, str(error)
with ThreadPoolExecutor(40) as pool:
    for answer in pool.map(tried, sys.argv[1:]):
        print(*answer)
"""
_SHELL = """
for place in "$@"; do
  ( said=$(nc -w 4 ${place%:*} ${place#*:} < /dev/null 2>&1 && echo connected)
    case "$said" in *connected*) said=connected ;; *"timed out"*) said="timed out" ;; esac
    echo "$place $said" ) &
done
wait
"""


@dataclass(frozen=True)
class Pods:
    """One pod of every workload of a cluster: one of its own that runs, or one that only has its labels."""

    observatory: Observatory
    cluster: str
    addresses: dict[str, str]
    running: dict[str, str]

    def tries(self, name: str, places: list[str]) -> dict[str, str]:
        """Return what came of a workload's attempts to connect."""
        words = ("python3", "-c", _PYTHON) if name in self.running else ("sh", "-c", _SHELL, "sh")
        pod = self.running.get(name, f"probe-{name}")
        done = self.observatory.kubectl(self.cluster, "exec", pod, "--", *words, *places)
        assert done.returncode == 0, f"{name}: not tried: {done.stderr}"
        return {place: said for place, _, said in (line.partition(" ") for line in done.stdout.splitlines())}


def _probe_pod(name: str, image: str, port: int) -> dict[str, Any]:
    """Return a pod with the labels of a workload, that listens at a port and is never ready: no Service leads to it."""
    container = {
        "name": "main",
        "image": image,
        "command": ["/bin/busybox", "httpd", "-f", "-p", str(port), "-h", "/bin"],
        "readinessProbe": {"exec": {"command": ["/bin/false"]}},
        "resources": {"limits": {"memory": "32Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    labels = {SERVICE: name, "app.kubernetes.io/part-of": "dpp"}
    metadata = {"name": f"probe-{name}", "namespace": "workloads", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _living(observatory: Observatory, cluster: str) -> dict[str, dict[str, Any]]:
    """Return a pod that runs by workload."""
    selector = ("--selector=app.kubernetes.io/part-of=dpp", "--field-selector=status.phase=Running")
    done = observatory.kubectl(cluster, "get", "pods", *selector, "--output=json")
    assert done.returncode == 0, done.stderr
    return {pod["metadata"]["labels"][SERVICE]: pod for pod in json.loads(done.stdout)["items"]}


@pytest.fixture(params=CLUSTERS)
def pods(request: pytest.FixtureRequest, observatory: Observatory, principals: Principals) -> Iterator[Pods]:
    name = request.param
    site = observatory.environment.cluster(name).site
    registry = Registry.at(site, "lab", observatory.folders)
    digest = registry.digest("dpp/probe", "1")
    assert digest, f"{registry.address} has no dpp/probe:1"
    observatory.await_workloads(name)
    here = sorted(
        one for one, clusters in principals.clusters.items() if name in clusters and one in principals.contracts
    )
    running = {one: pod["metadata"]["name"] for one, pod in _living(observatory, name).items()}
    image = registry.reference("dpp/probe", digest)
    ports = {one: next((port.port for port in principals.contract(one).serves.values()), 8080) for one in here}
    absent = [_probe_pod(one, image, ports[one]) for one in here if one not in running]
    cluster = Cluster(name, "lab", observatory.folders)
    try:
        cluster.apply(absent, OWNER, timeout=300)
        for pod in absent:
            words = (
                "wait",
                f"pod/{pod['metadata']['name']}",
                "--for=jsonpath={.status.phase}=Running",
                "--timeout=120s",
            )
            done = observatory.kubectl(name, *words)
            assert done.returncode == 0, done.stderr
        addresses = {one: pod["status"]["podIP"] for one, pod in _living(observatory, name).items()}
        assert set(addresses) == set(here)
        yield Pods(observatory, name, addresses, running)
    finally:
        cluster.delete(OWNER)


def _network(principals: Principals, pods: Pods) -> dict[str, set[str]]:
    """Return, by place, the workloads of a cluster that may go there, as their contracts say."""
    environment, site = principals.environment, principals.environment.cluster(pods.cluster).site
    found: dict[str, set[str]] = defaultdict(set)
    for name in pods.addresses:
        contract = principals.contract(name)
        sites = {principals.topics[role].read_at(site) for role in contract.consumes}
        sites |= {principals.topics[role].written_at(site) for role in contract.publishes}
        hosts = [(host, 9094) for place in sites for host in environment.hosts_of(place, "kafka_broker")]
        stores = {place for store in contract.stores for place in principals.store_sites(store, site)}
        hosts += [
            (environment.host(environment.storage[one].hosts[0]), environment.storage[one].port) for one in stores
        ]
        databases = (*contract.reads, *contract.writes)
        hosts += [(environment.host(principals.database_host(one)), 5432) for one in databases]
        for host, port in hosts:
            found[f"{host.address}:{port}"].add(name)
        for called, port in contract.calls.items():
            found[f"{pods.addresses[called]}:{principals.contract(called).serves[port].port}"].add(name)
    for served in pods.addresses:
        for port in principals.contract(served).serves.values():
            if port.to == "everyone":
                found[f"{pods.addresses[served]}:{port.port}"] |= set()
    return found


def test_every_workload_reaches_what_its_contract_names_and_nothing_else(pods: Pods, principals: Principals) -> None:
    allowed = {place: names for place, names in _network(principals, pods).items() if names}
    with ThreadPoolExecutor(len(pods.addresses)) as pool:
        names = sorted(pods.addresses)
        found = dict(zip(names, pool.map(lambda name: pods.tries(name, sorted(allowed)), names), strict=True))
    wrong = [
        f"{name} to {place}: {found[name].get(place)}, not {wanted}"
        for place, may in allowed.items()
        for name in names
        if place.rpartition(":")[0] != pods.addresses[name]  # whoever talks to itself crosses no policy
        and found[name].get(place) != (wanted := CONNECTED if name in may else TIMED_OUT)
    ]
    assert not wrong, "\n".join(wrong)


def test_a_pod_finds_its_own_secrets_and_no_token(pods: Pods, principals: Principals) -> None:
    site = principals.environment.cluster(pods.cluster).site
    for name, pod in pods.running.items():
        script = "ls /etc/dpp/secrets 2>/dev/null; test ! -e /var/run/secrets/kubernetes.io/serviceaccount/token"
        done = pods.observatory.kubectl(pods.cluster, "exec", pod, "--", "sh", "-c", script)
        assert done.returncode == 0, f"{name}: {done.stderr or 'it has a token'}"
        assert set(done.stdout.split()) == set(rights.secrets_of(principals, name, site)), name


def test_the_matrix_has_every_principal_and_every_resource(principals: Principals) -> None:
    things = {(cell.system, cell.site): set() for cell in MATRIX} | {
        place: {(cell.kind, cell.thing) for cell in own}
        for place, own in groupby(sorted(MATRIX), lambda cell: (cell.system, cell.site))
    }
    kafka = {
        thing for (system, _), own in things.items() if system == "kafka" for kind, thing in own if kind == "topic"
    }
    assert kafka == {topic.name for topic in principals.topics.values()}
    buckets = {kind for (system, _), own in things.items() if system == "store" for kind, _ in own}
    assert buckets == set(principals.buckets)
    assert {cell.principal for cell in MATRIX} == set(principals.present)
