"""A change that somebody made in a cluster is seen and put right with the very options that the control plane's role uses."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from dpp.model.folders import REPOSITORY
from k8s.deployed import Server

ROLE = REPOSITORY / "roles" / "kubernetes_control_plane" / "vars" / "main.yml"


def options() -> list[str]:
    words: list[str] = yaml.safe_load(ROLE.read_text())["kubernetes_control_plane_apply"]
    return words[: words.index("--filename")]


def deployment() -> dict[str, object]:
    container = {"name": "main", "image": "one", "env": [{"name": "PORT", "value": "6443"}]}
    template = {"metadata": {"labels": {"app": "one"}}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "one", "namespace": "default"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "one"}}, "template": template},
    }


def test_changes_by_hand_are_seen_and_put_right(server: Server, tmp_path: Path):
    manifest = tmp_path / "one.json"
    manifest.write_text(json.dumps(deployment()))
    verb = [*options(), f"--filename={manifest}"]
    assert server.kubectl("apply", *verb).returncode == 0
    assert server.kubectl("diff", *verb).returncode == 0
    for change in (["set", "env", "deployment/one", "PORT=6444"], ["scale", "--replicas=0", "deployment/one"]):
        done = server.kubectl(*change)
        assert done.returncode == 0, done.stderr
    seen = server.kubectl("diff", *verb)
    assert seen.returncode == 1, seen.stderr
    assert "6443" in seen.stdout
    assert server.kubectl("apply", *verb).returncode == 0
    assert server.kubectl("diff", *verb).returncode == 0
