"""The provider as engines see it: the plugin protocol on one side, kinds of resources on the other."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc
from pulumi.provider.experimental import provider as p
from pulumi.provider.experimental import server as sdk
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2_grpc

from dpp.model.errors import DppError, FatalError
from dpp.model.folders import Folders
from dpp.provider.resource import Progress, Properties, Resource
from dpp.provider.resources import KINDS
from dpp.provider.values import UNKNOWN, has_unknown, plain_map, wire_map

VERSION = "0.1.0"
_MESSAGE_BYTES = 400 * 1024 * 1024


class Servicer(sdk.ProviderServicer):
    """The SDK's servicer with errors as sentences: the engine shows what it gets, and a traceback helps nobody at night."""

    def __getattribute__(self, name: str) -> Any:
        attribute = super().__getattribute__(name)
        if name in {"Check", "Diff", "Create", "Read", "Update", "Delete"}:
            return _with_sentences(attribute)
        return attribute


def _with_sentences(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def call(request: Any, context: Any) -> Any:
        try:
            return await method(request, context)
        except Exception as error:
            cause = _domain_error(error)
            if cause is None:
                raise
            await context.abort(grpc.StatusCode.UNKNOWN, str(cause))

    return call


def _domain_error(error: BaseException | None) -> DppError | None:
    while error is not None and not isinstance(error, DppError):
        error = error.__context__
    return error


class Provider(p.Provider):
    """Dispatch by resource type; blocking work runs in threads.

    Parameters
    ----------
    folders
        The folders of the instance that is worked on.
    engine_address
        Where the engine listens for log messages.
    kinds
        The kinds of resources to serve.
    """

    def __init__(self, folders: Folders, engine_address: str, kinds: Sequence[type[Resource]] = KINDS) -> None:
        self.kinds: dict[str, Resource] = {kind.token: kind(folders) for kind in kinds}
        self._engine_address = engine_address
        self._engine: engine_pb2_grpc.EngineStub | None = None

    # -- the provider itself -----------------------------------------------------------------------------------------

    async def get_schema(self, request: p.GetSchemaRequest) -> p.GetSchemaResponse:
        """Return a schema with the types' names: programs here bring their own classes."""
        del request
        resources = ", ".join(f'"{token}": {{}}' for token in sorted(self.kinds))
        return p.GetSchemaResponse(schema=f'{{"name": "dpp", "version": "{VERSION}", "resources": {{{resources}}}}}')

    async def check_config(self, request: p.CheckRequest) -> p.CheckResponse:
        """Accept the configuration: there is none."""
        return p.CheckResponse(inputs=request.new_inputs, failures=[])

    async def diff_config(self, request: p.DiffRequest) -> p.DiffResponse:
        """Say that nothing changed."""
        del request
        return p.DiffResponse(changes=False)

    async def configure(self, request: p.ConfigureRequest) -> p.ConfigureResponse:
        """Say what this provider understands."""
        del request
        return p.ConfigureResponse(supports_preview=True)

    # -- resources ---------------------------------------------------------------------------------------------------

    async def check(self, request: p.CheckRequest) -> p.CheckResponse:
        """Normalise inputs; refuse wrong ones."""
        wanted = plain_map(request.new_inputs)
        kind = self._kind(request.urn)
        try:
            return p.CheckResponse(inputs=wire_map(await asyncio.to_thread(kind.check, wanted)), failures=[])
        except FatalError as error:
            return p.CheckResponse(inputs=request.new_inputs, failures=[p.CheckFailure("", str(error))])

    async def diff(self, request: p.DiffRequest) -> p.DiffResponse:
        """Compare recorded with wanted inputs, then ask the object whether it is healthy."""
        kind = self._kind(request.urn)
        state, wanted = plain_map(request.old_state), plain_map(request.new_inputs)
        changed = [key for key in kind.changed(state, wanted) if key not in request.ignore_changes]
        replaces = [key for key in changed if key in kind.replaces]
        if not changed:
            changed = sorted(await asyncio.to_thread(kind.probe, request.resource_id, state))
        update, replace = p.PropertyDiffKind.UPDATE, p.PropertyDiffKind.UPDATE_REPLACE
        return p.DiffResponse(
            changes=bool(changed),
            diffs=changed,
            replaces=replaces,
            delete_before_replace=bool(replaces),
            detailed_diff={
                key: p.PropertyDiff(replace if key in replaces else update, input_diff=key in kind.inputs)
                for key in changed
            },
        )

    async def create(self, request: p.CreateRequest) -> p.CreateResponse:
        """Make the object; in a preview its outputs stay unknown."""
        kind, wanted = self._kind(request.urn), plain_map(request.properties)
        if request.preview:
            return p.CreateResponse(properties=wire_map(wanted | dict.fromkeys(kind.outputs, UNKNOWN)))
        self._refuse_unknown(request.urn, wanted)
        identifier, outputs = await asyncio.to_thread(kind.create, request.urn, wanted, self._progress(request.urn))
        return p.CreateResponse(identifier, wire_map(wanted | outputs))

    async def read(self, request: p.ReadRequest) -> p.ReadResponse:
        """Look at the object itself; without an id, at what a creation of these inputs left."""
        kind, inputs = self._kind(request.urn), plain_map(request.inputs)
        state = plain_map(request.properties) or inputs
        identifier = request.resource_id or kind.find(inputs)
        seen = await asyncio.to_thread(kind.read, request.urn, identifier, state) if identifier else None
        if seen is None:
            return p.ReadResponse(properties={}, inputs={})
        return p.ReadResponse(identifier, wire_map(seen.inputs | seen.outputs), wire_map(seen.inputs))

    async def update(self, request: p.UpdateRequest) -> p.UpdateResponse:
        """Change the object."""
        kind = self._kind(request.urn)
        state, wanted = plain_map(request.olds), plain_map(request.news)
        if request.preview:
            known = {key: state[key] for key in kind.outputs - kind.update_changes if key in state}
            return p.UpdateResponse(wire_map(wanted | dict.fromkeys(kind.outputs, UNKNOWN) | known))
        self._refuse_unknown(request.urn, wanted)
        progress = self._progress(request.urn)
        outputs = await asyncio.to_thread(kind.update, request.urn, request.resource_id, state, wanted, progress)
        return p.UpdateResponse(wire_map(wanted | outputs))

    async def delete(self, request: p.DeleteRequest) -> None:
        """Remove the object."""
        state = plain_map(request.properties)
        await asyncio.to_thread(self._kind(request.urn).delete, request.urn, request.resource_id, state)

    async def cancel(self) -> None:
        """Let what runs finish: every step here leaves something that the next `up` finds."""

    # -- inside ------------------------------------------------------------------------------------------------------

    def _kind(self, urn: str) -> Resource:
        token = urn.split("::")[2].rsplit("$", 1)[-1]
        if token not in self.kinds:
            raise FatalError(f"resource {urn}", f"type {token}", f"one of {', '.join(sorted(self.kinds))}")
        return self.kinds[token]

    @staticmethod
    def _refuse_unknown(urn: str, wanted: Mapping[str, Any]) -> None:
        if has_unknown(wanted):
            raise FatalError(f"resource {urn}", "an input that is still unknown", "known inputs when applying")

    def _progress(self, urn: str) -> Progress:
        loop = asyncio.get_running_loop()

        def tell(message: str) -> None:
            asyncio.run_coroutine_threadsafe(self._log(urn, message), loop)

        return tell

    async def _log(self, urn: str, message: str) -> None:
        if self._engine is None:
            self._engine = engine_pb2_grpc.EngineStub(grpc.aio.insecure_channel(self._engine_address))
        entry = engine_pb2.LogRequest(severity=engine_pb2.INFO, message=message, urn=urn, ephemeral=True)
        try:
            await self._engine.Log(entry)
        except grpc.aio.AioRpcError as error:  # the display is gone; the work is not
            print(f"{urn}: {message} ({error.code().name})", file=sys.stderr)


async def serve(engine_address: str) -> None:
    """Serve the protocol on a port of loopback and print it on the first line of standard output."""
    server, port = await start(Provider(Folders.current(), engine_address), engine_address)
    print(port, flush=True)
    await server.wait_for_termination()


async def start(provider: Provider, engine_address: str) -> tuple[grpc.aio.Server, int]:
    """Start a server for `provider` and return it with its port."""
    options = [("grpc.max_receive_message_length", _MESSAGE_BYTES), ("grpc.max_send_message_length", _MESSAGE_BYTES)]
    server = grpc.aio.server(options=options)
    servicer = Servicer([engine_address], VERSION, provider, engine_address=engine_address)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


__all__ = ["VERSION", "Properties", "Provider", "serve", "start"]
