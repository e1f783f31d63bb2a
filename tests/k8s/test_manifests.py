"""Rules for everything that is deployed: strict schemas, no privilege, named neighbours, images that can be traced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from dpp.adapters.kustomize import containers, pod_specs, render
from dpp.model.errors import FatalError
from k8s.deployed import CLUSTERS, IMAGES, K8S, SERVICES, program, rendered

VERSION = "1.37"


def name_of(folder: Path) -> str:
    return str(folder.relative_to(K8S))


@pytest.mark.parametrize("folder", [*CLUSTERS, *SERVICES], ids=name_of)
def test_schemas_hold_strictly(folder: Path):
    for manifest in rendered(folder):
        kubernetes_validate.validate(manifest, VERSION, strict=True)


@pytest.mark.parametrize("folder", SERVICES, ids=name_of)
def test_a_service_is_named_as_its_folder(folder: Path):
    for manifest in rendered(folder):
        for _ in pod_specs(manifest):
            labels = manifest["spec"]["template"]["metadata"]["labels"]
            assert labels["app.kubernetes.io/name"] == folder.name
            assert labels["app.kubernetes.io/part-of"] == "dpp"


@pytest.mark.parametrize("folder", SERVICES, ids=name_of)
def test_pods_have_no_privilege_and_known_needs(folder: Path):
    for manifest in rendered(folder):
        for spec in pod_specs(manifest):
            assert spec["automountServiceAccountToken"] is False
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(manifest):
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("folder", SERVICES, ids=name_of)
def test_what_stays_up_says_how_it_is(folder: Path):
    for manifest in rendered(folder):
        if manifest["kind"] in {"Deployment", "StatefulSet"}:
            for container in containers(manifest):
                assert {"livenessProbe", "readinessProbe"} <= container.keys()


@pytest.mark.parametrize("folder", SERVICES, ids=name_of)
def test_every_pod_has_a_policy_of_its_own(folder: Path):
    manifests = rendered(folder)
    policies = [
        one["spec"]["podSelector"].get("matchLabels", {}) for one in manifests if one["kind"] == "NetworkPolicy"
    ]
    for manifest in manifests:
        for _ in pod_specs(manifest):
            labels = manifest["spec"]["template"]["metadata"]["labels"].items()
            assert any(policy and policy.items() <= labels for policy in policies), manifest["metadata"]["name"]


@pytest.mark.parametrize("folder", CLUSTERS, ids=name_of)
def test_workloads_stay_in_their_namespace(folder: Path):
    everywhere = {"Namespace", "PriorityClass", "PersistentVolume", "ValidatingAdmissionPolicy"}
    for manifest in rendered(folder):
        if manifest["kind"] not in {*everywhere, "ValidatingAdmissionPolicyBinding"}:
            assert manifest["metadata"]["namespace"] == "workloads"


@pytest.mark.parametrize("folder", CLUSTERS, ids=name_of)
def test_every_cluster_stands_on_the_platform(folder: Path):
    kinds = {(one["kind"], one["metadata"]["name"]) for one in rendered(folder)}
    assert ("NetworkPolicy", "default-deny") in kinds
    assert ("Namespace", "workloads") in kinds


def test_an_image_of_somebody_else_is_refused(tmp_path: Path):
    manifest: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stray"}}
    (tmp_path / "pod.yaml").write_text(f"{manifest | {'spec': {'containers': [{'name': 'a', 'image': 'b/c'}]}}}")
    (tmp_path / "kustomization.yaml").write_text("resources: [pod.yaml]\n")
    with pytest.raises(FatalError, match=r"Pod stray: image 'b/c'; expected one of dpp/pixels"):
        render(tmp_path, program("kubectl"), IMAGES)


def test_a_broken_kustomization_names_the_folder(tmp_path: Path):
    (tmp_path / "kustomization.yaml").write_text("resources: [missing.yaml]\n")
    with pytest.raises(FatalError, match=r"missing.yaml") as caught:
        render(tmp_path, program("kubectl"))
    assert caught.value.subject == str(tmp_path)
