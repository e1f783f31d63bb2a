"""The full facility's clusters: as many workers as the camera needs, on nodes that are there and that hold them."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.utils.quantity import parse_quantity

from dpp.adapters.kustomize import containers, pod_specs
from dpp.model.environment import Environment
from dpp.model.names import kebab
from k8s.deployed import CLUSTERS, on_cluster

PRODUCTION = [cluster for environment, cluster in CLUSTERS if environment == "production"]
POOL = "dpp.lsst.org/pool"


@pytest.fixture(scope="module")
def model() -> Environment:
    return Environment.load("production")


def objects(cluster: str, kind: str) -> dict[str, dict[str, Any]]:
    found = on_cluster("production", cluster)
    return {one["metadata"]["name"]: one for one in found if one["kind"] == kind}


def test_the_clusters_are_those_that_the_lab_has() -> None:
    assert set(PRODUCTION) == set(Environment.load("lab").clusters)


def prompt() -> dict[str, Any]:
    spec: dict[str, Any] = objects("ncsa", "Deployment")["prompt-processing"]["spec"]
    return spec


def test_every_detector_of_every_visit_in_flight_has_a_worker_and_there_are_spare_ones(model: Environment) -> None:
    pods, pool, camera = prompt()["replicas"], model.pools["prompt_pool"], model.camera
    [container] = prompt()["template"]["spec"]["containers"]
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert variables["WORKERS"] == str(pool.prompt_workers), "a pod forks as many workers as its node is sized for"

    wanted = len(camera.detectors) * camera.visits_in_flight + camera.spare_workers
    assert pods == -(-wanted // pool.prompt_workers)
    nodes = [host for host in model.hosts_of(group="prompt_pool") if host.name in model.clusters["ncsa"].nodes]
    assert pods < len(nodes), "a pod that is lost with its node finds another"
    assert camera.spare_workers >= pool.prompt_workers, "a node that is lost in a visit costs nobody a second detector"


def test_a_prompt_pod_is_replaced_without_a_person_and_one_at_a_time() -> None:
    seconds = {one["key"]: one["tolerationSeconds"] for one in prompt()["template"]["spec"]["tolerations"]}
    assert seconds == {f"node.kubernetes.io/{state}": 15 for state in ("not-ready", "unreachable")}
    assert prompt()["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


def test_a_prompt_pod_fills_its_node_and_no_more(model: Environment) -> None:
    spec = prompt()["template"]["spec"]
    pool = model.pools["prompt_pool"]
    needs = spec["containers"][0]["resources"]["requests"]

    cpu, memory = parse_quantity(needs["cpu"]), parse_quantity(needs["memory"]) / 2**30
    assert spec["nodeSelector"] == {POOL: "prompt-pool"}
    assert pool.cores / 2 < cpu <= pool.cores - 2, "one pod to a node; the node keeps two cores"
    assert memory <= pool.memory_gib - 8, "the node keeps 8 GiB"


@pytest.mark.parametrize("cluster", PRODUCTION)
def test_pods_choose_nodes_that_are_there(cluster: str, model: Environment) -> None:
    nodes = model.clusters[cluster].nodes
    pools = {kebab(group) for name in nodes for group in model.hosts[name].groups}
    for one in on_cluster("production", cluster):
        for spec in pod_specs(one):
            assert set(spec.get("nodeSelector", {POOL: "services-pool"}).values()) <= pools


@pytest.mark.parametrize("cluster", PRODUCTION)
def test_quotas_hold_what_is_deployed(cluster: str) -> None:
    used = {"requests": 0, "limits": 0}
    for one in on_cluster("production", cluster):
        for container in containers(one):
            for kind in used:
                used[kind] += one["spec"].get("replicas", 1) * parse_quantity(container["resources"][kind]["memory"])
    quota = objects(cluster, "ResourceQuota")["workloads"]["spec"]["hard"]
    for kind, sum_ in used.items():
        assert sum_ <= parse_quantity(quota[f"{kind}.memory"]), kind
