"""The client of the control system: what it makes of words, where it finds its site, and how it gets on with the registry."""

from __future__ import annotations

import ast
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from confluent_kafka import Message
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from dpp.model.folders import REPOSITORY
from ports import free_port
from workloads.ocs.interfaces import Interface, UsageError
from workloads.ocs.remote import Remote
from workloads.ocs.surroundings import Surroundings
from workloads.sal.interfaces import component
from workloads.schema_registry.api import Registry, application
from workloads.schema_registry.store import State

TEST = Interface.read("Test")
VARIABLES = {"LSST_KAFKA_BROKER_ADDR": "svc01.summit:9094", "LSST_SCHEMA_REGISTRY_URL": "http://registry:8081"}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("boolean0=yes", True),
        ("boolean0=False", False),
        ("byte0=0x10", 16),
        ("unsignedInt0=4294967295", 4294967295),
        ("double0=1e-3", 0.001),
        ("string0=a=b c", "a=b c"),
    ],
)
def test_words_become_parameters(word: str, value: object) -> None:
    parameters = TEST.parameters("setScalars", [word])
    assert parameters[word.partition("=")[0]] == value
    assert len(parameters) == 11, "the others are what they are where nobody says"


@pytest.mark.parametrize(
    ("command", "word", "said"),
    [
        ("setScalars", "int0=many", "int0=many: expected a whole number from -2147483648 to 2147483647"),
        ("setScalars", "short0=40000", "short0=40000: expected a whole number from -32768 to 32767"),
        ("setScalars", "boolean0=perhaps", "boolean0=perhaps: expected true or false"),
        ("setScalars", "double0=far", "double0=far: expected a number (meter)"),
        ("wait", "seconds=3", "Test wait: seconds=3: expected duration=a number (second); announced="),
        ("wait", "duration", "Test wait: duration: expected duration=a number (second)"),
        ("enable", "now=true", "Test enable: now=true: expected no parameter"),
        ("stop", "", "Test stop: no such command; expected one of disable, enable, exitControl, fail, "),
    ],
)
def test_words_that_do_not_go_with_the_interface_are_refused(command: str, word: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        TEST.parameters(command, [word] if word else [])
    assert said in str(caught.value)


def test_arrays_are_joined_by_commas() -> None:
    (five, two) = TEST.subjects["arrays"].own
    assert five.parse("1,2,3,4,5") == [1, 2, 3, 4, 5]
    with pytest.raises(
        UsageError, match=r"double0=1: 1 values; expected 2 values, joined by commas, each a number \(degree\)"
    ):
        two.parse("1")


def test_devices_and_events_that_there_are_not_are_named_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="device Teapot: there is none; expected one of ATArchiver, "):
        Interface.read("Teapot")
    with pytest.raises(UsageError, match="Test steam: no such event; expected one of configurationApplied, "):
        TEST.watched("steam")


def test_it_finds_its_site_by_the_variables_of_the_observatorys_client(tmp_path: Path) -> None:
    more = tmp_path / "kafka.yml"
    more.write_text("ssl.ca.location: /etc/ca.crt\n")
    at = Surroundings.read(
        {
            **VARIABLES,
            "LSST_TOPIC_SUBNAME": "tests",
            "LSST_KAFKA_SECURITY_USERNAME": "ocs",
            "LSST_KAFKA_SECURITY_PASSWORD": "secret",
            "LSST_KAFKA_BROKER_CLIENT_CONFIGURATION": str(more),
        }
    )
    assert (at.brokers, at.registry, at.subname) == ("svc01.summit:9094", "http://registry:8081", "tests")
    assert at.security == {
        "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "ocs",
        "sasl.password": "secret", "ssl.ca.location": "/etc/ca.crt",
    }  # fmt: skip
    name, _, host = at.identity.partition("@")
    assert name
    assert host


@pytest.mark.parametrize("missing", VARIABLES)
def test_a_variable_that_is_missing_is_named(missing: str) -> None:
    with pytest.raises(UsageError, match=f"environment: {missing} not set"):
        Surroundings.read({name: value for name, value in VARIABLES.items() if name != missing})


def test_numbers_of_commands_begin_at_random_in_a_range_of_each() -> None:
    at = Surroundings("127.0.0.1:1", "http://127.0.0.1:1", identity="observer@control")
    size = (2**31 - 1) // len(TEST.commands)
    begins = set()
    for _ in range(5):
        remote = Remote(TEST, at, 1)
        for place, name in enumerate(TEST.commands):
            first, second = remote._number(name), remote._number(name)
            assert all(1 + place * size <= number <= (place + 1) * size for number in (first, second))
            assert second == first + 1 or second == 1 + place * size
            begins.add(first)
        remote.close()
    assert len(begins) == 5 * len(TEST.commands)


@pytest.mark.parametrize(("device", "index"), [("Test", 0), ("MTArchiver", 1)])
def test_an_index_that_is_none_is_refused(device: str, index: int) -> None:
    with pytest.raises(UsageError, match=f"{device}: index {index}; expected "):
        Remote(Interface.read(device), Surroundings("127.0.0.1:1", "http://127.0.0.1:1"), index)


def test_it_shares_no_code_with_the_devices() -> None:
    folder = REPOSITORY / "workloads/src/workloads/ocs"
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [one for one in names if one.startswith("workloads") and not one.startswith("workloads.ocs")], (
                path
            )


# -- the registry, by its stock client ---------------------------------------------------------------------------------


class Log:
    """The registry's log, without a Kafka."""

    def __init__(self, state: State) -> None:
        self._state = state

    def append(self, key: dict[str, Any], value: dict[str, Any]) -> None:
        self._state.apply(key, value)


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    """Serve a registry, and return its address."""
    state, port = State(), free_port()
    app = application(Registry(state, Log(state)), lambda: True)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def test_other_descriptions_make_another_id_and_are_never_refused(registry: str) -> None:
    client = SchemaRegistryClient({"url": registry})
    topic = component("Test").topics["logevent_scalars"]
    subject = f"{topic.kafka_name()}-value"
    ids = []
    for words in (topic.description, "other words", "words of a later release"):
        schema = Schema(json.dumps(topic.schema | {"description": words}), "AVRO")
        ids.append(client.register_schema(subject, schema))
        assert client.lookup_schema(subject, schema).schema_id == ids[-1]
    assert len(set(ids)) == 3
    again = SchemaRegistryClient({"url": registry})
    assert again.register_schema(subject, Schema(json.dumps(topic.schema), "AVRO")) == ids[0]


@pytest.mark.parametrize("name", ["logevent_scalars", "command_setScalars", "arrays", "ackcmd"])
def test_records_go_from_one_schema_to_the_other_by_names_and_defaults(registry: str, name: str) -> None:
    client = SchemaRegistryClient({"url": registry})
    topic, theirs = component("Test").topics[name], json.loads(TEST.subjects[name].schema)
    context = SerializationContext(topic.kafka_name(), MessageField.VALUE)
    newer = topic.schema | {"fields": [*topic.schema["fields"], {"name": "more", "type": "int", "default": 7}]}
    client.register_schema(f"{topic.kafka_name()}-value", Schema(json.dumps(newer), "AVRO"))
    values = {field.name: field.default for field in topic.fields} | {"private_seqNum": 5, "more": 8}
    written = AvroSerializer(client, json.dumps(newer), conf={"auto.register.schemas": False})(values, context)
    assert written is not None
    fresh = SchemaRegistryClient({"url": registry})
    read = AvroDeserializer(fresh, json.dumps(theirs))(written, context)
    assert read == {name: value for name, value in values.items() if name != "more"}


def test_a_record_of_something_else_is_passed_over(registry: str) -> None:
    remote = Remote(TEST, Surroundings("127.0.0.1:1", registry), 1)
    name = "logevent_scalars"
    topic = component("Test").topics[name].kafka_name()
    other = {"type": "record", "name": "other", "fields": [{"name": "detector", "type": "string"}]}
    number = SchemaRegistryClient({"url": registry}).register_schema("other-value", Schema(json.dumps(other), "AVRO"))
    remote._readers[name] = AvroDeserializer(remote._registry, TEST.subjects[name].schema)
    remote._names[topic] = name
    message = Message(topic=topic, value=b"\0" + number.to_bytes(4, "big") + b"\6abc")
    assert remote._take(message, old=False) is None
    remote.close()
