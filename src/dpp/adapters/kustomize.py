"""Rendering of manifests: kustomize as it stands in kubectl."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from dpp.adapters.process import run

Manifest = dict[str, Any]

_RENDER_SECONDS = 120
_CLUSTER_WIDE = frozenset({"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"})
"""Kinds that live in no namespace, but that kustomize's list of such kinds is too old to know."""


def render(folder: Path, kubectl: Path | str = "kubectl") -> list[Manifest]:
    """Return the objects that the kustomization in `folder` yields.

    Parameters
    ----------
    folder
        Folder with a kustomization.yaml.
    kubectl
        The kubectl to render with.

    Raises
    ------
    CommandFailedError
        If kustomize refuses; it names the file, the remedy the folder.
    """
    command = [kubectl, "kustomize", "--load-restrictor=LoadRestrictionsNone", folder]
    done = run(command, timeout=_RENDER_SECONDS, remedy=f"mend {folder}")
    objects = [one for one in yaml.safe_load_all(done.stdout) if one]
    for one in objects:
        if one["kind"] in _CLUSTER_WIDE:
            one["metadata"].pop("namespace", None)
    return objects


def containers(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Yield every container, initial ones included, of an object that makes pods."""
    for pod in pod_specs(manifest):
        for kind in ("initContainers", "containers", "ephemeralContainers"):
            yield from pod.get(kind) or []


def pod_specs(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Yield the pod specification of an object that makes pods."""
    for template in pod_templates(manifest):
        yield template.get("spec") or {}


def pod_templates(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Yield what the pods of an object are made from: metadata and specification; a pod is its own."""
    spec = manifest.get("spec") or {}
    match manifest["kind"]:
        case "Pod":
            yield manifest
        case "CronJob":
            yield spec["jobTemplate"]["spec"]["template"]
        case "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicaSet":
            yield spec["template"]
