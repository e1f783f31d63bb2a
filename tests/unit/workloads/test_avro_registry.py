"""Wire format and the registry's rules."""

from __future__ import annotations

import io
import json

import fastavro
import httpx
import pytest
from starlette.testclient import TestClient

from workloads.common import schemas
from workloads.common.avro import Codec, frame, unframe
from workloads.common.errors import AwayError, NonRetriableError, RetriableError, UnknownSchemaError
from workloads.common.registry import RegistryClient
from workloads.schema_registry.api import Registry, application
from workloads.schema_registry.store import State


class Memory:
    """A log that applies at once; the real one waits until Kafka gives the record back."""

    def __init__(self, state):
        self.state = state
        self.records = []

    def append(self, key, value):
        self.records.append((key, value))
        if key["kind"] in ("schema", "mode", "config"):
            self.state.apply(key, value)


@pytest.fixture
def client():
    state = State()
    test = TestClient(application(Registry(state, Memory(state)), lambda: True))
    test.put("/mode", json={"mode": "IMPORT"})
    for one in [*schemas.topics({"ledger": "a.ledger"}).values(), *schemas.alerts().values()]:
        answer = test.post(
            f"/subjects/{one.subject}/versions", json={"schema": json.dumps(one.definition), "id": one.id}
        )
        assert answer.json() == {"id": one.id}
    test.put("/mode", json={"mode": "READWRITE"})
    return test


@pytest.fixture
def codec(client):
    registry = RegistryClient("http://registry")
    registry._client = client
    return Codec({"ledger": "a.ledger"}, registry)


def test_alert_ids_are_100_major_plus_minor(client):
    assert client.get("/subjects/lsst-alerts-v11.0-value/versions/latest").json()["id"] == 1100
    assert json.loads(client.get("/schemas/ids/701").json()["schema"])["name"].endswith("v7_1.alert")


def test_the_order_of_keys_makes_no_new_schema(client):
    newest = schemas.alerts()["11.1"]
    turned = dict(reversed(newest.definition.items()))
    answer = client.post("/subjects/lsst-alerts-v11-value/versions", json={"schema": json.dumps(turned)})
    assert answer.json() == {"id": newest.id}


def test_imported_ids_need_import_mode_and_cannot_change(client):
    schema = json.dumps({"type": "string"})
    refused = client.post("/subjects/a-value/versions", json={"schema": schema, "id": 5})
    assert (refused.status_code, refused.json()["error_code"]) == (422, 42205)
    client.put("/mode", json={"mode": "IMPORT"})
    assert client.post("/subjects/a-value/versions", json={"schema": schema, "id": 1100}).json()["error_code"] == 42205


def test_same_schema_is_the_same_id_and_version(client):
    schema = json.dumps({"type": "record", "name": "r", "fields": [{"name": "a", "type": "int"}]})
    first = client.post("/subjects/r-value/versions", json={"schema": schema}).json()["id"]
    assert first >= 20001
    assert client.post("/subjects/r-value/versions", json={"schema": schema}).json()["id"] == first
    assert client.post("/subjects/other-value/versions", json={"schema": schema}).json()["id"] == first
    assert client.get("/subjects/r-value/versions").json() == [1]
    assert client.post("/subjects/r-value", json={"schema": schema}).json()["version"] == 1
    assert {one["subject"] for one in client.get(f"/schemas/ids/{first}/versions").json()} == {"r-value", "other-value"}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/subjects/no/versions", 40401),
        ("/subjects/lsst-alerts-v11.0-value/versions/9", 40402),
        ("/schemas/ids/99999", 40403),
        ("/schemas/ids/x", 40403),
    ],
)
def test_what_is_not_there_has_the_codes_that_clients_know(client, path, code):
    answer = client.get(path)
    assert (answer.status_code, answer.json()["error_code"]) == (404, code)


def test_what_is_no_schema_is_refused(client):
    answer = client.post("/subjects/x-value/versions", json={"schema": '{"type": "recrod"}'})
    assert (answer.status_code, answer.json()["error_code"]) == (422, 42201)


STRING = '{"type": "string"}'


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"hello", 400, "no JSON"),
        (b"", 400, "no JSON"),
        (b"\xff\xfe", 400, "no JSON"),
        (b"[1, 2]", 400, "a list, expected a JSON object"),
        (b'"text"', 400, "a str, expected"),
        (b"[" * 100000, 400, "no JSON"),
        (json.dumps({"schema": STRING, "id": "x"}).encode(), 422, "id 'x'"),
        (json.dumps({"schema": STRING, "id": 1.5}).encode(), 422, "id 1.5"),
        (json.dumps({"schema": STRING, "id": 0}).encode(), 422, "id 0"),
        (json.dumps({"schema": STRING, "id": 2**40}).encode(), 422, "expected a number of 1 to"),
        (json.dumps({"schema": None}).encode(), 422, "Invalid Avro schema"),
        (json.dumps({"schema": {"type": "string"}}).encode(), 422, "expected its JSON as a text"),
        (json.dumps({"schema": "[1]"}).encode(), 422, "Invalid Avro schema"),
        (json.dumps({"schema": "7"}).encode(), 422, "Invalid Avro schema"),
        (json.dumps({"schema": STRING, "references": [{"name": "a"}]}).encode(), 422, "references"),
        (json.dumps({"schema": STRING, "schemaType": "PROTOBUF"}).encode(), 422, "only AVRO"),
    ],
)
def test_whatever_a_body_is_the_refusal_is_json_with_a_code(client, body, status, said):
    for path in ("/subjects/x-value/versions", "/subjects/lsst-alerts-v11.0-value"):
        answer = client.post(path, content=body)
        if b'"id":' in body and path.endswith("v11.0-value"):
            continue  # a lookup asks for no id
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/vnd.schemaregistry.v1+json"
        assert isinstance(answer.json()["error_code"], int)
        assert said in answer.json()["message"] or answer.json()["error_code"] == 40401


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", f"/schemas/ids/{'9' * 5000}", None, 404),
        ("GET", f"/schemas/ids/{'9' * 5000}/schema", None, 404),
        ("GET", f"/subjects/lsst-alerts-v11.0-value/versions/{'9' * 5000}", None, 422),
        ("GET", "/subjects/%FF%FE/versions", None, 404),
        ("POST", "/subjects/x-value/versions", b'{"schemaType": "\\ud800"}', 422),
        ("PUT", "/mode", b'{"mode": "\\ud800"}', 422),
        ("PUT", "/config", b'{"compatibility": "\\ud800"}', 422),
        ("POST", "/subjects/x-value/versions", json.dumps({"schema": "[" * 5000}).encode(), 422),
    ],
)
def test_no_request_is_answered_as_a_fault_of_the_server(client, method, path, body, status):
    """A fault of the server is one that clients repeat."""
    answer = client.request(method, path, content=body)
    assert answer.status_code == status
    assert isinstance(answer.json()["error_code"], int)


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (422, b'{"error_code": 42201}', NonRetriableError),
        (409, b"not compatible", NonRetriableError),
        (405, b"", NonRetriableError),
        (500, b"{}", RetriableError),
        (200, b"<html>a proxy</html>", RetriableError),
    ],
)
def test_our_client_repeats_only_what_may_be_answered_later(status, content, kind):
    registry = RegistryClient("http://registry")
    answers = httpx.MockTransport(lambda _: httpx.Response(status, content=content))
    registry._client = httpx.Client(base_url="http://registry", transport=answers)
    for ask in (
        registry.subjects,
        lambda: registry.schema(7),
        lambda: registry.register("a/b-value", {"type": "string"}),
    ):
        with pytest.raises(kind):
            ask()


def test_our_client_names_subjects_as_they_are(client):
    registry = RegistryClient("http://registry")
    registry._client = client
    number = registry.register("a/b c-value", {"type": "string"})
    assert registry.register("a/b c-value", {"type": "string"}) == number
    assert "a/b c-value" in registry.subjects()


@pytest.mark.parametrize(
    ("written", "subject"),
    [
        ("a%2Fb-value", "a/b-value"),
        ("%2Fa%2Fb%2Fc-value", "/a/b/c-value"),
        ("a%20b%3F%23-value", "a b?#-value"),
        ("%CE%B7-value", "\N{GREEK SMALL LETTER ETA}-value"),
        ("versions", "versions"),
    ],
)
def test_subjects_may_have_slashes_and_whatever_else_has_a_form_in_a_path(client, written, subject):
    path = f"/subjects/{written}/versions"
    number = client.post(path, json={"schema": STRING}).json()["id"]
    assert client.get(path).json() == [1]
    assert client.get(f"{path}/1").json()["subject"] == subject
    assert client.post(f"/subjects/{written}", json={"schema": STRING}).json()["id"] == number
    assert client.get(f"/schemas/ids/{number}/subjects").json() == [subject]


def test_versions_are_numbers_latest_or_minus_one(client):
    path = "/subjects/lsst-alerts-v11.0-value/versions"
    assert client.get(f"{path}/-1").json() == client.get(f"{path}/latest").json()
    for wrong in ("0", "-2", "x", "1.0"):
        answer = client.get(f"{path}/{wrong}")
        assert (answer.status_code, answer.json()["error_code"]) == (422, 42202)


def test_calls_of_stock_clients_are_answered_or_refused_in_words(client):
    schema = json.loads(client.get("/schemas/ids/1100").json()["schema"])
    assert client.get("/schemas/ids/1100/schema").json() == schema
    assert client.get("/subjects/lsst-alerts-v11.0-value/versions/1/schema").json() == schema
    assert client.get("/subjects/lsst-alerts-v11.0-value/versions/1/referencedby").json() == []
    for path in ("versions/latest", "versions"):
        answer = client.post(f"/compatibility/subjects/lsst-alerts-v11.0-value/{path}", json={"schema": STRING})
        assert answer.json() == {"is_compatible": True}
    assert client.post("/compatibility/subjects/no/versions/latest", json={"schema": STRING}).json() == {
        "is_compatible": True
    }
    assert client.post("/compatibility/subjects/no/versions/1", json={"schema": STRING}).json()["error_code"] == 40401
    for path in ("/subjects/a-value", "/subjects/a-value/versions/1", "/mode/a", "/config"):
        answer = client.delete(path)
        assert (answer.status_code, answer.json()["error_code"]) == (405, 405)
        assert "forgets nothing" in answer.json()["message"]
    for method, path, status in (("GET", "/nothing/here", 404), ("PATCH", "/subjects", 405), ("PUT", "/subjects", 405)):
        answer = client.request(method, path)
        assert (answer.status_code, answer.json()["error_code"]) == (status, status)


def test_records_round_trip_and_are_framed(codec):
    record = {
        "groupId": "g",
        "obsId": "o",
        "detector": "R22_S00",
        "step": "arrived",
        "time": 1.5,
        "service": "s",
        "site": "ncsa",
        "reason": "",
        "figures": {"bytes": 3.0},
    }
    message = codec.encode("ledger", record)
    assert message[:5] == b"\0" + (10007).to_bytes(4, "big")
    assert codec.decode("ledger", message) == record


@pytest.mark.parametrize(
    "damage", [lambda m: b"\1" + m[1:], lambda m: m[:3], lambda m: m[:-4], lambda _: frame(10007, b"")]
)
def test_damaged_messages_are_named_not_guessed(codec, damage):
    record = {
        "groupId": "g",
        "obsId": "o",
        "detector": "",
        "step": "arrived",
        "time": 1.5,
        "service": "s",
        "site": "ncsa",
        "reason": "",
        "figures": {},
    }
    with pytest.raises(NonRetriableError, match=r"framing|cannot be decoded"):
        codec.decode("ledger", damage(codec.encode("ledger", record)))


def test_records_that_do_not_fit_are_refused(codec):
    with pytest.raises(NonRetriableError, match="does not fit schema"):
        codec.encode("ledger", {"groupId": "g"})


def test_frame_round_trip():
    assert unframe(frame(1101, b"abc")) == (1101, b"abc")


STAMP = schemas.topics({"ledger": "a.ledger"})["ledger"].definition
RECORD = {
    "groupId": "g", "obsId": "o", "detector": "", "step": "arrived", "time": 1.5, "service": "s", "site": "ncsa",
    "reason": "", "figures": {},
}  # fmt: skip


def written(client, definition, record, subject="a.ledger-value"):
    """Register another writer's schema and return a message of it."""
    number = client.post(f"/subjects/{subject}/versions", json={"schema": json.dumps(definition)}).json()["id"]
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(definition), record)
    return frame(number, body.getvalue())


def test_a_record_is_read_with_its_writers_schema_and_resolved_to_ours(client, codec):
    turned = STAMP | {"fields": [*reversed(STAMP["fields"]), {"name": "more", "type": "string", "default": "x"}]}
    assert codec.decode("ledger", written(client, turned, RECORD | {"more": "y"})) == RECORD


def test_what_a_writer_did_not_know_yet_has_its_default(client):
    older = STAMP | {"fields": [one for one in STAMP["fields"] if one["name"] != "reason"]}
    registry = RegistryClient("http://registry")
    registry._client = client
    codec = Codec({"ledger": "a.ledger"}, registry)
    fields = [one | {"default": ""} if one["name"] == "reason" else one for one in STAMP["fields"]]
    codec._readers["ledger"] = fastavro.parse_schema(STAMP | {"fields": fields})
    assert codec.decode("ledger", written(client, older, RECORD)) == RECORD


def test_what_a_writer_does_not_have_and_has_no_default_is_named(client, codec):
    older = STAMP | {"fields": [one for one in STAMP["fields"] if one["name"] != "step"]}
    with pytest.raises(NonRetriableError, match="cannot be decoded"):
        codec.decode("ledger", written(client, older, RECORD))


def test_a_record_of_another_name_is_not_misread(client, codec):
    other = STAMP | {"name": "event"}
    with pytest.raises(NonRetriableError, match=r"a record dpp.visit.event; expected .*stamp"):
        codec.decode("ledger", written(client, other, RECORD))
    with pytest.raises(NonRetriableError, match="a record string; expected"):
        codec.decode("ledger", written(client, {"type": "string"}, "hello"))


def test_a_writer_uses_the_schema_that_it_was_built_with(client, codec):
    newer = STAMP | {"fields": [*STAMP["fields"], {"name": "more", "type": "string"}]}
    written(client, newer, RECORD | {"more": "y"})
    assert unframe(codec.encode("ledger", RECORD))[0] == 10007


def test_an_id_that_the_registry_does_not_know_may_come(codec):
    with pytest.raises(UnknownSchemaError, match="Schema 4711 not found"):
        codec.decode("ledger", frame(4711, b""))


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500, json={}),
        httpx.Response(503, text="starting"),
        httpx.Response(200, text="no JSON"),
        httpx.Response(429, json={}),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("nothing"),
    ],
)
def test_a_registry_that_is_away_is_no_fault_of_the_record(answer):
    def request(_):
        if isinstance(answer, Exception):
            raise answer
        return answer

    registry = RegistryClient("http://registry")
    registry._client = httpx.Client(base_url="http://registry", transport=httpx.MockTransport(request))
    with pytest.raises(AwayError):
        Codec({"ledger": "a.ledger"}, registry).decode("ledger", frame(4711, b""))


def test_records_of_this_projects_own_need_no_registry():
    codec = Codec({"ledger": "a.ledger"})
    assert codec.decode("ledger", codec.encode("ledger", RECORD)) == RECORD
    with pytest.raises(NonRetriableError, match="no registry to ask"):
        codec.decode("ledger", frame(4711, b""))
