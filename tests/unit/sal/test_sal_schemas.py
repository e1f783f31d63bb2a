"""Schemas, keys and numbers are those that the observatory's client expects; three readers of the interfaces agree on them."""

from __future__ import annotations

import hashlib
import json

import fastavro
import pytest

from dpp.model.interfaces import TYPES, Component, read_interfaces
from workloads.common.errors import NonRetriableError
from workloads.ocs.interfaces import Interface
from workloads.sal import interfaces as devices

COMPONENTS = read_interfaces()
HEARTBEAT = {
    "type": "record",
    "name": "logevent_heartbeat",
    "namespace": "lsst.sal.MTArchiver",
    "fields": [
        {"name": "private_sndStamp", "type": "double", "default": 0.0, "description": "When it was sent, TAI", "units": "second"},
        {"name": "private_rcvStamp", "type": "double", "default": 0.0,
         "description": "When it was received, TAI; the reader sets it", "units": "second"},
        {"name": "private_efdStamp", "type": "double", "default": 0.0, "description": "When it was sent, UTC", "units": "second"},
        {"name": "private_kafkaStamp", "type": "double", "default": 0.0, "description": "When it was given to Kafka, TAI",
         "units": "second"},
        {"name": "private_seqNum", "type": "int", "default": 0, "description": "Number of the record, from 1", "units": "unitless"},
        {"name": "private_revCode", "type": "string", "default": "",
         "description": "Revision of the schema: it changes with any of its words", "units": "unitless"},
        {"name": "private_identity", "type": "string", "default": "",
         "description": "Who sent it: name, or name and index, of a component; user@host of a person", "units": "unitless"},
        {"name": "private_origin", "type": "int", "default": 0, "description": "Number of the process that sent it",
         "units": "unitless"},
        {"name": "heartbeat", "type": "boolean", "default": False, "description": "Means nothing", "units": "unitless"},
    ],
    "description": "A sign of life, once a second",
}  # fmt: skip
ARRAYS = [
    {"name": "int0", "type": {"type": "array", "items": "int"}, "default": [0, 0, 0, 0, 0], "description": "Five numbers",
     "units": "unitless"},
    {"name": "double0", "type": {"type": "array", "items": "double"}, "default": [0.0, 0.0], "description": "Two angles",
     "units": "degree"},
]  # fmt: skip
PRIVATE = ["sndStamp", "rcvStamp", "efdStamp", "kafkaStamp", "seqNum", "revCode", "identity", "origin"]
AVRO = {
    "boolean0": "boolean", "byte0": "int", "short0": "int", "int0": "int", "long0": "int", "longLong0": "long",
    "unsignedShort0": "int", "unsignedInt0": "long", "float0": "float", "double0": "double", "string0": "string",
}  # fmt: skip


def test_the_schema_of_an_event_is_the_expected_one_to_the_letter() -> None:
    topic = devices.component("MTArchiver").topics["logevent_heartbeat"]
    assert json.dumps(topic.schema) == json.dumps(HEARTBEAT)


def test_the_revision_is_the_digest_of_the_indented_schema() -> None:
    topic = devices.component("MTArchiver").topics["logevent_heartbeat"]
    assert topic.revision == hashlib.md5(json.dumps(HEARTBEAT, indent=4).encode()).hexdigest()[:8]  # noqa: S324


def test_an_indexed_component_says_its_index_first_and_arrays_have_a_length() -> None:
    fields = devices.component("Test").topics["arrays"].schema["fields"]
    assert fields[0]["name"] == "salIndex"
    assert [one["name"] for one in fields[1:9]] == [f"private_{name}" for name in PRIVATE]
    assert fields[9:] == ARRAYS


def test_each_type_becomes_its_own_in_avro() -> None:
    topic = devices.component("Test").topics["logevent_scalars"]
    assert {field.name: field.type for field in topic.own} == AVRO


def test_an_acknowledgement_has_its_fields_in_order() -> None:
    topic = devices.component("MTArchiver").topics["ackcmd"]
    assert [field.name for field in topic.own] == ["ack", "error", "result", "identity", "origin", "cmdtype", "timeout"]
    assert topic.schema["name"] == "ackcmd"


def test_keys_are_the_texts_that_clients_expect() -> None:
    oods, test = devices.component("MTOODS"), devices.component("Test")
    assert oods.topics["logevent_heartbeat"].key(0) == '{ "name": "MTOODS", "topic": "logevent_heartbeat" }'
    assert test.topics["command_wait"].key(3) == '{ "name": "Test", "index": 3, "topic": "command_wait" }'
    assert test.topics["ackcmd"].key(3) == '{ "name": "Test", "index": 3, "topic": "ackcmd" }'
    assert test.topics["arrays"].key(3) is None


def test_the_name_in_kafka_follows_the_subname_and_the_schema_does_not() -> None:
    topic = devices.component("MTOODS").topics["logevent_imageInOODS"]
    assert topic.kafka_name() == "lsst.sal.MTOODS.logevent_imageInOODS"
    assert topic.kafka_name("tests") == "lsst.tests.MTOODS.logevent_imageInOODS"
    assert topic.schema["namespace"] == "lsst.sal.MTOODS"


def test_commands_are_numbered_in_the_order_of_their_names() -> None:
    assert devices.component("OCPS").commands == (
        "abort_job", "disable", "enable", "execute", "exitControl", "setLogLevel", "standby", "start",
    )  # fmt: skip


def test_identities_have_an_index_where_there_may_be_several() -> None:
    assert devices.component("MTOODS").identity(0) == "MTOODS"
    assert devices.component("OCPS").identity(101) == "OCPS:101"
    with pytest.raises(NonRetriableError, match="OCPS: index 0, expected one above 0"):
        devices.component("OCPS").identity(0)
    with pytest.raises(NonRetriableError, match="MTOODS: index 2, expected 0"):
        devices.component("MTOODS").identity(2)


def test_an_unknown_component_is_named_with_those_that_there_are() -> None:
    with pytest.raises(NonRetriableError, match=r"component MTTeapot: .* expected one of ATArchiver, "):
        devices.component("MTTeapot")


@pytest.mark.parametrize("component", COMPONENTS.values(), ids=lambda one: one.name)
def test_model_device_and_client_read_the_same(component: Component) -> None:
    device, client = devices.component(component.name), Interface.read(component.name)
    assert set(device.topics) == set(client.subjects) == {*component.topics, "ackcmd"}
    assert device.indexed == client.indexed == component.indexed
    assert list(device.commands) == client.commands == [one.name[8:] for one in component.of_kind("command")]
    for name, topic in component.topics.items():
        said = [(one.name, TYPES[one.type], one.count, one.units, one.description) for one in topic.fields]
        assert said == [(one.name, one.type, one.count, one.units, one.description) for one in device.topics[name].own]
        assert said == [(one.name, one.avro, one.count, one.units, one.about) for one in client.subjects[name].own]
    for name, topic in device.topics.items():
        theirs = json.loads(client.subjects[name].schema)
        fastavro.parse_schema(theirs)
        assert [one["name"] for one in theirs["fields"]] == [one["name"] for one in topic.schema["fields"]]
        assert [one["type"] for one in theirs["fields"]] == [one["type"] for one in topic.schema["fields"]]
        assert [one["default"] for one in theirs["fields"]] == [one["default"] for one in topic.schema["fields"]]
        assert client.subjects[name].key(7) == topic.key(7) or topic.key(7) is None


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("byte0", 1.5, "1.5, expected a value of type int"),
        ("boolean0", 1, "1, expected a value of type boolean"),
        ("int0", True, "True, expected a value of type int"),
        ("int0", 1 << 31, "2147483648, expected a value of type int"),
        ("unsignedInt0", (1 << 32) - 1, ""),
        ("double0", 1, ""),
        ("double0", "1", "'1', expected a value of type double"),
        ("string0", None, "None, expected a value of type string"),
    ],
)
def test_values_are_held_to_their_types(field: str, value: object, said: str) -> None:
    fields = {one.name: one for one in devices.component("Test").topics["logevent_scalars"].own}
    assert fields[field].problem(value) == said


def test_an_array_is_held_to_its_length() -> None:
    (five, _) = devices.component("Test").topics["arrays"].own
    assert five.problem([1, 2, 3]) == "[1, 2, 3], expected 5 values of type int"
    assert five.problem([1, 2, 3, 4, "5"]) == "'5', expected a value of type int"
    assert five.problem((1, 2, 3, 4, 5)) == ""
