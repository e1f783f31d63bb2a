"""What a service's objects become on their way to a cluster, and how drift is written down."""

from pathlib import Path
from typing import Any

import pytest

from dpp.adapters.kubernetes import Difference, Key
from dpp.adapters.secrets import Secrets
from dpp.model.errors import FatalError
from dpp.model.folders import Folders
from dpp.provider.resources.manifests import _note, _resolved
from dpp.rendering.clusters import with_images
from dpp.rendering.contracts import AUTHORITIES, SECRET


def deployment(name: str, image: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "workloads", "labels": labels},
        "spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}},
    }


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("DPP_LAB", "sample")
    return Folders.current()


def test_images_become_references_of_the_sites_registry_and_nothing_else_changes() -> None:
    written = deployment("broker", "dpp/services")

    [made] = with_images([written], {"services": "svc01.ncsa:5000/dpp/services@sha256:0"})

    assert made == deployment("broker", "svc01.ncsa:5000/dpp/services@sha256:0")
    assert written == deployment("broker", "dpp/services")


def test_an_image_of_another_house_is_refused() -> None:
    with pytest.raises(
        FatalError, match=r"Deployment workloads/broker: image nginx:latest; expected one of dpp/services"
    ):
        with_images([deployment("broker", "nginx:latest")], {"services": "x"})


def test_secrets_are_resolved_by_the_provider_only(folders: Folders) -> None:
    objects = {
        "Secret workloads/broker-secrets": {"kind": "Secret", "stringData": {"kafka": f"{SECRET}kafka-broker"}},
        "ConfigMap workloads/broker-settings": {
            "kind": "ConfigMap",
            "data": {"ca.crt": AUTHORITIES, "site.yml": "---\n"},
        },
    }

    secret, settings = _resolved("lab", objects)

    secrets = Secrets(folders.secrets)
    assert secret["stringData"] == {"kafka": secrets.password("kafka-broker")}
    assert settings["data"] == {"ca.crt": secrets.bundle(), "site.yml": "---\n"}
    assert objects["Secret workloads/broker-secrets"]["stringData"]["kafka"].startswith(SECRET)  # the state's copy


def test_drift_names_what_is_gone_changed_and_not_wanted_but_no_secret() -> None:
    gone, changed = Key("v1", "Service", "workloads", "a"), Key("apps/v1", "Deployment", "workloads", "b")
    secret, extra = Key("v1", "Secret", "workloads", "s"), Key("v1", "ConfigMap", "workloads", "old")
    objects: dict[str, Any] = {str(key): {"kind": key.kind} for key in (gone, changed, secret)}

    _note(objects, Difference(gone, "create"))
    _note(objects, Difference(changed, "update", {"spec.replicas": (0, 1)}))
    _note(objects, Difference(secret, "update", {"data.password": ("c3RyYXk=", "cmlnaHQ=")}))
    _note(objects, Difference(extra, "delete"))

    assert objects == {
        str(changed): {"drifted": {"spec.replicas": 0}},
        str(secret): {"drifted": {"data.password": "changed"}},
        str(extra): {"found": "not named by the service"},
    }
