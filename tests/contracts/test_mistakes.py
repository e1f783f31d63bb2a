"""A mistake in a contract is refused: which file, which principal, what was found, what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY
from dpp.model.principals import Principals
from dpp.model.problems import DeclarationError

SERVICES, ALL, SCHEMAS = "services", "inventories/lab/group_vars/all", "workloads/src/workloads/common/schemas"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a copy of what the model reads."""
    for name in (
        "inventories/lab",
        "interfaces",
        "services",
        "k8s",
        "docs/runbooks",
        "tests/lab",
        "tests/network",
        SCHEMAS,
    ):
        shutil.copytree(REPOSITORY / name, tmp_path / name, symlinks=True)
    shutil.copytree(REPOSITORY / "inventories/derived", tmp_path / "inventories/derived")
    for specs in REPOSITORY.glob("roles/*/meta/argument_specs.yml"):
        copy = tmp_path / specs.relative_to(REPOSITORY)
        copy.parent.mkdir(parents=True)
        shutil.copy(specs, copy)
        (copy.parents[1] / "tasks").mkdir()
    return tmp_path


def mistakes(root: Path) -> dict[str, str]:
    """Return what was found, by file and subject."""
    with pytest.raises(DeclarationError) as caught:
        Principals.load(Environment.load("lab", root), root)
    return {f"{one.file}: {one.subject}": one.found for one in caught.value.problems}


def edit(root: Path, file: str, old: str, new: str) -> None:
    path = root / file
    text = path.read_text()
    assert old in text, f"{file} has changed: {old!r} is not in it; correct this test"
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "subject", "found"),
    [
        ("services/main-camera-archiving.yml", "readouts: [archiver]", "readout: [archiver]",
         "contracts/archiver/consumes", "topic readout, which nobody owns"),
        ("services/schema-registry.yml", "      schemas:", "      ledger: {name: l, home: own, content: registry-log, partitions: One of them.}\n      schemas:",
         "contracts/schema-registry/topics/ledger", "topic ledger, which data-backbone owns too"),
        ("services/main-camera-archiving.yml", "calls: {schema-registry: http, camera: http}", "calls: {schema-registry: grpc, camera: http}",
         "contracts/archiver/calls/schema-registry", "port grpc of schema-registry, which nobody serves"),
        ("services/main-camera-archiving.yml", "    calls: {schema-registry: http}\n", "    calls: {schema-registry: http, camera: http}\n",
         "contracts/forwarder/calls/camera", "port http of camera, which is served to archiver"),
        ("services/data-backbone.yml", "calls: {schema-registry: http}", "calls: {schema-registry: http, archiver: http}",
         "contracts/data-backbone/calls/archiver", "port http of archiver, which nobody serves"),
        ("services/schema-registry.yml", "follows: [schemas]", "follows: [ledger]",
         "contracts/schema-registry/follows", "topic ledger"),
        ("services/level-1-test-environment.yml", "to: [archiver]", "to: [archiver, forwarder]",
         "contracts/camera/serves/http/to", "forwarder, which does not call it"),
        ("services/main-camera-archiving.yml", "logevent_imageStored: [forwarder]", "logevent_imageStored: [archiver]",
         "contracts/forwarder/consumes", "group archiver, which archiver uses as archiver"),
        ("services/main-camera-archiving.yml", "logevent_imageStored: [forwarder]", "logevent_imageStored: [archiver*]",
         "contracts/forwarder/consumes", "group archiver*, which archiver uses as archiver"),
        ("services/alert-distribution.yml", "observes: [broker-*]", "observes: [brokers]",
         "contracts/alert-distribution/observes", "group brokers, which nobody consumes in"),
        ("services/alert-distribution.yml", "    observes:", "    transactions: [prompt-processing-own]\n    observes:",
         "contracts/prompt-processing/transactions", "transactional id prompt-processing-*, which alert-distribution uses as prompt-processing-own"),
        ("services/level-1-test-environment.yml", "lsst.sal.{camera}.", "lsst.sal.{telescope}.",
         "contracts/camera/topics", "parameter telescope of lsst.sal.{telescope}.logevent_endReadout, which nobody declares"),
        ("services/data-backbone.yml", "name: dpp.raw.ingested", "name: dpp.raw.arrivals",
         "contracts/data-backbone/topics/ingested/name", "dpp.raw.arrivals, the name of arrivals too"),
        ("services/data-backbone.yml", "home: ncsa", "home: base",
         "contracts/data-backbone/topics/arrivals/home", "base, which has no broker"),
        ("services/level-1-test-environment.yml", "mirrors: [ncsa]", "mirrors: [ncsa, summit]",
         "contracts/camera/topics/next-visit/mirrors", "its home summit"),
        ("services/data-backbone.yml", "arrivals_in: raw", "arrivals_in: cooked",
         "contracts/data-backbone/topics", "bucket cooked, which nobody owns"),
        ("services/data-backbone.yml", "bucket: butler, may", "bucket: margarine, may",
         "contracts/data-backbone/stores", "bucket margarine, which nobody owns"),
        ("services/itc-provisioning.yml", "sites: [ncsa]", "sites: [base]",
         "contracts/operator/stores", "bucket butler of base, which that store does not have"),
        ("services/data-backbone.yml", "writes: [butler]", "writes: [butler, apdp]",
         "contracts/data-backbone/writes", "database apdp, which nobody owns"),
        ("services/data-backbone.yml", "{site: ncsa, extensions", "{site: base, extensions",
         "contracts/data-backbone/databases/butler/site", "base, which has no database server"),
        ("services/event-streaming.yml", "group: kafka_broker", "group: kafka_brokers",
         "contracts/mirror/group", "kafka_brokers"),
        (f"{ALL}/topics.yml", "  readouts: {partitions: 1}\n", "", "dpp_topics/readouts", "nothing"),
        (f"{ALL}/topics.yml", "  readouts: {", "  readout: {partitions: 1}\n  readouts: {",
         "dpp_topics/readout", "figures of a topic that nobody owns"),
        (f"{ALL}/volumes.yml", "  forwarder-journal", "  forwarder-diary",
         "dpp_volumes/forwarder-diary", "a volume of nobody who runs here"),
        (f"{ALL}/volumes.yml", "archiver-journal: {node: k8s01.summit", "archiver-journal: {node: k8s01.base",
         "dpp_volumes/archiver-journal/node", "k8s01.base"),
    ],
)  # fmt: skip
def test_a_mistake_is_found_where_it_is(root: Path, file: str, old: str, new: str, subject: str, found: str) -> None:
    edit(root, file, old, new)

    assert (
        mistakes(root)[
            f"{file if subject != 'contracts/prompt-processing/transactions' else 'services/main-camera-prompt-processing.yml'}: {subject}"
        ]
        == found
    )


def test_what_is_called_runs_beside_its_caller(root: Path) -> None:
    edit(root, "k8s/clusters/lab/ncsa/kustomization.yaml", "  - ../../../schema-registry\n", "")

    found = mistakes(root)["services/data-backbone.yml: contracts/data-backbone/calls/schema-registry"]
    assert found == "schema-registry, which cluster ncsa does not run"


def test_only_a_stand_in_is_outside_and_only_where_it_does_not_run(root: Path) -> None:
    (root / ALL / "outside.yml").write_text("---\ndpp_outside: {camera: {site: summit}, forwarder: {site: summit}}\n")

    found = mistakes(root)
    assert found[f"{ALL}/outside.yml: dpp_outside/camera"] == "camera, which cluster summit runs"
    assert found[f"{ALL}/outside.yml: dpp_outside/forwarder"] == "forwarder, which stands in for nobody"


def test_every_schema_is_a_topics_and_every_topic_of_records_has_one(root: Path) -> None:
    path = next((root / SCHEMAS).glob("10007.*"))
    path.rename(path.with_name("10007.diary.avsc"))

    found = mistakes(root)
    assert found["services/data-backbone.yml: contracts/data-backbone/topics/ledger/content"] == "no schema"
    assert found[f"{SCHEMAS}/10007.diary.avsc: diary"] == "a schema of no topic"


def test_a_contract_has_one_service(root: Path) -> None:
    edit(root, "services/event-streaming.yml", "  mirror:", "  operator:")

    assert (
        mistakes(root)["services/itc-provisioning.yml: contracts/operator"] == "a contract that event-streaming has too"
    )


def test_what_follows_from_a_contract_is_not_written_again(root: Path) -> None:
    edit(root, "services/data-backbone.yml", "dependencies: [", "dependencies: [object-storage, ")

    assert mistakes(root)["services/data-backbone.yml: dependencies"] == "object-storage"


def test_a_devices_topics_are_not_declared_by_hand(root: Path) -> None:
    topic = "{name: a.b, home: summit, content: sal, partitions: By hand and alone.}"
    edit(
        root,
        "services/data-backbone.yml",
        "    topics:\n",
        f"    topics:\n      MTArchiver.logevent_heartbeat: {topic}\n",
    )

    key = "services/data-backbone.yml: contracts/data-backbone/topics/MTArchiver.logevent_heartbeat"
    assert mistakes(root)[key] == "a device's topic"


def test_what_a_contract_owns_is_not_retired(root: Path) -> None:
    (root / ALL / "retired.yml").write_text("---\ndpp_retired: {topics: [dpp.visit.ledger], databases: [apdb, gone]}\n")
    assert mistakes(root) == {
        f"{ALL}/retired.yml: dpp_retired/topics": "dpp.visit.ledger, which a contract in services/ owns",
        f"{ALL}/retired.yml: dpp_retired/databases": "apdb, which a contract in services/ owns",
    }
