"""The catalogue has every service of the concept of operations, and its statuses are honest."""

from pathlib import Path

import pytest

from dpp.cli.service import show
from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY
from dpp.model.principals import clusters_of_workloads
from dpp.model.problems import DeclarationError
from dpp.model.services import Catalogue
from dpp.operations.health import QUESTIONS
from lab.services import WORKLOADS, Deployed
from workloads.health import questions

CONCEPT = {
    "level-1": {
        "main-camera-prompt-processing", "main-camera-archiving", "alert-distribution", "auxiliary-telescope", "telemetry-gateway",
        "observatory-operations-data", "ocs-driven-batch", "efd-replication", "commissioning-cluster", "summit-data",
        "offline-level-1-processing", "first-order-quality-assurance", "level-1-test-environment",
    },
    "level-2": {
        "batch-production", "annual-release-processing", "calibration-processing", "special-programs",
        "batch-framework-upgrade-testing", "payload-testing",
    },
    "data-backbone": {"data-backbone"},
    "data-access": {"data-access-hosting"},
    "development-support": {"development-support"},
    "miscellaneous": {"miscellaneous", "authentication-and-authorization"},
    "itc": {"itc-provisioning", "chilean-itc", "ncsa-itc", "satellite-itc"},
    "wan": {"wide-area-network"},
    "management": {
        "service-management", "service-design", "service-transition", "change-management", "release-management",
        "configuration-management", "service-delivery", "request-response", "incident-response", "problem-management",
    },
}  # fmt: skip
"""Names of the services in the concept of operations, by chapter."""


def test_every_service_of_the_concept_of_operations_is_there() -> None:
    services = Catalogue.load().services.values()

    for chapter, names in CONCEPT.items():
        assert {service.name for service in services if service.chapter == chapter} == names


def test_no_service_depends_on_a_less_urgent_tier_by_mistake() -> None:
    catalogue = Catalogue.load()
    allowed = {"operational": 2, "critical": 1, "real-time": 0}
    for service in catalogue.services.values():
        if service.tier == "real-time":
            slow = [name for name in service.dependencies if allowed[catalogue.services[name].tier] == 2]
            assert not slow, f"services/{service.name}.yml: a real-time service depends on {slow}; raise their tier"


def test_every_workload_is_named_by_a_service() -> None:
    named = {workload for service in Catalogue.load().services.values() for workload in service.workloads}
    there = {path.parent.name for path in (REPOSITORY / "k8s").glob("*/kustomization.yaml")} - {
        "clusters",
        "components",
    }

    assert there <= named, f"name {sorted(there - named)} in services/*.yml: nothing runs that no service answers for"


def test_every_role_is_named_by_a_service() -> None:
    named = {role for service in Catalogue.load().services.values() for role in service.roles}

    assert {path.parent.name for path in (REPOSITORY / "roles").glob("*/tasks")} <= named


def test_what_is_proved_is_proved_end_to_end() -> None:
    for service in Catalogue.load().services.values():
        if service.status == "lab":
            assert (service.test or "").startswith(("tests/lab/", "tests/network/")), service.name


def test_what_is_proved_runs_in_the_lab() -> None:
    running = clusters_of_workloads(Environment.load("lab"))
    for service in Catalogue.load().services.values():
        if service.status == "lab":
            assert set(service.workloads) <= set(running), f"services/{service.name}.yml: not in k8s/clusters/lab"


def test_what_is_proved_fails_without_its_workload() -> None:
    catalogue, lab = Catalogue.load().services, Environment.load("lab")
    running = {name for name, service in catalogue.items() if service.workloads or service.roles}
    assert set(WORKLOADS) == {name for name in running if catalogue[name].status == "lab"}
    for name, workload in WORKLOADS.items():
        if isinstance(workload, Deployed):
            assert workload.name in catalogue[name].workloads, name
            assert workload.cluster in clusters_of_workloads(lab)[workload.name], name
        else:
            assert workload.role in catalogue[name].roles, name
            assert lab.hosts_of(workload.site, workload.role), name


def test_every_service_of_the_lab_has_a_question() -> None:
    assert set(QUESTIONS) == set(WORKLOADS)
    assert set(questions.QUESTIONS) < set(QUESTIONS)


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ("data-backbone", "embargo"),
        ("main-camera-archiving", "deleted at the summit"),
        ("main-camera-archiving", "within 7 s of readout"),
        ("main-camera-prompt-processing", "40 000 in one visit"),
        ("object-storage", "or its loss is reported"),
        ("object-storage", "twice the repair time"),
        ("relational-databases", "five minutes of committed"),
        ("alert-distribution", "filtering service"),
        ("event-streaming", "loss of one broker"),
    ],
)
def test_what_nothing_provides_is_called_planned(capsys: pytest.CaptureFixture[str], service: str, said: str) -> None:
    (objective,) = [one for one in Catalogue.load().service(service).objectives if said in one.text]
    assert objective.planned
    show(service)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if said in line]
    assert " (planned): " in line


def _write(root: Path, name: str, **changes: str) -> None:
    fields = {
        "title": name, "chapter": "internal", "owner": "infrastructure", "tier": "critical", "status": "planned",
        "description": "x" * 80, "objectives": "[{requirement: house, text: Works all the time.}]",
    } | changes  # fmt: skip
    (root / "services").mkdir(exist_ok=True)
    (root / f"services/{name}.yml").write_text("---\n" + "".join(f"{key}: {value}\n" for key, value in fields.items()))


@pytest.mark.parametrize(
    ("changes", "subject", "found"),
    [
        ({"dependencies": "[nobody]"}, "dependencies", "service nobody, which does not exist"),
        ({"status": "lab"}, "test", "nothing"),
        ({"status": "lab", "test": "tests/lab/test_night.py::test_x"}, "test", "tests/lab/test_night.py::test_x"),
        ({"contracts": "{nowhere: {about: does nothing}}"}, "workloads", "nowhere"),
        ({"contracts": "{one: {about: does nothing, group: g, may: 1}}"}, "contracts/one/may", "1"),
        ({"roles": "[nothing]"}, "roles", "nothing"),
        ({"runbook": "docs/runbooks/none.md"}, "runbook", "docs/runbooks/none.md"),
        ({"tier": "soon"}, "tier", "'soon'"),
        ({"prize": "1"}, "prize", "1"),
        ({"dependencies": "[one]"}, "dependencies", "the cycle one -> one"),
    ],
)
def test_a_mistake_in_a_service_is_refused(tmp_path: Path, changes: dict[str, str], subject: str, found: str) -> None:
    _write(tmp_path, "container-platform")
    _write(tmp_path, "one", **changes)

    with pytest.raises(DeclarationError) as caught:
        Catalogue.load(tmp_path)

    [problem] = caught.value.problems
    assert (problem.file, problem.subject, problem.found) == ("services/one.yml", subject, found)


def test_a_cycle_names_its_members(tmp_path: Path) -> None:
    _write(tmp_path, "one", dependencies="[two]")
    _write(tmp_path, "two", dependencies="[one]")

    with pytest.raises(DeclarationError, match=r"the cycle (one -> two -> one|two -> one -> two)"):
        Catalogue.load(tmp_path)


def test_a_named_test_that_exists_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_a.py").write_text("def test_it():\n    pass\n")
    _write(tmp_path, "one", status="lab", test="tests/test_a.py::test_it")

    assert Catalogue.load(tmp_path).services["one"].status == "lab"
