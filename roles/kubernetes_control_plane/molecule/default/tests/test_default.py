"""A cluster that is ready, resolves the observatory's names, measures itself, and was repaired when somebody changed it."""

import json

import pytest

KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"


@pytest.fixture(scope="module", autouse=True)
def _only_the_node(host):
    if host.check_output("hostname") != "k8s01.base":
        pytest.skip("the registry's host")


def get(host, what):
    return json.loads(host.check_output(f"{KUBECTL} get {what} --output json"))


def test_node_is_ready_and_takes_workloads(host):
    (node,) = get(host, "nodes")["items"]
    conditions = {one["type"]: one["status"] for one in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert not node["spec"].get("taints")


def test_kubelet_runs_and_survives_a_restart(host):
    service = host.service("kubelet")
    assert service.is_running
    assert service.is_enabled


def test_drift_was_repaired(host):
    assert "net.ipv4.ip_forward=1" in host.file("/etc/sysctl.d/60-kubernetes.conf").content_string
    (container,) = get(host, "--namespace kube-system daemonset/cilium")["spec"]["template"]["spec"]["containers"]
    assert {"name": "KUBERNETES_SERVICE_PORT", "value": "6443"} in container["env"]
    assert get(host, "--namespace kube-system deployment/coredns")["spec"]["replicas"] == 1


def test_what_the_cluster_holds_outlives_its_repair(host):
    """The administrator's access and the record of a whole start were gone: nothing was reset for that."""
    assert get(host, "--namespace default configmap/kept")["metadata"]["name"] == "kept"


def test_renewed_certificates_are_served(host):
    served = "openssl s_client -connect k8s01.base:6443 </dev/null 2>/dev/null | openssl x509 -noout -serial"
    on_disk, former = (
        host.check_output(f"openssl x509 -noout -serial -in {file}")
        for file in ("/etc/kubernetes/pki/apiserver.crt", "/root/former.crt")
    )
    assert host.check_output(served) == on_disk != former


def test_every_image_is_the_sites(host):
    pods = get(host, "pods --all-namespaces")["items"]
    images = {container["image"] for pod in pods for container in pod["spec"]["containers"]}
    assert images
    assert all(image.startswith("svc01.base:5000/dpp/") for image in images)


def test_names_of_other_sites_resolve(host):
    config = get(host, "--namespace kube-system configmap/coredns")["data"]["Corefile"]
    for line in ("10.81.0.21 st01.summit", "10.83.0.11 svc01.ncsa"):
        assert line in config


def test_metrics_are_served(host):
    host.check_output(f"{KUBECTL} --namespace kube-system rollout status deployment/metrics-server --timeout 150s")
    usage = json.loads(host.check_output(f"{KUBECTL} get --raw /apis/metrics.k8s.io/v1beta1/nodes"))
    assert [item["metadata"]["name"] for item in usage["items"]] == ["k8s01.base"]
