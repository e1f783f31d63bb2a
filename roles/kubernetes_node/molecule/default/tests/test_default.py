"""A worker that has joined its cluster and stays in it."""

import json
import time

import pytest

KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"


def test_kubelet_runs_and_survives_a_restart(host):
    service = host.service("kubelet")
    assert service.is_running
    assert service.is_enabled


def test_packets_are_forwarded(host):
    assert host.sysctl("net.ipv4.ip_forward") == 1


def test_both_nodes_are_ready(host):
    if host.check_output("hostname") != "k8s01.base":
        pytest.skip("asked of the control plane")
    deadline = time.monotonic() + 120
    ready: dict[str, str] = {}
    while time.monotonic() < deadline and ready != {"k8s01.base": "True", "svc01.base": "True"}:
        nodes = json.loads(host.check_output(f"{KUBECTL} get nodes --output json"))["items"]
        ready = {
            node["metadata"]["name"]: one["status"]
            for node in nodes
            for one in node["status"]["conditions"]
            if one["type"] == "Ready"
        }
        time.sleep(2)
    assert ready == {"k8s01.base": "True", "svc01.base": "True"}


def test_the_invitation_is_not_readable_by_others(host):
    if host.file("/etc/kubernetes/join.yaml").exists:
        assert host.file("/etc/kubernetes/join.yaml").mode == 0o600
