"""What a real API server says to everything that is deployed, and to what the house rules forbid."""

from __future__ import annotations

import pytest

from dpp.adapters.kustomize import pod_specs
from k8s.deployed import CLUSTERS, SERVICES, Server, of_service, on_cluster, pod


@pytest.mark.parametrize("cluster", CLUSTERS, ids="/".join)
def test_clusters_are_taken_whole(server: Server, cluster: tuple[str, str]):
    done = server.apply(on_cluster(*cluster), dry=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_pods_are_admitted_as_they_would_be_made(server: Server, service: str):
    accounts = [
        one for one in of_service(service) if one["kind"] == "ServiceAccount"
    ]  # pods without theirs are refused
    assert server.apply(accounts).returncode == 0
    for manifest in of_service(service):
        for spec in pod_specs(manifest):
            one = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "one", "namespace": "workloads"},
                "spec": spec,
            }
            done = server.apply(one, dry=True)
            assert done.returncode == 0, done.stderr


def test_a_pod_by_the_rules_is_admitted(server: Server):
    done = server.apply(pod(), dry=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image": "svc01.summit:5000/dpp/services:latest"}, "images come by digest"),
        ({"image": f"elsewhere/services@sha256:{'0' * 64}"}, "images come by digest"),
        ({"securityContext": {"privileged": True}}, "violates PodSecurity"),
        ({"securityContext": {"runAsUser": 0, "allowPrivilegeEscalation": False}}, "violates PodSecurity"),
        ({"resources": {"limits": {"memory": "9Gi"}}}, "maximum memory usage per Container is 8Gi"),
    ],
)
def test_containers_against_the_rules_are_refused_with_the_reason(
    server: Server, change: dict[str, object], reason: str
):
    done = server.apply(pod(**change), dry=True)
    assert done.returncode != 0
    assert reason in done.stderr


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"automountServiceAccountToken": True}, "do not talk to the Kubernetes API"),
        ({"automountServiceAccountToken": True, "serviceAccountName": "other"}, "do not talk to the Kubernetes API"),
        ({"hostNetwork": True}, "violates PodSecurity"),
        ({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}, "violates PodSecurity"),
    ],
)
def test_pods_against_the_rules_are_refused_with_the_reason(server: Server, change: dict[str, object], reason: str):
    wrong = pod()
    wrong["spec"] |= change
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "other", "namespace": "workloads"}}
    assert server.apply(account).returncode == 0
    done = server.apply(wrong, dry=True)
    assert done.returncode != 0
    assert reason in done.stderr


def test_limits_come_where_none_are_given(server: Server):
    bare = pod(resources={})
    done = server.kubectl("create", "--dry-run=server", "--output=json", "--filename=-", objects=bare)
    assert done.returncode == 0, done.stderr
    assert '"memory": "512Mi"' in done.stdout
