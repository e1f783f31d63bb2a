"""What runs on a cluster: its namespace with the site's settings and secrets, then one set of objects per service."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pulumi
import yaml

from dpp.adapters.kubernetes import Key, Manifest
from dpp.adapters.kustomize import containers, render
from dpp.adapters.progress import Reporter
from dpp.build.base_image import BaseImage
from dpp.build.tools import tool_folder
from dpp.build.workload_images import FLAVOURS
from dpp.build.workload_images import WorkloadImages as Images
from dpp.model.environment import Environment
from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY, Folders
from dpp.model.site_config import as_yaml, site_settings
from dpp.model.types import Cluster
from dpp.provider.resources.manifests import AUTHORITIES, SECRET
from resources import Manifests, WorkloadImages

K8S = REPOSITORY / "k8s"
GROUND = "platform"
"""The service whose objects carry no name of a service: namespace, limits, policies for all."""
_SERVICE = "app.kubernetes.io/name"


class ClusterWorkloads(pulumi.ComponentResource):
    """All workloads of one cluster.

    Parameters
    ----------
    environment, cluster
        The model and the cluster in it.
    images
        The workloads' images in the registry of the cluster's site.
    """

    def __init__(self, environment: Environment, cluster: Cluster, images: WorkloadImages) -> None:
        super().__init__("dpp:clusters:ClusterWorkloads", f"{cluster.name}-workloads")
        self._environment, self._cluster, self._images = environment, cluster, images
        services = by_service(rendered(_folder(environment, cluster)))
        ground = self._manifests(GROUND, [*services.pop(GROUND, []), *_settings(environment, cluster)])
        for service, objects in services.items():
            self._manifests(service, objects, [ground])
        self.services = sorted(services)
        self.register_outputs({"services": self.services})

    def _manifests(self, service: str, objects: Sequence[Manifest], after: Sequence[pulumi.Resource] = ()) -> Manifests:
        return Manifests(
            f"{self._cluster.name}-{service}",
            environment=self._environment.name,
            cluster=self._cluster.name,
            service=service,
            objects=self._images.references.apply(lambda references: with_images(objects, references)),
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(after)),
        )


def workload_images(environment: Environment, site: str) -> WorkloadImages:
    """Return the images of the workloads in the registry of `site`."""
    return WorkloadImages(
        f"{site}-workloads",
        environment=environment.name,
        site=site,
        registry=environment.registry(site),
        sources=_sources(),
    )


def has_workloads(environment: Environment, cluster: Cluster) -> bool:
    """Say whether ``k8s/clusters/`` has services for a cluster."""
    path = _folder(environment, cluster) / "kustomization.yaml"
    return path.is_file() and bool(yaml.safe_load(path.read_text()).get("resources"))


def rendered(folder: Path) -> list[Manifest]:
    """Return the objects of a kustomization."""
    return render(folder, tool_folder("kubernetes") / "bin/kubectl")


def by_service(objects: Sequence[Manifest]) -> dict[str, list[Manifest]]:
    """Sort objects by the service that their label names; those of none are the ground that the others stand on."""
    services: dict[str, list[Manifest]] = defaultdict(list)
    for content in objects:
        services[(content["metadata"].get("labels") or {}).get(_SERVICE, GROUND)].append(content)
    return dict(services)


def with_images(objects: Sequence[Manifest], references: Mapping[str, str]) -> dict[str, Manifest]:
    """Return objects by key, the workloads' images replaced by references of a site's own registry."""
    found = {}
    for content in objects:
        own = deepcopy(content)
        for container in containers(own):
            name = container["image"].removeprefix("dpp/")
            if name not in references:
                expected = f"one of dpp/{', dpp/'.join(sorted(references))}"
                raise FatalError(str(Key.of(own)), f"image {container['image']}", expected, "correct its manifest")
            container["image"] = references[name]
        found[str(Key.of(own))] = own
    return found


def _folder(environment: Environment, cluster: Cluster) -> Path:
    return K8S / "clusters" / environment.name / cluster.name


def _settings(environment: Environment, cluster: Cluster) -> list[dict[str, Any]]:
    """Return what every workload's pod mounts."""
    metadata = {"namespace": "workloads"}
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


@cache
def _sources() -> dict[str, str]:
    images = Images(Folders.current(), BaseImage(Reporter()).layers[0].reference, Reporter())
    return {flavour.name: images.layout(flavour).folder.name for flavour in FLAVOURS}
