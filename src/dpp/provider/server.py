"""The provider as engines see it: the plugin protocol on one side, kinds of resources on the other."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any, Final

import grpc
from google.protobuf import any_pb2, empty_pb2

from dpp.adapters.pulumi.protocol import protocol
from dpp.model.errors import DppError, FatalError
from dpp.provider.kinds import UNKNOWN, Kind
from dpp.provider.resource import Progress, Properties, Resource, environment
from dpp.provider.resources import KINDS, resource_of
from dpp.provider.values import has_unknown, plain, wire

p, engine_pb2, plugin_pb2, status_pb2 = map(protocol, ("provider_pb2", "engine_pb2", "plugin_pb2", "status_pb2"))
services, engine_services = protocol("provider_pb2_grpc"), protocol("engine_pb2_grpc")

VERSION: Final = "0.1.0"
_AT_ONCE: Final = 64
_MESSAGE_BYTES: Final = 400 * 1024 * 1024
_REPLACED, _UPDATED = p.PropertyDiff.UPDATE_REPLACE, p.PropertyDiff.UPDATE


class _LeftError(Exception):
    """A change that failed, and what exists all the same."""

    def __init__(self, cause: DppError, identifier: str, properties: Properties) -> None:
        super().__init__(str(cause))
        self.identifier, self.properties = identifier, properties


def _said(method: Callable[..., Any]) -> Callable[..., Any]:
    """Answer errors as sentences: the engine shows what it gets, and a traceback helps nobody at night."""

    @wraps(method)
    def call(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(self, request)
        except _LeftError as error:
            left = p.ErrorResourceInitFailed(
                id=error.identifier,
                properties=wire(error.properties),
                reasons=[str(error)],
                inputs=request_inputs(request),
            )
            detail = any_pb2.Any()
            detail.Pack(left)
            status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error), details=[detail])
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            said = str(error)
        except DppError as error:
            said = str(error)
        except Exception as error:  # noqa: BLE001 - the last resort: people get a sentence, developers DPP_DEBUG
            said = f"internal error: {type(error).__name__}: {error}; run again with DPP_DEBUG=1 to see where"
            if os.environ.get("DPP_DEBUG"):
                traceback.print_exc()
        context.abort(grpc.StatusCode.UNKNOWN, said)
        return None

    return call


def request_inputs(request: Any) -> Any:
    """Return the inputs that a creation or update asked for."""
    return request.properties if isinstance(request, p.CreateRequest) else request.news


class Provider(services.ResourceProviderServicer):  # type: ignore[misc, name-defined]  # generated without types
    """Dispatch by resource type.

    Parameters
    ----------
    engine
        Where the engine listens for log messages.
    resource
        Returns what is done for a type of resource.
    """

    def __init__(self, engine: str, resource: Callable[[str], Resource[Any]] = resource_of) -> None:
        self._resource = resource
        self._engine = engine_services.EngineStub(grpc.insecure_channel(engine))

    # -- the provider itself -----------------------------------------------------------------------------------------

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Say which version this is."""
        del request, context
        return plugin_pb2.PluginInfo(version=VERSION)

    def GetSchema(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Return what the kinds declare."""
        del request, context
        resources = {kind.token: kind.schema_of() for kind in KINDS}
        return p.GetSchemaResponse(schema=json.dumps({"name": "dpp", "version": VERSION, "resources": resources}))

    def CheckConfig(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Accept the configuration: there is none."""
        del context
        return p.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Say that nothing changed."""
        del request, context
        return p.DiffResponse(changes=p.DiffResponse.DIFF_NONE)

    def Configure(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Say what this provider understands."""
        del request, context
        return p.ConfigureResponse(supportsPreview=True)

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Let what runs finish: every step here leaves something that the next `up` finds."""
        del request, context
        return empty_pb2.Empty()

    # -- resources ---------------------------------------------------------------------------------------------------

    @_said
    def Check(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        """Refuse wrong inputs."""
        try:
            self._wanted(request.urn, plain(request.news))
        except FatalError as error:
            return p.CheckResponse(inputs=request.news, failures=[p.CheckFailure(reason=str(error))])
        return p.CheckResponse(inputs=request.news)

    @_said
    def Diff(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        """Compare recorded with wanted inputs, then ask the object whether it is healthy."""
        resource, state, wanted = self._resource(_token(request.urn)), plain(request.olds), plain(request.news)
        changed = [key for key in resource.changed(state, wanted) if key not in request.ignoreChanges]
        replaces = [key for key in changed if key in resource.kind.replaces]
        if changed and not replaces:
            resource.refuse(state, self._wanted(request.urn, wanted))
        if not changed:
            changed = sorted(resource.probe(request.id, state))
        return p.DiffResponse(
            changes=p.DiffResponse.DIFF_SOME if changed else p.DiffResponse.DIFF_NONE,
            diffs=changed,
            replaces=replaces,
            deleteBeforeReplace=bool(replaces),
            hasDetailedDiff=True,
            detailedDiff={
                key: p.PropertyDiff(
                    kind=_REPLACED if key in replaces else _UPDATED, inputDiff=key in resource.kind.model_fields
                )
                for key in changed
            },
        )

    @_said
    def Create(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        """Make the object; in a preview its outputs stay unknown."""
        resource, given = self._resource(_token(request.urn)), plain(request.properties)
        if request.preview:
            return p.CreateResponse(properties=wire(given | dict.fromkeys(resource.kind.outputs, UNKNOWN)))
        wanted = self._permitted(request.urn, given)
        try:
            identifier, outputs = resource.create(request.urn, wanted, self._progress(request.urn))
        except DppError as error:
            raise _after(error, resource, request.urn, wanted) from error
        return p.CreateResponse(id=identifier, properties=wire(given | outputs))

    @_said
    def Read(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        """Look at the object itself; without an id, at what a creation of these inputs left."""
        resource, inputs = self._resource(_token(request.urn)), plain(request.inputs)
        state = plain(request.properties) or inputs
        identifier = request.id or resource.find(self._wanted(request.urn, inputs))
        seen = resource.read(request.urn, identifier, state) if identifier else None
        if seen is None:
            return p.ReadResponse()
        return p.ReadResponse(id=identifier, properties=wire(seen.inputs | seen.outputs), inputs=wire(seen.inputs))

    @_said
    def Update(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        """Change the object."""
        resource = self._resource(_token(request.urn))
        state, given = plain(request.olds), plain(request.news)
        if request.preview:
            kept = resource.kind.outputs - resource.kind.update_changes
            known = {key: state[key] for key in kept if key in state}
            return p.UpdateResponse(properties=wire(given | dict.fromkeys(resource.kind.outputs, UNKNOWN) | known))
        wanted = self._permitted(request.urn, given)
        resource.refuse(state, wanted)
        try:
            outputs = resource.update(request.urn, request.id, state, wanted, self._progress(request.urn))
        except DppError as error:  # the recorded state stays what the next update starts from
            raise _LeftError(error, request.id, state) from error
        return p.UpdateResponse(properties=wire(given | outputs))

    @_said
    def Delete(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        """Remove the object."""
        state = plain(request.properties)
        environment(state["environment"]).require_apply()
        self._resource(_token(request.urn)).delete(request.urn, request.id, state)
        return empty_pb2.Empty()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _wanted(self, urn: str, given: Mapping[str, Any]) -> Any:
        return self._resource(_token(urn)).kind.of(given)

    def _permitted(self, urn: str, given: Properties) -> Kind:
        """Return inputs that are to be applied: known, and of an environment that may be changed."""
        if has_unknown(given):
            raise FatalError(f"resource {urn}", "an input that is still unknown", "known inputs when applying")
        wanted: Kind = self._wanted(urn, given)
        environment(wanted.environment).require_apply()
        return wanted

    def _progress(self, urn: str) -> Progress:
        def tell(message: str) -> None:
            entry = engine_pb2.LogRequest(severity=engine_pb2.INFO, message=message, urn=urn, ephemeral=True)
            try:
                self._engine.Log(entry)
            except grpc.RpcError as error:  # the display is gone; the work is not
                print(f"{urn}: {message} ({error.code().name})", file=sys.stderr)

        return tell


def _token(urn: str) -> str:
    return urn.split("::")[2].rsplit("$", 1)[-1]


def _after(error: DppError, resource: Resource[Any], urn: str, wanted: Kind) -> Exception:
    """Return the error of a creation that failed, with what it left; what cannot be told may be there."""
    identifier = resource.find(wanted)
    if not identifier:
        return error
    try:
        seen = resource.read(urn, identifier, wanted.given())
    except DppError:
        return _LeftError(error, identifier, wanted.given())
    return error if seen is None else _LeftError(error, identifier, wanted.given() | seen.outputs)


def start(provider: Provider) -> tuple[grpc.Server, int]:
    """Start a server for `provider` on a port of loopback and return it with its port."""
    options = [("grpc.max_receive_message_length", _MESSAGE_BYTES), ("grpc.max_send_message_length", _MESSAGE_BYTES)]
    server = grpc.server(ThreadPoolExecutor(_AT_ONCE), options=options)
    services.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port
