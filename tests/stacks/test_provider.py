"""The provider speaks the protocol over gRPC as engines ask it, here of objects in a file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest
from google.protobuf import empty_pb2, json_format
from pulumi.runtime.proto import engine_pb2_grpc, provider_pb2, provider_pb2_grpc, status_pb2

from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY
from dpp.provider import kinds, server
from dpp.provider.resource import Observation, Progress, Properties, Resource
from dpp.provider.resources import KINDS, resource_of

URN = "urn:pulumi:lab.sample::sample::dpp:site:Site$dpp:machine:Sample::storage"
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
INPUTS = {"environment": "lab", "site": "summit", "size": 1}


class Sample(kinds.Kind):
    token: ClassVar[str] = "dpp:machine:Sample"  # noqa: S105
    replaces: ClassVar[frozenset[str]] = frozenset({"site"})
    outputs: ClassVar[frozenset[str]] = frozenset({"address"})
    site: str
    size: int


class Samples(Resource[Sample]):
    """Objects kept in a file."""

    kind = Sample

    def __init__(self, file: Path) -> None:
        self.file = file

    def objects(self) -> dict[str, Properties]:
        return json.loads(self.file.read_text()) if self.file.exists() else {}

    def write(self, urn: str, content: Properties | None) -> None:
        objects = {key: value for key, value in self.objects().items() if key != urn}
        self.file.write_text(json.dumps(objects | ({urn: content} if content is not None else {})))

    def find(self, wanted: Sample) -> str:
        return wanted.site

    def create(self, urn: str, wanted: Sample, progress: Progress) -> tuple[str, Properties]:
        progress("writing it down")
        if wanted.site == "nowhere":
            raise FatalError("site nowhere", "not in the inventory", "one of base, ncsa, summit", "correct it")
        self.write(urn, wanted.given())
        if wanted.size > 100:
            raise FatalError("size", str(wanted.size), "at most 100", "make it smaller")
        return wanted.site, {"address": f"address-of-{wanted.site}"}

    def read(self, urn: str, identifier: str, state: Properties) -> Observation | None:
        del identifier, state
        found = self.objects().get(urn)
        return Observation(found, {"address": f"address-of-{found['site']}"}) if found else None

    def refuse(self, state: Properties, wanted: Sample) -> None:
        if wanted.size < state["size"]:
            raise FatalError("size", f"{state['size']} to {wanted.size}", "no data lost", "move them first")

    def update(self, urn: str, identifier: str, state: Properties, wanted: Sample, progress: Progress) -> Properties:
        del identifier, state
        return self.create(urn, wanted, progress)[1]

    def delete(self, urn: str, identifier: str, state: Properties) -> None:
        del identifier, state
        self.write(urn, None)


class Engine(engine_pb2_grpc.EngineServicer):
    """Takes log lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def Log(self, request: Any, context: Any) -> Any:  # noqa: N802
        del context
        self.lines.append((request.urn, request.message))
        return empty_pb2.Empty()


@contextmanager
def served(samples: Samples) -> Iterator[tuple[Any, Engine]]:
    engine, engine_server = Engine(), grpc.server(ThreadPoolExecutor(1))
    engine_pb2_grpc.add_EngineServicer_to_server(engine, engine_server)
    address = f"127.0.0.1:{engine_server.add_insecure_port('127.0.0.1:0')}"
    engine_server.start()
    running, port = server.start(server.Provider(address, lambda _: samples))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield provider_pb2_grpc.ResourceProviderStub(channel), engine
    running.stop(None)
    engine_server.stop(None)


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    return Samples(tmp_path / "objects.json")


def ask(stub: Any, method: str, **request: Any) -> dict[str, Any]:
    message = json_format.ParseDict({"urn": URN, **request}, getattr(provider_pb2, f"{method}Request")())
    answer: dict[str, Any] = json_format.MessageToDict(getattr(stub, method)(message))
    return answer


def refused(stub: Any, method: str, **request: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        ask(stub, method, **request)
    return caught.value


def left(error: Any) -> provider_pb2.ErrorResourceInitFailed:
    """Return what the protocol's details of an error say that exists."""
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    found = provider_pb2.ErrorResourceInitFailed()
    assert status_pb2.Status.FromString(details).details[0].Unpack(found)
    return found


def test_life_of_a_resource(samples: Samples) -> None:
    with served(samples) as (stub, engine):
        assert ask(stub, "Check", news=INPUTS) == {"inputs": INPUTS}
        made = ask(stub, "Create", properties=INPUTS)
        assert made == {"id": "summit", "properties": INPUTS | {"address": "address-of-summit"}}
        assert engine.lines == [(URN, "writing it down")]
        state = made["properties"]
        assert ask(stub, "Diff", id="summit", olds=state, news=INPUTS)["changes"] == "DIFF_NONE"
        larger = ask(stub, "Diff", id="summit", olds=state, news=INPUTS | {"size": 2})
        assert (larger["changes"], larger["diffs"], "replaces" in larger) == ("DIFF_SOME", ["size"], False)
        other = ask(stub, "Diff", id="summit", olds=state, news=INPUTS | {"site": "base"})
        assert (other["replaces"], other["deleteBeforeReplace"]) == (["site"], True)
        ask(stub, "Update", id="summit", olds=state, news=INPUTS | {"size": 2})
        assert samples.objects()[URN]["size"] == 2
        assert ask(stub, "Read", id="summit", properties=state)["inputs"]["size"] == 2
        assert ask(stub, "Delete", id="summit", properties=state) == {}
        assert "id" not in ask(stub, "Read", id="summit", properties=state)


def test_previews_change_nothing_and_leave_outputs_unknown(samples: Samples) -> None:
    with served(samples) as (stub, _):
        answer = ask(stub, "Create", properties=INPUTS, preview=True)
    assert answer["properties"]["address"] == UNKNOWN
    assert samples.objects() == {}


def test_without_an_id_a_read_finds_what_a_creation_left(samples: Samples) -> None:
    samples.write(URN, INPUTS)
    with served(samples) as (stub, _):
        assert ask(stub, "Read", inputs=INPUTS)["id"] == "summit"


def test_errors_are_sentences_and_wrong_inputs_are_failures_of_check(samples: Samples) -> None:
    with served(samples) as (stub, _):
        error = refused(stub, "Create", properties=INPUTS | {"site": "nowhere"})
        assert error.details() == "site nowhere: not in the inventory; expected one of base, ncsa, summit; correct it"
        assert "grpc-status-details-bin" not in dict(error.trailing_metadata())  # nothing is left
        for given, said in (
            (INPUTS | {"colour": "red"}, "input 'colour'; expected one of environment, site, size"),
            ({"environment": "lab", "size": 1}, "no input 'site'"),
            (INPUTS | {"size": "large"}, "input size is 'large'"),
        ):
            assert said in ask(stub, "Check", news=given)["failures"][0]["reason"]


def test_what_a_failed_change_left_is_told(samples: Samples) -> None:
    with served(samples) as (stub, _):
        found = left(refused(stub, "Create", properties=INPUTS | {"size": 101}))
        assert (found.id, list(found.reasons)) == ("summit", ["size: 101; expected at most 100; make it smaller"])
        assert found.properties["size"] == 101
        state = INPUTS | {"address": "x"}
        found = left(refused(stub, "Update", id="summit", olds=state, news=INPUTS | {"size": 102}))
        assert found.properties["size"] == 1, "the next update starts from what is recorded"


def test_a_change_that_would_lose_something_is_refused_in_the_preview(samples: Samples) -> None:
    with served(samples) as (stub, _):
        for method in ("Diff", "Update"):
            error = refused(stub, method, id="summit", olds=INPUTS | {"size": 9}, news=INPUTS)
            assert error.details() == "size: 9 to 1; expected no data lost; move them first"
    assert samples.objects() == {}


def test_nothing_is_applied_where_only_previews_are_permitted(samples: Samples) -> None:
    given = INPUTS | {"environment": "production"}
    with served(samples) as (stub, _):
        assert "id" not in ask(stub, "Create", properties=given, preview=True)
        for method, request in (
            ("Create", {"properties": given}),
            ("Update", {"id": "summit", "olds": given, "news": given | {"size": 2}}),
            ("Delete", {"id": "summit", "properties": given}),
        ):
            assert "environment production: for previews only" in refused(stub, method, **request).details()
    assert samples.objects() == {}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.token)
def test_every_kind_has_its_resource_and_refuses_unknown_and_missing_inputs(kind: type[kinds.Kind]) -> None:
    assert resource_of(kind.token).kind is kind
    with pytest.raises(FatalError, match="no input 'environment'"):
        kind.of({})
    with pytest.raises(FatalError, match="input 'colour'"):
        kind.of({**dict.fromkeys(kind.model_fields, kinds.UNKNOWN), "colour": "red"})
    assert kind.replaces <= set(kind.model_fields)
    assert kind.update_changes <= kind.outputs


@pytest.mark.parametrize("playbook", sorted((REPOSITORY / "playbooks").glob("*.yml")), ids=lambda path: path.stem)
def test_every_playbook_begins_by_asking_for_permission(playbook: Path) -> None:
    assert "permission.yml" in playbook.read_text() or playbook.stem in ("permission", "site", "image")


def test_a_playbook_is_refused_where_only_previews_are_permitted() -> None:
    def play(environment: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [Path(sys.executable).with_name("ansible-playbook"), "-i", f"inventories/{environment}", *words]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    done = play("production", "playbooks/kafka_broker.yml")
    assert done.returncode != 0
    assert "environment production: for previews only" in " ".join(done.stdout.split())
    assert "unreachable=1" not in done.stdout, "no host was asked"
    assert play("production", "playbooks/permission.yml", "--check").returncode == 0
    assert play("lab", "playbooks/permission.yml").returncode == 0
