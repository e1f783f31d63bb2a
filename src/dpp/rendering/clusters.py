"""The objects of a cluster: manifests of k8s/ as kustomize yields them, and the settings of the cluster's site."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path

import yaml

from dpp.adapters.kubernetes import Key, Manifest
from dpp.adapters.kustomize import containers, render
from dpp.build.tools import tool_folder
from dpp.model.environment import Environment
from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY
from dpp.model.site_config import as_yaml, site_settings
from dpp.model.types import Cluster

K8S = REPOSITORY / "k8s"
NAMESPACE = "workloads"
GROUND = "platform"
"""The service whose objects carry no name of a service: namespace, limits, policies for all."""
SECRET = "dpp-secret:"  # noqa: S105 - the mark of a reference
"""In ``stringData`` of a Secret, ``dpp-secret:NAME`` stands for a password of the environment: states hold no secret."""
AUTHORITIES = "dpp-authorities"
"""In ``data`` of a ConfigMap, stands for the certificates of the environment's authorities."""
_SERVICE = "app.kubernetes.io/name"


def cluster_objects(environment: Environment, cluster: Cluster) -> dict[str, list[Manifest]]:
    """Return what stands on a cluster by service, `GROUND` first; nothing where ``k8s/clusters/`` names no service.

    Images are named as manifests name them (`with_images`), secrets and authorities by their marks.
    """
    folder = K8S / "clusters" / environment.name / cluster.name
    if not _names_resources(folder / "kustomization.yaml"):
        return {}
    services: dict[str, list[Manifest]] = {GROUND: []}
    for content in render(folder, _kubectl()):
        services.setdefault((content["metadata"].get("labels") or {}).get(_SERVICE, GROUND), []).append(content)
    services[GROUND] += _settings(environment, cluster)
    return services


def service_objects(service: str) -> list[Manifest]:
    """Return the objects of a service by itself: those that stand on no cluster, a night starts."""
    return render(K8S / service, _kubectl())


def with_images(objects: Iterable[Manifest], references: Mapping[str, str]) -> list[Manifest]:
    """Return copies of objects, the workloads' images replaced by references of a site's own registry.

    Raises
    ------
    FatalError
        If an object names an image that is not ours.
    """
    found = []
    for content in objects:
        own = deepcopy(content)
        for container in containers(own):
            name = container["image"].removeprefix("dpp/")
            if name not in references:
                expected = f"one of dpp/{', dpp/'.join(sorted(references))}"
                raise FatalError(str(Key.of(own)), f"image {container['image']}", expected, "correct its manifest")
            container["image"] = references[name]
        found.append(own)
    return found


def _kubectl() -> Path:
    return tool_folder("kubernetes") / "bin/kubectl"


def _names_resources(path: Path) -> bool:
    return path.is_file() and bool(yaml.safe_load(path.read_text()).get("resources"))


def _settings(environment: Environment, cluster: Cluster) -> list[Manifest]:
    """Return what every workload's pod mounts."""
    metadata = {"namespace": NAMESPACE}
    passwords = ["kafka-workloads", "postgresql-workloads", *(f"s3-{site}" for site in environment.storage)]
    settings = as_yaml(site_settings(environment, cluster.site))
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "site", **metadata},
            "data": {"site.yml": settings, "ca.crt": AUTHORITIES},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "workloads", **metadata},
            "stringData": {name: f"{SECRET}{name}" for name in passwords},
        },
    ]
