"""One provider process and the calls to it: what each call needs is marshalled as far as the provider understands it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

import grpc
import grpc.aio
from google.protobuf import empty_pb2
from google.protobuf.message import Message
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from dpp.engine.answers import Diff, Found, ProviderError
from dpp.engine.processes import guarded, mark
from dpp.engine.transcript import Transcript
from dpp.engine.values import UNKNOWN, Properties, from_struct, mark_like, reveal, to_struct
from dpp.model.errors import FatalError

CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", 400 * 1024 * 1024),
    ("grpc.max_send_message_length", 400 * 1024 * 1024),
]
_START_SECONDS = 60.0
_PATIENCE_SECONDS = 5.0


def _new_seed() -> bytes:
    return os.urandom(32)


class Plugin:
    """A running provider.

    Parameters
    ----------
    package
        Name of the package; the executable is ``pulumi-resource-PACKAGE``.
    folder
        Where the executable lies.
    cwd
        Where it is started: the program's folder.
    engine
        Address of the engine service, for the provider's log lines.
    owner
        What the processes are marked with, so that those that outlive their engine can be found.
    environment
        Variables of the process.
    on_line
        Gets each line that the provider prints.
    """

    def __init__(
        self,
        package: str,
        folder: Path,
        cwd: Path,
        engine: str,
        owner: str,
        environment: Mapping[str, str],
        transcript: Transcript,
        on_line: Callable[[str], None],
    ) -> None:
        self.package = package
        self._executable = folder / f"pulumi-resource-{package}"
        self._folder = folder
        self._cwd = cwd
        self._engine = engine
        self._environment = {**environment, **mark(owner)}
        self._transcript = transcript
        self._on_line = on_line
        self._process: asyncio.subprocess.Process | None = None
        self._lines: list[asyncio.Task[None]] = []
        self._started: asyncio.Task[None] | None = None
        self._channel: grpc.aio.Channel | None = None
        self._understands_secrets = False
        self.previews = False

    def start(self) -> asyncio.Task[None]:
        """Start the process, once; the task ends when it listens."""
        if self._started is None:
            self._started = asyncio.create_task(self._start())
            self._started.add_done_callback(lambda task: task.cancelled() or task.exception())  # whoever calls gets it
        return self._started

    async def _start(self) -> None:
        if not os.access(self._executable, os.X_OK):
            raise FatalError(
                str(self._executable), "no executable", "the provider that Pulumi.yaml names", "check plugins.providers"
            )
        self._process = await asyncio.create_subprocess_exec(
            *guarded(str(self._executable), self._engine),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            cwd=self._cwd,
            start_new_session=True,
        )
        assert self._process.stdout and self._process.stderr  # noqa: S101, PT018 - both are pipes
        self._lines.append(asyncio.create_task(self._forward(self._process.stderr)))
        try:
            first = await asyncio.wait_for(self._process.stdout.readline(), _START_SECONDS)
            port = int(first)
        except (TimeoutError, ValueError) as error:
            await asyncio.sleep(0.1)  # its last words are still in the pipe
            raise FatalError(
                str(self._executable), "did not say its port", "a port number on its first line"
            ) from error
        self._lines.append(asyncio.create_task(self._forward(self._process.stdout)))
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS)
        self._stub = provider_pb2_grpc.ResourceProviderStub(self._channel)

    async def _forward(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            self._on_line(line.decode(errors="replace").rstrip())

    async def _call(self, method: str, request: Message) -> Any:
        await self.start()
        metadata = {"kind": "resource", "mode": "client", "name": self.package}
        began = self._transcript.start(f"ResourceProvider/{method}", request, **metadata)
        call: Callable[[Message], Awaitable[Message]] = getattr(self._stub, method)
        try:
            response = await call(request)
        except grpc.aio.AioRpcError as error:
            text = f"{error.code().name}: {error.details()}"
            self._transcript.end(f"ResourceProvider/{method}", request, began, None, text, **metadata)
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                raise ProviderError(f"provider {self.package} is gone while {method} ran") from error
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                raise NotImplementedError(method) from error
            raise ProviderError.of(error) from error
        self._transcript.end(f"ResourceProvider/{method}", request, began, response, **metadata)
        return response

    async def handshake(self) -> None:
        """Agree on what both sides understand; providers that know no handshake are asked for their version."""
        request = provider_pb2.ProviderHandshakeRequest(
            engine_address=self._engine,
            root_directory=str(self._folder),
            program_directory=str(self._folder),
            configure_with_urn=True,
            invoke_with_preview=True,
        )
        try:
            self._understands_secrets = (await self._call("Handshake", request)).accept_secrets
        except NotImplementedError:
            info: plugin_pb2.PluginInfo = await self._call("GetPluginInfo", empty_pb2.Empty())
            self.version = info.version

    async def check_config(self, urn: str, olds: Properties, news: Properties) -> Properties:
        """Return the provider's own configuration as it accepts it."""
        request = provider_pb2.CheckRequest(olds=self._wire(olds), news=self._wire(news), **_about(urn))
        try:
            return self._checked(await self._call("CheckConfig", request), news)
        except NotImplementedError:
            return news

    async def diff_config(self, urn: str, id_: str, old_inputs: Properties, olds: Properties, news: Properties) -> Diff:
        """Return what a change of the provider's configuration means for its resources."""
        del id_  # providers are told theirs by Configure
        request = provider_pb2.DiffRequest(
            olds=self._wire(olds), news=self._wire(news), old_inputs=self._wire(old_inputs), **_about(urn)
        )
        try:
            return _diff(await self._call("DiffConfig", request))
        except NotImplementedError:
            return Diff(None)

    async def configure(self, urn: str, id_: str, inputs: Properties) -> None:
        """Hand the provider its configuration."""
        variables = {
            f"{self.package}:config:{key}": str(value) for key, value in reveal(inputs).items() if key != "version"
        }
        request = provider_pb2.ConfigureRequest(
            variables=variables,
            args=to_struct(inputs),
            acceptSecrets=True,
            acceptResources=True,
            sends_old_inputs=True,
            sends_old_inputs_to_delete=True,
            id=id_ or UNKNOWN,
            **_about(urn),
        )
        response: provider_pb2.ConfigureResponse = await self._call("Configure", request)
        self._understands_secrets = self._understands_secrets or response.acceptSecrets
        self.previews = response.supportsPreview

    async def check(self, urn: str, olds: Properties, news: Properties, seed: bytes | None = None) -> Properties:
        """Return the inputs as the provider accepts and normalises them.

        Raises
        ------
        ProviderError
            If it refuses them; the message names property and reason.
        """
        request = provider_pb2.CheckRequest(
            olds=self._wire(olds), news=self._wire(news), randomSeed=seed or _new_seed(), **_about(urn)
        )
        return self._checked(await self._call("Check", request), news)

    def _checked(self, response: provider_pb2.CheckResponse, news: Properties) -> Properties:
        if response.failures:
            refusals = (f"{failure.property}: {failure.reason}".removeprefix(": ") for failure in response.failures)
            raise ProviderError("; ".join(refusals))
        return self._read(response.inputs, news)

    async def diff(
        self, urn: str, id_: str, old: tuple[Properties, Properties], news: Properties, ignore: list[str]
    ) -> Diff:
        """Return how an object with the inputs and outputs `old` differs from `news`."""
        inputs, outputs = old
        request = provider_pb2.DiffRequest(
            id=id_,
            olds=self._wire(outputs),
            news=self._wire(news),
            old_inputs=self._wire(inputs),
            ignoreChanges=ignore,
            **_about(urn),
        )
        return _diff(await self._call("Diff", request))

    async def create(self, urn: str, inputs: Properties, seconds: float, *, preview: bool = False) -> Found:
        """Make an object and return it; in a preview, say what it would be.

        Parameters
        ----------
        seconds
            Time that it may take; 0 leaves it to the provider.
        """
        request = provider_pb2.CreateRequest(
            properties=self._wire(inputs), timeout=seconds, preview=preview, **_about(urn)
        )
        response = await self._call("Create", request)
        return Found(response.id, self._read(response.properties, inputs), inputs)

    async def update(
        self,
        urn: str,
        id_: str,
        old: tuple[Properties, Properties],
        news: Properties,
        ignore: list[str],
        seconds: float,
        *,
        preview: bool = False,
    ) -> Found:
        """Change an object to `news` and return it; in a preview, say what it would be."""
        inputs, outputs = old
        request = provider_pb2.UpdateRequest(
            id=id_,
            olds=self._wire(outputs),
            news=self._wire(news),
            old_inputs=self._wire(inputs),
            ignoreChanges=ignore,
            timeout=seconds,
            preview=preview,
            **_about(urn),
        )
        response = await self._call("Update", request)
        return Found(id_, self._read(response.properties, news), news)

    async def read(self, urn: str, id_: str, old: tuple[Properties, Properties]) -> Found:
        """Return the object as it is; an empty `id_` asks for the one that this URN owns."""
        inputs, outputs = old
        request = provider_pb2.ReadRequest(
            id=id_, properties=self._wire(outputs), inputs=self._wire(inputs), **_about(urn)
        )
        try:
            response = await self._call("Read", request)
        except ProviderError as error:
            if not error.left or not error.left.id:
                raise
            return self.leftovers(error.left, inputs)
        found_inputs = self._read(response.inputs, inputs) if response.HasField("inputs") else inputs
        return Found(response.id, self._read(response.properties, {**inputs, **outputs}), found_inputs)

    def leftovers(self, left: provider_pb2.ErrorResourceInitFailed, inputs: Properties) -> Found:
        """Return what a failed call says to exist."""
        kept = self._read(left.inputs, inputs) if left.HasField("inputs") else inputs
        return Found(left.id, self._read(left.properties, inputs), kept, tuple(left.reasons))

    async def delete(self, urn: str, id_: str, old: tuple[Properties, Properties], seconds: float) -> None:
        """Delete an object."""
        inputs, outputs = old
        request = provider_pb2.DeleteRequest(
            id=id_,
            properties=self._wire(outputs),
            old_inputs=self._wire(inputs),
            timeout=seconds,
            **_about(urn),
        )
        await self._call("Delete", request)

    async def invoke(self, token: str, args: Properties, *, preview: bool) -> tuple[Properties, list[Any]]:
        """Call a function of the provider and return its result and the reasons why it failed."""
        request = provider_pb2.InvokeRequest(tok=token, args=self._wire(args), preview=preview)
        response = await self._call("Invoke", request)
        return from_struct(getattr(response, "return")), list(response.failures)

    def kill(self) -> None:
        """End the process and what it started, at once."""
        if self._process and self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Tell the provider that nothing more comes, and end its process."""
        if self._started:
            await asyncio.wait([self._started])
        if self._channel and self._process and self._process.returncode is None:
            with suppress(ProviderError, NotImplementedError, TimeoutError):  # it ends anyway
                await asyncio.wait_for(self._call("Cancel", empty_pb2.Empty()), _PATIENCE_SECONDS)
        if self._channel:
            await self._channel.close()
        if self._process and self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), _PATIENCE_SECONDS)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        await asyncio.gather(*self._lines, return_exceptions=True)

    def _wire(self, properties: Properties) -> Any:
        return to_struct(properties if self._understands_secrets else reveal(properties))

    def _read(self, struct: Any, model: Properties) -> Properties:
        found: Properties = mark_like(from_struct(struct), model)
        return found


class _About(TypedDict):
    urn: str
    name: str
    type: str


def _about(urn: str) -> _About:
    _, _, chain, name = urn.split("::", 3)
    return {"urn": urn, "name": name, "type": chain.rpartition("$")[2]}


def _diff(response: provider_pb2.DiffResponse) -> Diff:
    unknown = response.changes == provider_pb2.DiffResponse.DIFF_UNKNOWN
    detailed = list(response.detailedDiff)
    return Diff(
        None if unknown else response.changes == provider_pb2.DiffResponse.DIFF_SOME,
        tuple(response.replaces),
        tuple(response.stables),
        tuple(detailed or response.diffs),
        response.deleteBeforeReplace,
    )
