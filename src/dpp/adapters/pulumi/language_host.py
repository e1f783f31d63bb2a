"""Runs our programs for the engine: the executable ``pulumi-language-python``, which prints its port and serves it.

The vendor's own host is in no package registry. One program is run in this process, whose output the engine shows.
"""

from __future__ import annotations

import asyncio
import logging
import os
import runpy
import signal
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pulumi
from google.protobuf import empty_pb2
from pulumi.runtime import Settings, configure, run_in_stack, set_all_config
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

from dpp.adapters.orphans import end, end_with_parent
from dpp.model.errors import DppError

_CALLS_IN_FLIGHT = 256
"""Every registration holds a thread until its resource stands; threads are only made when they are needed."""

_GOING = "Resource monitor has terminated"
"""How the SDK says that the engine takes nothing more: it knows why."""


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    """Runs one program.

    Parameters
    ----------
    engine
        Address of the engine that asks for it.
    """

    def __init__(self, engine: str) -> None:
        self._engine = engine

    def Handshake(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Agree to work together."""
        del request, context
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Say which host this is."""
        del request, context
        return plugin_pb2.PluginInfo(version="0.1.0")

    def GetRequiredPackages(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Ask for nothing: Pulumi.yaml names the providers."""
        del request, context
        return language_pb2.GetRequiredPackagesResponse()

    def InstallDependencies(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Install nothing: the environment is locked and there."""
        del request, context
        return iter(())

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Let the program go on: it ends when the engine takes nothing more from it."""
        del request, context
        return empty_pb2.Empty()

    def Run(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Run the program and say how it ended; what went wrong is told as a sentence."""
        del context
        root, folder = request.info.root_directory, Path(request.info.program_directory)
        configure(
            Settings(
                project=request.project,
                stack=request.stack,
                monitor=request.monitor_address,
                engine=self._engine,
                parallel=request.parallel,
                dry_run=request.dryRun,
                organization=request.organization,
                root_directory=root,
            )
        )
        set_all_config(dict(request.config), list(request.configSecretKeys))
        pulumi.log.debug = lambda *_, **__: None  # four calls a resource that nobody reads
        sys.path.insert(0, str(folder))
        try:
            asyncio.run(_program(folder / request.info.entry_point))
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAVAILABLE:  # the engine is going; it knows why
                return language_pb2.RunResponse(bail=True)
            pulumi.log.error(f"{error.details()}")
        except pulumi.RunError as error:
            if not str(error).startswith(_GOING):
                pulumi.log.error(str(error))
        except BaseException as error:  # noqa: BLE001 - whatever the program raised is shown where it arose
            pulumi.log.error(explained(error, root))
        else:
            return language_pb2.RunResponse()
        return language_pb2.RunResponse(bail=True)


async def _program(path: Path) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_CALLS_IN_FLIGHT))
    await run_in_stack(lambda: _load(path))


def _load(path: Path) -> None:
    runpy.run_path(str(path), run_name="__main__")


def explained(error: BaseException, root: str) -> str:
    """Return what an error says, then where in the project it arose, innermost first."""
    said = str(error) if isinstance(error, DppError) else "".join(traceback.format_exception_only(error)).strip()
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(root) and frame.filename != __file__ and "site-packages" not in frame.filename
    ]
    places = [f"  at {os.path.relpath(f.filename, root)}:{f.lineno} in {f.name}: {f.line}" for f in reversed(frames)]
    return "\n".join([said, *places])


def main() -> None:
    """Serve the engine whose address is the last argument, until it ends or interrupts."""
    end_with_parent()
    signal.signal(signal.SIGINT, lambda *_: end(0))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    server = grpc.server(ThreadPoolExecutor(4))
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(LanguageHost(sys.argv[-1]), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()
