"""A workload that asks for what its contract does not name is refused at start, in words that say what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY
from dpp.model.principals import Principals
from dpp.model.rights import secrets_of
from dpp.model.surroundings import surroundings
from workloads.common import schemas
from workloads.common.consumer import Receiver
from workloads.common.errors import ContractError
from workloads.common.kafka import partitions
from workloads.common.producer import Sender
from workloads.common.s3 import Store
from workloads.common.settings import Settings
from workloads.data_backbone.repository import ensure_repository
from workloads.prompt_processing.apdb import AlertDatabase

Ask = Callable[[Settings], Any]


@pytest.fixture(scope="module")
def principals() -> Principals:
    return Principals.load(Environment.load("lab"))


@pytest.fixture
def settings(principals: Principals, tmp_path: Path) -> Callable[[str, str], Settings]:
    def of(name: str, site: str) -> Settings:
        (tmp_path / "site.yml").write_text(yaml.safe_dump(surroundings(principals, name, site)))
        for secret in secrets_of(principals, name, site):
            (tmp_path / secret).write_text("secret")
        return Settings(tmp_path / "site.yml", tmp_path, tmp_path / "ca.crt")

    return of


@pytest.mark.parametrize(
    ("principal", "site", "ask", "said"),
    [
        ("forwarder", "summit", lambda s: Receiver(s, "summit", "forwarder", ["readouts"]),
         "topic readouts: not to be read at summit; expected one of MTArchiver.logevent_imageStored"),
        ("forwarder", "summit", lambda s: Receiver(s, "summit", "archiver", ["MTArchiver.logevent_imageStored"]),
         "consumer group archiver: none of its groups of topic MTArchiver.logevent_imageStored; expected one of forwarder"),
        ("forwarder", "summit", lambda s: partitions(s, "summit", "forwarder", "ledger"),
         "topic ledger: not to be read at summit; expected one of MTArchiver.logevent_imageStored"),
        ("forwarder", "summit", lambda s: Sender(s, "summit", "readouts"),
         "topic readouts: not to be written at summit; expected one of forwarded"),
        ("data-backbone", "ncsa", lambda s: Sender(s, "summit", "ledger"),
         "topic ledger: not to be written at summit; expected one of none"),
        ("data-backbone", "ncsa", lambda s: Sender(s, "ncsa", "ledger", transactional_id="prompt-processing-1"),
         "transactional id prompt-processing-1: none of its own; expected one of data-backbone"),
        ("forwarder", "summit", lambda s: s.kafka_options("base"),
         "Kafka of site base: none of its own; expected one of ncsa, summit"),
        ("forwarder", "summit", lambda s: Store(s, "summit", "butler"),
         "bucket summit:butler: none of its own; expected one of base:raw, ncsa:raw, summit:raw"),
        ("archiver", "summit", lambda s: Store(s, "ncsa", "raw"),
         "bucket ncsa:raw: none of its own; expected one of summit:raw"),
        ("forwarder", "summit", lambda s: Store(s, "summit", "raw").put("raw", "LSSTCam/a", b""),
         "bucket summit:raw: not to write; expected one of read deleted/LSSTCam/*, read|list LSSTCam/*"),
        ("forwarder", "summit", lambda s: Store(s, "ncsa", "raw").put("raw", "quarantine/a", b""),
         "bucket ncsa:raw: key quarantine/a not to write; expected one of read deleted/LSSTCam/*, read|write|list LSSTCam/*"),
        ("data-backbone", "ncsa", AlertDatabase, "database apdb: none of its own; expected one of butler"),
        ("broker", "ncsa", ensure_repository, "database butler: none of its own; expected one of none"),
        ("broker", "ncsa", lambda s: s.service("schema-registry"),
         "service schema-registry: not to be called; expected one of none"),
    ],
)  # fmt: skip
def test_what_no_contract_names_is_refused(
    settings: Callable[[str, str], Settings], principal: str, site: str, ask: Ask, said: str
) -> None:
    with pytest.raises(ContractError) as caught:
        ask(settings(principal, site))
    assert str(caught.value).startswith(said)
    assert str(caught.value).endswith(f"declare it in the contract of {principal} in services/, or correct the code")


def test_what_a_contract_names_is_had(settings: Callable[[str, str], Settings]) -> None:
    own = settings("prompt-processing", "ncsa")
    assert own.read_topic("ingested", "ncsa", "prompt-processing") == "dpp.raw.ingested"
    assert own.written_topic("alerts", "ncsa") == "lsst-alerts-v11"
    assert own.kafka_options("ncsa")["sasl.username"] == "prompt-processing"
    assert own.database_url("apdb") == "postgresql+psycopg2://svc01.ncsa:5432/apdb?sslmode=verify-full"
    own.require_bucket("alerts", "ncsa", "write", "packets/a")


def test_code_and_schemas_know_no_name_of_kafka(principals: Principals) -> None:
    names = {topic.name for topic in principals.topics.values()}
    for path in (REPOSITORY / "workloads/src").rglob("*"):
        if path.suffix in {".py", ".avsc"} and "pixels" not in path.parts:
            found = {name for name in names if name in path.read_text() and name != "_schemas"}
            assert not found, f"{path} knows {found}"


def test_a_schema_without_a_name_is_called_as_its_topic(principals: Principals) -> None:
    names = {role: topic.name for role, topic in principals.topics.items()}
    readouts = schemas.topics(names)["readouts"]
    assert readouts.subject == "lsst.sal.MTCamera.logevent_endReadout-value"
    assert (readouts.definition["namespace"], readouts.definition["name"]) == ("lsst.sal.MTCamera", "logevent_endReadout")  # fmt: skip
    assert schemas.topics(names)["ledger"].definition["name"] == "stamp"
