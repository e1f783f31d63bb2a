"""The example of docs/developers is right: the model takes it, its code keeps to its contract, and it has two files of k8s/."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from dpp.model import rights
from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY
from dpp.model.principals import Principals
from lab import toy

READ = (
    "inventories",
    "services",
    "interfaces",
    "k8s",
    "docs",
    "roles",
    "tests/lab",
    "tests/network",
    "workloads/src/workloads/common",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    for name in READ:
        shutil.copytree(REPOSITORY / name, folder / name, symlinks=True)
    toy.add_to(folder)
    return folder


def test_the_model_takes_it_and_gives_it_rights_of_its_own(root: Path) -> None:
    principals = Principals.load(Environment.load("lab", root), root)
    before = Principals.load(Environment.load("lab"))
    assert set(principals.present) - set(before.present) == {toy.NAME}
    more = set(rights.kafka_rights(principals, "ncsa")) - set(rights.kafka_rights(before, "ncsa"))
    assert {(right.user, right.kind, right.operation) for right in more} == {
        (toy.NAME, "topic", "read"),
        (toy.NAME, "topic", "write"),
        (toy.NAME, "group", "read"),
    }
    assert set(rights.secrets_of(principals, toy.NAME, "ncsa")) == {"kafka", "s3-ncsa", "postgresql"}


def test_it_is_what_the_page_says() -> None:
    found = toy.files()
    assert {path.split("/")[0] for path in found} == {"services", "workloads", "k8s", "docs"}
    assert sum(path.startswith("k8s/") for path in found) == 2
    for path, content in found.items():
        if path.endswith(".py"):
            ast.parse(content)


def test_passwords_of_who_has_gone_are_known(root: Path) -> None:
    principals = Principals.load(Environment.load("lab"))
    made = [secret for name, sites in principals.present.items() for site in sites for secret in rights.secrets_of(principals, name, site).values()]  # fmt: skip
    with_toy = Principals.load(Environment.load("lab", root), root)
    own = set(rights.secrets_of(with_toy, toy.NAME, "ncsa").values())
    kept = ["kafka-admin", "kafka-controller", "s3-root-ncsa", "passphrase"]
    assert set(rights.gone(principals, [*made, *own, *kept])) == own
