"""Rules for everything that is deployed: strict schemas, no privilege, named neighbours, images that can be traced."""

from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import pytest

from dpp.adapters.kustomize import containers, pod_specs, render
from dpp.model.errors import FatalError
from dpp.rendering.clusters import GROUND, with_images
from k8s.deployed import CLUSTERS, IMAGES, SERVICES, by_service, of_service, on_cluster, program

VERSION = "1.37"


@pytest.mark.parametrize("cluster", CLUSTERS, ids="/".join)
def test_schemas_of_clusters_hold_strictly(cluster: tuple[str, str]):
    for manifest in on_cluster(*cluster):
        kubernetes_validate.validate(manifest, VERSION, strict=True)


@pytest.mark.parametrize("service", SERVICES)
def test_schemas_of_services_hold_strictly(service: str):
    for manifest in of_service(service):
        kubernetes_validate.validate(manifest, VERSION, strict=True)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_named_as_its_folder(service: str):
    for manifest in of_service(service):
        for _ in pod_specs(manifest):
            labels = manifest["spec"]["template"]["metadata"]["labels"]
            assert labels["app.kubernetes.io/name"] == service
            assert labels["app.kubernetes.io/part-of"] == "dpp"


@pytest.mark.parametrize("service", SERVICES)
def test_pods_have_no_privilege_and_known_needs(service: str):
    for manifest in of_service(service):
        for spec in pod_specs(manifest):
            assert spec["automountServiceAccountToken"] is False
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(manifest):
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("service", SERVICES)
def test_what_stays_up_says_how_it_is(service: str):
    for manifest in of_service(service):
        if manifest["kind"] in {"Deployment", "StatefulSet"}:
            for container in containers(manifest):
                assert {"livenessProbe", "readinessProbe"} <= container.keys()


@pytest.mark.parametrize("service", SERVICES)
def test_every_pod_has_a_policy_of_its_own(service: str):
    manifests = of_service(service)
    policies = [
        one["spec"]["podSelector"].get("matchLabels", {}) for one in manifests if one["kind"] == "NetworkPolicy"
    ]
    for manifest in manifests:
        for _ in pod_specs(manifest):
            labels = manifest["spec"]["template"]["metadata"]["labels"].items()
            assert any(policy and policy.items() <= labels for policy in policies), manifest["metadata"]["name"]


@pytest.mark.parametrize("cluster", CLUSTERS, ids="/".join)
def test_workloads_stay_in_their_namespace(cluster: tuple[str, str]):
    everywhere = {"Namespace", "PriorityClass", "PersistentVolume", "ValidatingAdmissionPolicy"}
    for manifest in on_cluster(*cluster):
        if manifest["kind"] not in {*everywhere, "ValidatingAdmissionPolicyBinding"}:
            assert manifest["metadata"]["namespace"] == "workloads"


@pytest.mark.parametrize("cluster", CLUSTERS, ids="/".join)
def test_every_cluster_stands_on_the_platform(cluster: tuple[str, str]):
    kinds = {(one["kind"], one["metadata"]["name"]) for one in by_service(*cluster)[GROUND]}
    assert ("NetworkPolicy", "default-deny") in kinds
    assert ("Namespace", "workloads") in kinds


def test_an_image_of_somebody_else_is_refused():
    stray = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stray"}}
    spec = {"containers": [{"name": "a", "image": "b/c"}]}
    with pytest.raises(FatalError, match=r"Pod stray: image b/c; expected one of dpp/pixels"):
        with_images([stray | {"spec": spec}], IMAGES)


def test_a_broken_kustomization_names_the_folder(tmp_path: Path):
    (tmp_path / "kustomization.yaml").write_text("resources: [missing.yaml]\n")
    with pytest.raises(FatalError, match=r"missing.yaml") as caught:
        render(tmp_path, program("kubectl"))
    assert str(tmp_path) in caught.value.remedy
