"""What is told of pods that are not ready, from objects that a real API server keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dpp.adapters.kubernetes.api import Api
from dpp.adapters.kubernetes.objects import Key, Manifest
from dpp.adapters.kubernetes.reasons import why_not_ready
from dpp.model.folders import Folders
from k8s.deployed import IMAGES, Server, pod

LABELS = {"app": "stuck"}
KEY = Key("apps/v1", "Deployment", "workloads", "stuck")


@pytest.fixture
def api(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    """Return the server as the tool reaches it, by a kubeconfig."""
    options = dict(option.removeprefix("--").split("=", 1) for option in server.options)
    named = {
        "clusters": [{"name": "one", "cluster": {"server": options["server"], "certificate-authority": options["certificate-authority"]}}],
        "users": [{"name": "one", "user": {"token": options["token"]}}],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
    }  # fmt: skip
    path = tmp_path / "stuck"
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "one", **named}))
    monkeypatch.setattr(Folders, "run", property(lambda _: tmp_path))
    return Api(path, Folders("tests"))


def _make(server: Server, *objects: Manifest) -> None:
    done = server.apply(list(objects))
    assert done.returncode == 0, done.stderr


@pytest.fixture
def deployment(server: Server) -> Manifest:
    """Make a Deployment and the ReplicaSet that its controller would make."""
    spec = {"selector": {"matchLabels": LABELS}, "template": {"metadata": {"labels": LABELS}, "spec": pod()["spec"]}}
    metadata = {"name": "stuck", "namespace": "workloads", "labels": LABELS}
    kinds = [{"apiVersion": "apps/v1", "kind": kind} for kind in ("Deployment", "ReplicaSet")]
    _make(server, *(kind | {"metadata": metadata, "spec": spec} for kind in kinds))
    return kinds[0] | {"metadata": metadata}


def _uid(server: Server, kind: str) -> str:
    return server.kubectl("get", kind, "stuck", "--namespace=workloads", "--output=jsonpath={.metadata.uid}").stdout


def _event(about: str, uid: str, reason: str, text: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"stuck.{reason.lower()}", "namespace": "workloads"},
        "involvedObject": {"kind": about, "namespace": "workloads", "name": "stuck", "uid": uid},
        "type": "Warning",
        "reason": reason,
        "message": text,
        "lastTimestamp": "2026-11-23T00:00:00Z",
    }


def _why(api: Api) -> str:
    live = api.get(KEY)
    assert live is not None
    return why_not_ready(api, live)


@pytest.mark.usefixtures("deployment")
def test_a_pod_that_is_refused_is_told_and_then_one_that_finds_no_node(server: Server, api: Api):
    assert _why(api) == ""

    _make(server, _event("ReplicaSet", _uid(server, "replicaset"), "FailedCreate", "exceeded quota: workloads"))
    assert _why(api) == "FailedCreate: exceeded quota: workloads"

    waiting: dict[str, Any] = pod()
    waiting["metadata"] = {"name": "stuck", "namespace": "workloads", "labels": LABELS}
    _make(server, waiting)
    taint = "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": taint}
    _status(server, {"phase": "Pending", "conditions": [condition]})
    assert _why(api) == f"pod stuck: not scheduled: {taint}"

    image = {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{IMAGES["services"]}"'}
    container = {"name": "main", "image": "", "imageID": "", "ready": False, "restartCount": 0}
    _status(server, {"phase": "Pending", "containerStatuses": [container | {"state": {"waiting": image}}]})
    assert _why(api) == f"pod stuck: container main: ImagePullBackOff: {image['message']}"

    ended = {"terminated": {"exitCode": 1, "reason": "Error"}}
    crashed = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended, "restartCount": 4}
    _status(server, {"phase": "Running", "containerStatuses": [container | crashed]})
    assert _why(api) == "pod stuck: container main: CrashLoopBackOff, restarted 4 times, ended with 1 (Error)"

    _make(server, _event("Pod", _uid(server, "pod"), "Unhealthy", "Readiness probe failed: status code 503"))
    running = {"state": {"running": {"startedAt": "2026-11-23T00:00:00Z"}}}
    _status(server, {"phase": "Running", "containerStatuses": [container | running]})
    assert _why(api) == "pod stuck: Unhealthy: Readiness probe failed: status code 503"


def _status(server: Server, status: dict[str, Any]) -> None:
    """Write a pod's status, as a kubelet or the scheduler does."""
    patch = json.dumps({"status": {"conditions": None, "containerStatuses": None}})
    words = ("patch", "pod", "stuck", "--namespace=workloads", "--subresource=status", "--type=merge", "--patch")
    for one in (patch, json.dumps({"status": status})):
        done = server.kubectl(*words, one)
        assert done.returncode == 0, done.stderr
