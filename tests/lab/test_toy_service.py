"""A service is added as docs/developers says, works on the standing lab, is removed, and leaves no trace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from dpp.adapters.kubernetes import Cluster
from dpp.adapters.secrets import Secrets
from dpp.adapters.vantage import Vantage
from dpp.model.folders import REPOSITORY
from dpp.operations.change.sides import lead_to_this_environment
from dpp.operations.health import Health
from lab import toy
from lab.observatory import RETURN_SECONDS, Observatory

SITE, HOST = "ncsa", "svc01.ncsa"
_KINDS = (
    "deployment,replicaset,pod,service,serviceaccount,configmap,secret,networkpolicy,ciliumnetworkpolicy,role,rolebinding,"
    "persistentvolumeclaim,persistentvolume"
)
_ROLES = "select rolname from pg_roles order by 1"
_MEMBERS = "select member::regrole, roleid::regrole from pg_auth_members order by 1, 2"
_KAFKA = (
    "java -Xmx128m -cp $(ls -d /opt/kafka/* | tail -n 1)/\\* {} --bootstrap-server svc01.ncsa:9094 "
    "--command-config /etc/kafka/admin.properties"
)


def _copy(target: Path) -> None:
    """Copy the repository, with compiled kernels: what they are compiled from is the same. Its environment is this one."""
    ignored = shutil.ignore_patterns(".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", "*.pyc")
    shutil.copytree(REPOSITORY, target, symlinks=True, ignore=ignored)
    lead_to_this_environment(target)


@contextmanager
def _added(observatory: Observatory, folder: Path) -> Iterator[None]:
    """Add the example to a copy of the repository and apply that; take it away by applying what there was before."""
    copy = folder / "copy"
    _copy(copy)
    toy.add_to(copy)
    try:
        _apply(copy)
        yield
    finally:
        observatory.dpp("up", "lab", "--yes")


def _apply(root: Path) -> None:
    """Apply the repository at `root` with its own code: that of the environment's other packages stays."""
    variables = {"PYTHONPATH": f"{root}/src:{root}/workloads/src", "DPP_PYTHON": sys.executable}
    command = [sys.executable, "-P", "-c", "from dpp.cli import main; main()", "up", "lab", "--yes"]
    done = subprocess.run(
        command, cwd=root, env=os.environ | variables, capture_output=True, text=True, check=False, timeout=1800
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def _traces(observatory: Observatory) -> dict[str, Any]:
    """Return all that could be left of a service: users, rights, roles, policies, objects of the cluster, secrets."""
    endpoint = observatory.environment.storage[SITE].endpoint
    secrets, authority = Secrets(observatory.folders.secrets), observatory.logs / "ca.crt"
    authority.write_text(secrets.bundle())

    def policies() -> dict[str, str]:
        s3 = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", verify=str(authority),
            aws_access_key_id="root", aws_secret_access_key=secrets.password(f"s3-root-{SITE}"),
        )  # fmt: skip
        return {one["Name"]: s3.get_bucket_policy(Bucket=one["Name"])["Policy"] for one in s3.list_buckets()["Buckets"]}

    def on_host(command: str) -> list[str]:
        return sorted(observatory.on(HOST, command).splitlines())

    objects = observatory.kubectl(toy.CLUSTER, "get", _KINDS, "--output=name")
    assert objects.returncode == 0, objects.stderr
    return {
        "kafka users": on_host(_KAFKA.format("kafka.admin.ConfigCommand") + " --describe --entity-type users"),
        "kafka rights": on_host(_KAFKA.format("org.apache.kafka.tools.AclCommand") + " --list"),
        "store accounts": on_host("cat /srv/object-store/iam/users.json"),
        "store policies": Vantage.at(SITE, "lab", observatory.folders).run(policies),
        "database roles": on_host(f'psql -qAtU postgres -c "{_ROLES}"'),
        "database members": on_host(f'psql -qAtU postgres -c "{_MEMBERS}"'),
        "objects": sorted(one for one in objects.stdout.split() if not one.startswith(("pod/", "replicaset"))),
        "pods of it": [one for one in objects.stdout.split() if toy.NAME in one],
        "passwords": secrets.passwords(),
    }


@pytest.mark.slow  # every workload is started anew, twice: their image has all their code
def test_a_service_is_added_works_and_leaves_no_trace(observatory: Observatory, tmp_path: Path) -> None:
    before = _traces(observatory)
    assert toy.NAME not in str(before)
    with _added(observatory, tmp_path):
        there = _traces(observatory)
        missed = [what for what, found in there.items() if toy.NAME not in str(found)]
        assert not missed, f"nothing of it in {missed}"
        cluster = Cluster(toy.CLUSTER, "lab", observatory.folders)
        assert not Health(observatory.environment, observatory.folders).ask("event-streaming").reason  # it stamps
        deadline = time.monotonic() + RETURN_SECONDS
        while not (said := cluster.ask("workloads", f"{toy.NAME}:{toy.PORT}", "stamps"))["stamps"]:
            assert time.monotonic() < deadline, said
            time.sleep(1.0)
        assert said["instrument"] == observatory.environment.camera.instrument
    for cluster_name in ("summit", toy.CLUSTER):
        observatory.await_workloads(cluster_name)
    after = _traces(observatory)
    assert {what: found for what, found in after.items() if found != before[what]} == {}
