"""The objects of a cluster: manifests of k8s/ as kustomize yields them, and what follows from the contracts of its workloads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import yaml

from dpp.adapters.kubernetes import Key, Manifest
from dpp.adapters.kustomize import containers, pod_templates, render
from dpp.build.tools import tool_folder
from dpp.model.environment import Environment
from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY
from dpp.model.principals import Principals
from dpp.model.types import Cluster
from dpp.rendering.contracts import DIGEST, SERVICE, admitting, derived, with_contract

K8S = REPOSITORY / "k8s"
GROUND = "platform"
"""The service whose objects carry no name of a service: namespace, limits, policies for all."""
NIGHT = "night"
"""Folder below a cluster's: what a night adds."""


def cluster_objects(environment: Environment, cluster: Cluster) -> dict[str, list[Manifest]]:
    """Return what stands on a cluster by service, `GROUND` first; nothing where ``k8s/clusters/`` names no service.

    Images are named as manifests name them (`with_images`), secrets, their digests and authorities by marks. Workloads that
    only a night runs have their accounts, secrets and volumes there at all times.
    """
    folder = _folder(environment, cluster)
    if not _names_resources(folder / "kustomization.yaml"):
        return {}
    principals = _principals(environment.name)
    here = sorted(name for name, clusters in principals.clusters.items() if cluster.name in clusters)
    workloads = [name for name in here if name in principals.contracts]
    services: dict[str, list[Manifest]] = {GROUND: []}
    services |= {name: derived(principals, name, cluster) for name in workloads}
    named = [name for name in workloads if principals.contract(name).kubernetes]
    for content in render(folder, _kubectl()):
        name = _service(content)
        if name == GROUND:
            rules = content["kind"] == "ValidatingAdmissionPolicy"
            services[GROUND].append(admitting(content, named) if rules else content)
        else:
            services.setdefault(name, []).append(with_contract(content, principals, name, cluster))
    return services


def night_objects(environment: Environment, cluster: Cluster) -> dict[str, list[Manifest]]:
    """Return what a night adds to a cluster by service; all else that it needs stands there (`cluster_objects`)."""
    principals = _principals(environment.name)
    services: dict[str, list[Manifest]] = {}
    for content in render(_folder(environment, cluster) / NIGHT, _kubectl()):
        name = _service(content)
        services.setdefault(name, []).append(with_contract(content, principals, name, cluster))
    return services


def service_objects(service: str) -> list[Manifest]:
    """Return the objects of a service as its folder has them, without what follows from a contract in an environment."""
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


def with_digests(objects: Iterable[Manifest], digest: Callable[[list[str]], str]) -> list[Manifest]:
    """Return copies of objects, the marks of digests in their pods' annotations replaced by what `digest` says of the names."""
    found = []
    for content in objects:
        own = deepcopy(content)
        for template in pod_templates(own):
            notes = template["metadata"].get("annotations") or {}
            marked = {key: value for key, value in notes.items() if value.startswith(DIGEST)}
            notes |= {key: digest(value.removeprefix(DIGEST).split(",")) for key, value in marked.items()}
        found.append(own)
    return found


@lru_cache(maxsize=4)
def _principals(environment: str) -> Principals:
    return Principals.load(Environment.load(environment))


def _folder(environment: Environment, cluster: Cluster) -> Path:
    return K8S / "clusters" / environment.name / cluster.name


def _service(content: Manifest) -> str:
    return str((content["metadata"].get("labels") or {}).get(SERVICE, GROUND))


def _kubectl() -> Path:
    return tool_folder("kubernetes") / "bin/kubectl"


def _names_resources(path: Path) -> bool:
    return path.is_file() and bool(yaml.safe_load(path.read_text()).get("resources"))
