"""A mistake in any file is refused: which file, which object, what was found, what was expected, and the exit code."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dpp.cli import app
from dpp.model.environment import Environment
from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY
from dpp.model.problems import DeclarationError
from unit.model.mistakes import ALL, MISTAKES, Mistake


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "inventories/lab", tmp_path / "inventories/lab")
    for specs in REPOSITORY.glob("roles/*/meta/argument_specs.yml"):
        copy = tmp_path / specs.relative_to(REPOSITORY)
        copy.parent.mkdir(parents=True)
        shutil.copy(specs, copy)
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
    assert problem.expected == "402: 189 detectors x 2 visits in flight, 24 spare"


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


def test_check_exits_with_0_when_all_is_well() -> None:
    result = CliRunner().invoke(app, ["model", "check", "lab"])

    assert result.exit_code == 0
    assert "consistent" in result.stdout
