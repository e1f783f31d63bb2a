"""What runs on clusters, rendered as it is deployed, and how to ask an API server about it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from dpp.build.tools import tool
from dpp.model.environment import Environment
from dpp.rendering.clusters import K8S, NIGHT, cluster_objects, night_objects, with_images

IMAGES = {name: f"svc01.summit:5000/dpp/{name}@sha256:{'0' * 64}" for name in ("pixels", "services", "probe")}
CLUSTERS = sorted(path.parent.parts[-2:] for path in K8S.glob("clusters/*/*/kustomization.yaml"))
"""Environment and name."""
HUNG_SECONDS = 600.0
"""What an API server and its client take so long for hangs, on a machine that is busy with others as well."""
SERVICES = sorted({path.parent.name for path in K8S.glob("*/kustomization.yaml")} - {"platform"})


def program(name: str, of: str = "kubernetes") -> str:
    """Return the path of a built program; skip the test where its tool has not been built."""
    found = tool(of)
    if not found.built:
        pytest.skip(f"tool {of} is not built: dpp tools build {of}")
    return str(found.folder / "bin" / name)


@cache
def by_service(environment: str, cluster: str) -> dict[str, list[dict[str, Any]]]:
    """Return the objects of a cluster as they are deployed, images by digest; not to be changed."""
    program("kubectl")
    model = Environment.load(environment)
    found = cluster_objects(model, model.cluster(cluster))
    return {service: with_images(objects, IMAGES) for service, objects in found.items()}


def on_cluster(environment: str, cluster: str) -> list[dict[str, Any]]:
    """Return the objects of a cluster, as `by_service` does, in one list."""
    return [one for objects in by_service(environment, cluster).values() for one in objects]


@cache
def of_service(service: str) -> list[dict[str, Any]]:
    """Return the objects of a service on the first cluster of the lab that has it, a night's included; not to be changed."""
    program("kubectl")
    model = Environment.load("lab")
    cluster = next(one for one in model.clusters if service in by_service("lab", one))
    night = night_objects(model, model.cluster(cluster)) if has_night("lab", cluster) else {}
    return [*by_service("lab", cluster)[service], *with_images(night.get(service, []), IMAGES)]


def has_night(environment: str, cluster: str) -> bool:
    """Say whether a night adds something to a cluster."""
    return (K8S / "clusters" / environment / cluster / NIGHT).is_dir()


@dataclass(frozen=True)
class Server:
    """An API server of the version that clusters run, empty at first.

    Parameters
    ----------
    options
        What tells kubectl where it is.
    """

    options: tuple[str, ...]

    def kubectl(self, *args: str, objects: Any = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl against the server, `objects` on its standard input."""
        items = objects if isinstance(objects, list) else [objects]
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items}) if objects is not None else None
        command = [program("kubectl"), *self.options, *args]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=HUNG_SECONDS)

    def apply(self, objects: Any, *, dry: bool = False) -> subprocess.CompletedProcess[str]:
        """Apply objects server-side; with `dry` only ask whether they would be taken."""
        more = ["--dry-run=server"] if dry else []
        return self.kubectl("apply", "--server-side", "--force-conflicts", *more, "--filename=-", objects=objects)


def pod(**container: Any) -> dict[str, Any]:
    """Return a pod that all rules admit, its container changed as given."""
    main = {
        "name": "main",
        "image": IMAGES["services"],
        "resources": {"limits": {"memory": "64Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        **container,
    }
    security = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one", "namespace": "workloads"},
        "spec": {"automountServiceAccountToken": False, "securityContext": security, "containers": [main]},
    }
