"""What runs on a cluster: its namespace with the rules for all, then one set of objects per service."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache, partial

import pulumi

from dpp.adapters.kubernetes import Key, Manifest
from dpp.adapters.progress import Reporter
from dpp.adapters.secrets import Secrets
from dpp.build.base_image import BaseImage
from dpp.build.workload_images import FLAVOURS
from dpp.build.workload_images import WorkloadImages as Images
from dpp.model.environment import Environment
from dpp.model.errors import FatalError
from dpp.model.folders import Folders
from dpp.model.types import Cluster
from dpp.provider import kinds
from dpp.rendering.clusters import GROUND, with_digests, with_images
from dpp.rendering.contracts import AUTHORITIES
from resources import Manifests, WorkloadImages


class ClusterWorkloads(pulumi.ComponentResource):
    """All workloads of one cluster.

    Parameters
    ----------
    environment, cluster
        The model and the cluster in it.
    objects
        What the cluster is to hold, by service.
    images
        The workloads' images in the registry of the cluster's site.
    """

    def __init__(
        self,
        environment: Environment,
        cluster: Cluster,
        objects: Mapping[str, Sequence[Manifest]],
        images: WorkloadImages,
    ) -> None:
        super().__init__("dpp:clusters:ClusterWorkloads", f"{cluster.name}-workloads")
        self._environment, self._cluster, self._images = environment, cluster, images
        ground = self._manifests(GROUND, objects[GROUND])
        self.services = sorted(set(objects) - {GROUND})
        for service in self.services:
            self._manifests(service, objects[service], [ground])
        self.register_outputs({"services": self.services})

    def _manifests(self, service: str, objects: Sequence[Manifest], after: Sequence[pulumi.Resource] = ()) -> Manifests:
        marked = with_digests(objects, partial(_digest, self._environment))
        return Manifests(
            f"{self._cluster.name}-{service}",
            kinds.Manifests(
                environment=self._environment.name,
                cluster=self._cluster.name,
                service=service,
                objects=self._images.references.apply(
                    lambda references: {str(Key.of(one)): one for one in with_images(marked, references)}
                ),
            ),
            pulumi.ResourceOptions(parent=self, depends_on=list(after)),
        )


def _digest(environment: Environment, names: Sequence[str]) -> str:
    """Return the digest of authorities and passwords; an environment that is only previewed has none."""
    if not environment.provisioning.apply:
        return ""
    secrets = Secrets(environment.folders.secrets)
    passwords = secrets.digest([name for name in names if name != AUTHORITIES])
    return hashlib.sha256(f"{passwords}{secrets.bundle() if AUTHORITIES in names else ''}".encode()).hexdigest()[:16]


def workload_images(environment: Environment, site: str) -> WorkloadImages:
    """Return the images of the workloads in the registry of `site`."""
    registry = environment.registry(site)
    if registry is None:
        raise FatalError(f"site {site}", "no container registry", "one where a cluster is", "declare a host for it")
    given = kinds.WorkloadImages(environment=environment.name, site=site, registry=registry, sources=_sources())
    return WorkloadImages(f"{site}-workloads", given)


@cache
def _sources() -> dict[str, str]:
    images = Images(Folders.current(), BaseImage(Reporter()).layers[0].reference, Reporter())
    return {flavour.name: images.layout(flavour).folder.name for flavour in FLAVOURS}
