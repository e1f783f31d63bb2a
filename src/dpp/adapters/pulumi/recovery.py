"""An operation that was cut short, written into the state as what it left: the next one then goes on from there.

The engine notes in the state what it is at before it calls a provider. What a creation left is found by asking the
provider, who knows it by its owner, and becomes a resource of the state; an update or deletion counts as not finished.
Either way the program decides next: what it still wants is finished, anything else deleted.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format, struct_pb2

from dpp.adapters.pulumi.backend import Backend
from dpp.adapters.pulumi.events import SECRET, SIGNATURE, sentence
from dpp.adapters.pulumi.protocol import protocol
from dpp.model.errors import RetriableError

provider_pb2, provider_pb2_grpc = protocol("provider_pb2"), protocol("provider_pb2_grpc")
Resource = dict[str, Any]
_NOWHERE = "127.0.0.1:1"
"""Given to a provider as the engine's address: there is none to tell its progress to."""


def settle(exported: dict[str, Any], backend: Backend) -> tuple[dict[str, Any], list[str]]:
    """Return an exported state (its secrets shown) without pending operations, and a sentence about each.

    Raises
    ------
    RetriableError
        If a provider cannot tell what is left; then nothing is lost by asking again.
    """
    state = exported["deployment"]
    resources: list[Resource] = state.setdefault("resources", [])
    messages = []
    for operation in state.pop("pending_operations", []):
        resource, what = operation["resource"], str(operation["type"])
        if what == "creating":
            outcome = _settle_creation(resources, resource, backend)
        else:
            outcome = _mark_unfinished(resources, resource, what)
        messages.append(f"{resource['urn'].rpartition('::')[2]} was cut short while {what}: {outcome}")
    for condemned in [known for known in reversed(resources) if known.get("delete")]:
        _delete(condemned, backend)
        resources.remove(condemned)
        messages.append(f"{condemned['id']} was replaced already and is gone now")
    return exported, messages


def _settle_creation(resources: list[Resource], draft: Resource, backend: Backend) -> str:
    found = _look(draft, backend)
    twins = [known for known in resources if known["urn"] == draft["urn"]]
    if not found.id or any(twin.get("id") == found.id for twin in twins):
        return "nothing was made"
    for twin in twins:
        twin["delete"] = True
    outputs = json_format.MessageToDict(found.properties)
    made = {**draft, "id": found.id, "outputs": {key: _marked(value, draft, key) for key, value in outputs.items()}}
    made["initErrors"] = ["creating was cut short"]
    resources.insert(_place(resources, made), made)
    return f"{found.id} exists"


def _delete(condemned: Resource, backend: Backend) -> None:
    """Delete what was replaced: a program that takes the change back makes an object that may be called the same."""
    properties = _struct(condemned.get("outputs"))
    request = provider_pb2.DeleteRequest(**_identity(condemned), id=str(condemned["id"]), properties=properties)
    _ask(condemned, backend, "Delete", request, "replaced already, and its provider cannot delete it")


def _mark_unfinished(resources: list[Resource], draft: Resource, what: str) -> str:
    """Make the next operation call the provider, whether or not something differs."""
    for known in resources:
        if known["urn"] == draft["urn"] and known.get("id") == draft.get("id") and what in {"updating", "deleting"}:
            known["initErrors"] = [f"{what} was cut short"]
            return "it is to be looked after"
    return "nothing is left of it"


def _marked(value: Any, draft: Resource, key: str) -> Any:
    """Return an output as the state keeps it: secret where the input of its name is."""
    given = draft.get("inputs", {}).get(key)
    secret = isinstance(given, Mapping) and given.get(SIGNATURE) == SECRET
    return {SIGNATURE: SECRET, "plaintext": json.dumps(value)} if secret else value


def _place(resources: list[Resource], made: Resource) -> int:
    """Return the first place in the state behind everything that a resource refers to."""
    provider = str(made.get("provider", "")).rpartition("::")[0]
    needed = {made.get("parent"), provider, *made.get("dependencies", ())}
    for urns in (made.get("propertyDependencies") or {}).values():
        needed |= set(urns or ())
    return max((index + 1 for index, known in enumerate(resources) if known["urn"] in needed), default=0)


def _look(draft: Resource, backend: Backend) -> Any:
    """Ask the provider what a creation with these inputs left."""
    request = provider_pb2.ReadRequest(**_identity(draft), inputs=_struct(draft.get("inputs")))
    return _ask(draft, backend, "Read", request, "cut short while creating, and its provider cannot tell what is left")


def _identity(resource: Resource) -> dict[str, str]:
    urn = str(resource["urn"])
    return {"urn": urn, "name": urn.rpartition("::")[2], "type": str(resource["type"])}


def _struct(properties: Mapping[str, Any] | None) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(_plain(properties or {}))
    return made


def _ask(resource: Resource, backend: Backend, method: str, request: Any, otherwise: str) -> Any:
    """Call a method of the provider of a resource; `otherwise` says what it means if that fails."""
    executable = backend.provider(str(resource["type"]).partition(":")[0])
    with _provider(executable, backend) as provider:
        try:
            return getattr(provider, method)(request)
        except grpc.RpcError as error:
            raise RetriableError(
                str(resource["urn"]), f"{otherwise}: {sentence(error.details())}",
                "an answer from the provider", "try again when it can be reached",
            ) from error  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        if value.get(SIGNATURE) == SECRET:
            return json.loads(value["plaintext"])
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


@contextmanager
def _provider(executable: Path, backend: Backend) -> Iterator[Any]:
    with subprocess.Popen(
        [executable, _NOWHERE],
        cwd=backend.project,
        env=os.environ | backend.variables(),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout  # noqa: S101 - it is a pipe
        try:
            with grpc.insecure_channel(f"127.0.0.1:{int(process.stdout.readline())}") as channel:
                stub = provider_pb2_grpc.ResourceProviderStub(channel)
                stub.Configure(provider_pb2.ConfigureRequest())
                yield stub
        except ValueError as error:
            raise RetriableError(str(executable), "it ended before it said its port", "a provider") from error
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
