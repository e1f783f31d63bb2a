"""What runs on clusters, rendered as it is deployed, and how to ask an API server about it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dpp.adapters.kustomize import render
from dpp.build.tools import tool
from dpp.model.folders import REPOSITORY

K8S = REPOSITORY / "k8s"
IMAGES = {f"dpp/{name}": f"svc01.summit:5000/dpp/{name}@sha256:{'0' * 64}" for name in ("pixels", "services", "probe")}
CLUSTERS = sorted(path.parent for path in K8S.glob("clusters/*/*/kustomization.yaml"))
SERVICES = sorted(
    path.parent for path in K8S.glob("*/kustomization.yaml") if path.parent.name not in {"clusters", "components"}
)


def program(name: str, of: str = "kubernetes") -> str:
    """Return the path of a built program; skip the test where its tool has not been built."""
    found = tool(of)
    if not found.built:
        pytest.skip(f"tool {of} is not built: dpp tools build {of}")
    return str(found.folder / "bin" / name)


@cache
def rendered(folder: Path) -> list[dict[str, Any]]:
    """Return the objects of a folder as they are deployed, images by digest; not to be changed."""
    return render(folder, program("kubectl"), IMAGES)


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
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)

    def apply(self, objects: Any, *, dry: bool = False) -> subprocess.CompletedProcess[str]:
        """Apply objects server-side; with `dry` only ask whether they would be taken."""
        more = ["--dry-run=server"] if dry else []
        return self.kubectl("apply", "--server-side", "--force-conflicts", *more, "--filename=-", objects=objects)


def pod(**container: Any) -> dict[str, Any]:
    """Return a pod that all rules admit, its container changed as given."""
    main = {
        "name": "main",
        "image": IMAGES["dpp/services"],
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
