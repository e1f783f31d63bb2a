"""What decides that a host is converged anew, and what does not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY
from dpp.rendering import hosts as state

HOSTS = tuple(Environment.load("lab").hosts)
STORES = {"svc01.base", "svc01.ncsa", "st01.in2p3"}
BROKERS = {"svc01.summit", "svc01.ncsa"}
ROUTERS = {host for host in HOSTS if host.startswith("rt")}
_PROGRAM = "from dpp.rendering.hosts import host_state; print([host_state('lab', name).digest for name in ('rt01.summit', 'svc01.ncsa')])"
Changed = Callable[[str, str, str], set[str]]


def test_digest_is_the_same_in_every_process() -> None:
    """Ansible keeps groups in sets, whose order depends on the process's hash seed; a second `up` must change nothing."""
    said = {
        subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1, said


def test_digest_is_the_same_wherever_it_is_worked_out(tmp_path: Path) -> None:
    """What contracts come to at a host is in it, though Ansible's own configuration is found only in the repository."""
    told = {**os.environ, "DPP_CACHE": str(tmp_path)}
    told.pop("ANSIBLE_CONFIG", None)
    said = {
        subprocess.run(
            [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, cwd=folder, env=told
        ).stdout
        for folder in (REPOSITORY, tmp_path)
    }
    assert len(said) == 1, said
    assert "dpp_rights_kafka_rights" in state.host_state("lab", "svc01.ncsa").variables


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Changed:
    """Replace text in a file of a copy of the repository; return the hosts whose digest is another then."""
    for name in ("inventories", "roles", "playbooks", "services", "interfaces", "k8s"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, symlinks=True)
    monkeypatch.setattr(state, "REPOSITORY", tmp_path)

    def read() -> dict[str, str]:
        for cached in (state.inventory, state.all_hosts, state._words, state._tree_digest):
            cached.cache_clear()
        return {host: state.host_state("lab", host).digest for host in HOSTS}

    def change(file: str, old: str, new: str) -> set[str]:
        before, path = read(), tmp_path / file
        text = path.read_text()
        assert old in text, f"{file} has changed: {old!r} is not in it; correct this test"
        path.write_text(text.replace(old, new, 1))
        after = read()
        return {host for host in HOSTS if before[host] != after[host]}

    return change


@pytest.mark.parametrize(
    ("file", "old", "new", "hosts"),
    [
        ("inventories/lab/group_vars/all/camera.yml", "visit_seconds: 45", "visit_seconds: 40", set()),
        ("inventories/lab/group_vars/all/circuits.yml", "rate_mbps: 20000", "rate_mbps: 30000", ROUTERS),
        ("inventories/lab/group_vars/all/topics.yml", "ingested: {partitions: 9", "ingested: {partitions: 8", {"svc01.ncsa"}),
        ("inventories/lab/group_vars/all/storage.yml", "capacity_gib: 8}", "capacity_gib: 9}", {*STORES, "st01.summit"}),
        ("services/main-camera-archiving.yml", "mirrors: [ncsa]", "mirrors: []", {"svc01.ncsa", "svc01.summit"}),
        ("services/data-backbone.yml", "butler: {sites: [ncsa]}", "butler: {sites: [ncsa, base]}", {"svc01.base"}),
        ("services/data-backbone.yml", "btree_gist", "btree_gin", {"svc01.ncsa"}),
        ("services/data-backbone.yml", "one writer", "only writer", set()),
        ("inventories/lab/group_vars/all/connection.yml", "operator", "somebody", set()),
        ("inventories/lab/group_vars/postgresql/figures.yml", "max_connections: 120", "max_connections: 121", {"svc01.ncsa"}),
        ("inventories/lab/hosts.yml", "dpp_address: 10.84.0.21", "dpp_address: 10.84.0.22", set(HOSTS)),
        ("roles/postgresql/templates/etc/postgresql/dpp.conf.j2", "ssl = on", "ssl = yes", {"svc01.ncsa"}),
        ("roles/postgresql/README.md", "PostgreSQL", "Postgres", set()),
        ("roles/kubernetes_node/tasks/kubelet.yml", "Forward packets", "Pass packets", {"k8s01.summit", "k8s01.base", "k8s01.ncsa"}),
        ("playbooks/base_system.yml", "network]", "min]", set(HOSTS)),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" in value else "",
)  # fmt: skip
def test_a_change_converges_whom_it_concerns(changed: Changed, file: str, old: str, new: str, hosts: set[str]) -> None:
    assert changed(file, old, new) == hosts


def test_roles_reach_no_variable_by_a_name_that_they_compute() -> None:
    computed = re.compile(r"\bvars\[|(?:lookup|query|q)\(\s*['\"](?:ansible\.builtin\.)?(?:vars|varnames)['\"]")
    for path in [*REPOSITORY.glob("roles/*/*/**/*"), *REPOSITORY.glob("inventories/**/*.yml")]:
        if path.is_file() and "molecule" not in path.parts and path.suffix in {".yml", ".j2"}:
            assert not computed.search(path.read_text()), path
