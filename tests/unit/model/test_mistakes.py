"""A mistake in any file is refused: which file, which object, what was found, what was expected, and the exit code."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dpp.cli import app
from dpp.model.environment import Environment
from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY
from dpp.model.problems import DeclarationError


@dataclass(frozen=True)
class Mistake:
    """An edit of one file, and how it is to be reported."""

    name: str
    file: str
    old: str
    new: str
    subject: str
    found: str
    expected: str

    def __str__(self) -> str:
        return self.name


ALL = "group_vars/all"
MISTAKES = [
    Mistake(
        "unknown key of the model",
        f"{ALL}/sites.yml",
        "dpp_sites:",
        "dpp_speed: 1\ndpp_sites:",
        "dpp_speed",
        "a key that the model does not know",
        "one of dpp_address",
    ),
    Mistake(
        "unknown key of an object",
        f"{ALL}/sites.yml",
        "asn: 65081",
        "asn: 65081, altitude: 2647",
        "dpp_sites/summit/altitude",
        "the unknown key 'altitude'",
        "a key of the model",
    ),
    Mistake(
        "missing value",
        f"{ALL}/sites.yml",
        "title: CC-IN2P3, ",
        "",
        "dpp_sites/in2p3/title",
        "nothing",
        "a value for 'title'",
    ),
    Mistake(
        "wrong type",
        f"{ALL}/circuits.yml",
        "rate_mbps: 20000",
        "rate_mbps: fast",
        "dpp_circuits/ncsa-in2p3-secondary/rate_mbps",
        "'fast'",
        "valid integer",
    ),
    Mistake(
        "template in a key of the model",
        f"{ALL}/networks.yml",
        "gateway: 10.81.0.254",
        'gateway: "{{ summit_gateway }}"',
        "dpp_networks/summit-hosts/gateway",
        "the template '{{ summit_gateway }}'",
        "a literal value",
    ),
    Mistake(
        "no address",
        "hosts.yml",
        "svc01.base: {dpp_address: 10.82.0.11}",
        "svc01.base: {}",
        "svc01.base/dpp_address",
        "nothing",
        "a value for 'dpp_address'",
    ),
    Mistake(
        "two sites of one number",
        f"{ALL}/sites.yml",
        "asn: 65082",
        "asn: 65081",
        "dpp_sites/base/asn",
        "65081, used by summit too",
        "a number of its own",
    ),
    Mistake(
        "overlapping prefixes",
        f"{ALL}/clusters.yml",
        "pod_prefix: 10.81.64.0/20",
        "pod_prefix: 10.80.0.0/20",
        "dpp_clusters/summit/pod_prefix",
        "10.80.0.0/20, which overlaps 10.80.0.0/31 of dpp_circuits/summit-base-primary",
        "prefixes of their own",
    ),
    Mistake(
        "gateway outside its network",
        f"{ALL}/networks.yml",
        "gateway: 10.83.0.254",
        "gateway: 10.82.0.254",
        "dpp_networks/ncsa-hosts/gateway",
        "10.82.0.254",
        "an address in 10.83.0.0/24",
    ),
    Mistake(
        "address outside its network",
        "hosts.yml",
        "dpp_address: 10.82.0.11",
        "dpp_address: 10.81.0.12",
        "svc01.base/dpp_address",
        "10.81.0.12",
        "an address in 10.82.0.0/24",
    ),
    Mistake(
        "address used twice",
        "hosts.yml",
        "dpp_address: 10.82.0.11",
        "dpp_address: 10.82.0.31",
        "k8s01.base/dpp_address",
        "10.82.0.31, used by svc01.base too",
        "an address of its own",
    ),
    Mistake(
        "host under the wrong site",
        "hosts.yml",
        "svc01.base: {dpp",
        "svc01.ncsa: {dpp",
        "svc01.ncsa",
        "in 2 site groups (base, ncsa)",
        "in exactly one group under `sites`",
    ),
    Mistake(
        "circuit to a host that is not there",
        f"{ALL}/circuits.yml",
        "host: rt02.ncsa, interface: wan1",
        "host: rt09.ncsa, interface: wan1",
        "dpp_circuits/ncsa-in2p3-secondary/a/host",
        "host rt09.ncsa, which does not exist",
        "a host of hosts.yml",
    ),
    Mistake(
        "circuit to a host that is no router",
        f"{ALL}/circuits.yml",
        "host: rt02.ncsa, interface: wan1",
        "host: svc01.ncsa, interface: wan1",
        "dpp_circuits/ncsa-in2p3-secondary/a/host",
        "svc01.ncsa, no border router",
        "a host of group border_router",
    ),
    Mistake(
        "circuit end outside the prefix",
        f"{ALL}/circuits.yml",
        "address: 10.80.0.11}",
        "address: 10.80.0.12}",
        "dpp_circuits/ncsa-in2p3-secondary/b/address",
        "10.80.0.12",
        "an address in 10.80.0.10/31",
    ),
    Mistake(
        "interface used twice",
        f"{ALL}/circuits.yml",
        "rt02.ncsa, interface: wan1",
        "rt02.ncsa, interface: wan0",
        "dpp_circuits/ncsa-in2p3-secondary/a/interface",
        "wan0 of rt02.ncsa, used by base-ncsa-secondary too",
        "an interface per circuit",
    ),
    Mistake(
        "cluster node that is not there",
        f"{ALL}/clusters.yml",
        "control_plane: [k8s01.base], nodes: []",
        "control_plane: [k8s01.base], nodes: [k8s02.base]",
        "dpp_clusters/commissioning/nodes",
        "host k8s02.base, which does not exist",
        "a host of hosts.yml",
    ),
    Mistake(
        "node of another site",
        f"{ALL}/clusters.yml",
        "commissioning: {site: base",
        "commissioning: {site: in2p3",
        "dpp_clusters/commissioning/control_plane",
        "k8s01.base, a host of base",
        "a host of in2p3",
    ),
    Mistake(
        "API served by no control plane host",
        f"{ALL}/clusters.yml",
        "endpoint: k8s01.base",
        "endpoint: svc01.base",
        "dpp_clusters/commissioning/endpoint",
        "svc01.base",
        "one of k8s01.base",
    ),
    Mistake(
        "store on a host without the role",
        f"{ALL}/storage.yml",
        "hosts: [svc01.base]",
        "hosts: [k8s01.base]",
        "dpp_storage/base/hosts",
        "k8s01.base, not in group object_store",
        "a host of group object_store",
    ),
    Mistake(
        "notification of a bucket that is not there",
        f"{ALL}/storage.yml",
        "notify: {bucket: raw,",
        "notify: {bucket: cooked,",
        "dpp_storage/ncsa/notify/bucket",
        "cooked",
        "one of raw, butler, alerts",
    ),
    Mistake(
        "topic at a site without brokers",
        f"{ALL}/topics.yml",
        "dpp.visit.ledger: {home: ncsa",
        "dpp.visit.ledger: {home: base",
        "dpp_topics/dpp.visit.ledger/home",
        "base, which has no broker",
        "one of summit, ncsa",
    ),
    Mistake(
        "topic that loops",
        f"{ALL}/topics.yml",
        "retention_hours: 168, mirrored_to: [ncsa]}",
        "retention_hours: 168, mirrored_to: [summit]}",
        "dpp_topics/lsst.sal.ScriptQueue.logevent_nextVisit/mirrored_to",
        "its home summit",
        "other sites only",
    ),
    Mistake(
        "site without an operations host",
        "hosts.yml",
        "            st01.in2p3:\n        container_registry:",
        "        container_registry:",
        "dpp_sites/in2p3",
        "no host of group operations_host",
        "one, so that it runs without its links",
    ),
    Mistake(
        "cluster without a registry at its site",
        "hosts.yml",
        "            svc01.base:\n            svc01.ncsa:\n        kafka_broker:",
        "            svc01.ncsa:\n        kafka_broker:",
        "dpp_sites/base",
        "no host of group container_registry",
        "one, so that it runs without its links",
    ),
    Mistake(
        "leg with one path",
        f"{ALL}/circuits.yml",
        "{path: secondary, rate_mbps: 20000",
        "{path: primary, rate_mbps: 20000",
        "dpp_sites/in2p3",
        "no secondary circuit",
        "a primary and a secondary path",
    ),
    Mistake(
        "function that is no role",
        "hosts.yml",
        "        postgresql:\n",
        "        postgres:\n",
        "postgres",
        "group postgres",
        "a role of the same name in roles/",
    ),
    Mistake(
        "variable of nobody",
        f"{ALL}/camera.yml",
        "dpp_camera:",
        "spare: 1\ndpp_camera:",
        "spare",
        "a variable that no role declares",
        "ansible_* or an option of some role's argument_specs.yml",
    ),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "inventories/lab", tmp_path / "inventories/lab")
    for specs in REPOSITORY.glob("roles/*/meta/argument_specs.yml"):
        copy = tmp_path / specs.relative_to(REPOSITORY)
        copy.parent.mkdir(parents=True)
        shutil.copy(specs, copy)
        (copy.parents[1] / "tasks").mkdir()
    return tmp_path


def edit(root: Path, file: str, old: str, new: str) -> None:
    path = root / "inventories/lab" / file
    text = path.read_text()
    assert old in text, f"{file} has changed: {old!r} is not in it; correct this test"
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
def test_mistake_is_reported_with_file_object_found_and_expected(root: Path, mistake: Mistake) -> None:
    edit(root, mistake.file, mistake.old, mistake.new)

    with pytest.raises(DeclarationError) as caught:
        Environment.load("lab", root)

    [problem, *_] = [p for p in caught.value.problems if p.subject == mistake.subject] or pytest.fail(str(caught.value))
    assert problem.found == mistake.found
    assert mistake.expected in problem.expected
    assert problem.remedy
    assert problem.file == f"inventories/lab/{mistake.file}" or problem.subject.startswith("dpp_sites")
    assert problem.line is not None


def test_lines_are_those_of_the_values(root: Path) -> None:
    edit(root, f"{ALL}/circuits.yml", "rate_mbps: 20000", "rate_mbps: fast")
    lines = (root / f"inventories/lab/{ALL}/circuits.yml").read_text().splitlines()

    with pytest.raises(DeclarationError) as caught:
        Environment.load("lab", root)

    [problem] = caught.value.problems
    assert "rate_mbps: fast" in lines[(problem.line or 0) - 1]


def test_all_mistakes_are_reported_at_once_and_none_that_only_follows(root: Path) -> None:
    edit(root, f"{ALL}/sites.yml", "asn: 65082", "asn: 65081")
    edit(root, f"{ALL}/circuits.yml", "rate_mbps: 20000", "rate_mbps: fast")
    edit(root, "hosts.yml", "svc01.base: {dpp_address: 10.82.0.11}", "svc01.base: {dpp_address: ten}")

    with pytest.raises(DeclarationError) as caught:
        Environment.load("lab", root)

    assert {problem.subject for problem in caught.value.problems} == {
        "dpp_sites/base/asn",
        "dpp_circuits/ncsa-in2p3-secondary/rate_mbps",
        "svc01.base/dpp_address",
    }


def test_a_variable_of_a_role_must_stand_in_its_specification(root: Path) -> None:
    (root / "roles/kafka_broker/meta").mkdir(parents=True, exist_ok=True)
    specs = root / "roles/kafka_broker/meta/argument_specs.yml"
    specs.write_text("---\nargument_specs: {main: {options: {kafka_broker_heap_mib: {type: int}}}}\n")
    shutil.rmtree(root / "inventories/lab/group_vars/kafka_broker")
    path = root / "inventories/lab/group_vars/kafka_broker.yml"
    path.write_text("---\nkafka_broker_heap_mib: 512\nkafka_broker_heep_mib: 512\n")

    with pytest.raises(DeclarationError) as caught:
        Environment.load("lab", root)

    [problem] = caught.value.problems
    assert (problem.file, problem.line) == ("inventories/lab/group_vars/kafka_broker.yml", 3)
    assert problem.subject == "kafka_broker/kafka_broker_heep_mib"


def test_variables_of_nobody_are_refused(root: Path) -> None:
    (root / "inventories/lab/group_vars/kafka_brokers.yml").write_text("---\nansible_port: 22\n")

    with pytest.raises(DeclarationError, match=r"expected a host or group of hosts.yml"):
        Environment.load("lab", root)


def test_prompt_nodes_must_carry_the_camera(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "inventories/production", tmp_path / "inventories/production")
    pools = tmp_path / "inventories/production/group_vars/all/pools.yml"
    pools.write_text(pools.read_text().replace("prompt_workers: 12", "prompt_workers: 10"))

    with pytest.raises(DeclarationError) as caught:
        Environment.load("production", tmp_path)

    [problem] = [p for p in caught.value.problems if p.subject == "dpp_pools"]
    assert problem.found == "360 prompt workers over all pools"
    assert problem.expected == "378: 189 detectors x 2 visits in flight"


def test_a_file_that_is_no_yaml_is_named(root: Path) -> None:
    edit(root, f"{ALL}/sites.yml", "dpp_sites:", "dpp_sites: [")

    with pytest.raises(FatalError, match=r"sites\.yml"):
        Environment.load("lab", root)


def test_an_environment_that_is_not_there_names_those_that_are(root: Path) -> None:
    with pytest.raises(FatalError, match=r"environment prod: no file .* expected one of lab"):
        Environment.load("prod", root)


def test_check_exits_with_1_and_prints_every_problem_as_json(root: Path) -> None:
    edit(root, f"{ALL}/sites.yml", "asn: 65082", "asn: 65081")

    result = CliRunner().invoke(app, ["model", "check", "lab", "--root", str(root), "--json"])

    assert result.exit_code == 1
    [problem] = json.loads(result.stdout)["problems"]
    assert problem["file"] == "inventories/lab/group_vars/all/sites.yml"
    assert problem["subject"] == "dpp_sites/base/asn"


def test_check_exits_with_0_when_all_is_well(root: Path) -> None:
    result = CliRunner().invoke(app, ["model", "check", "lab", "--root", str(root)])

    assert result.exit_code == 0
    assert "consistent" in result.stdout
