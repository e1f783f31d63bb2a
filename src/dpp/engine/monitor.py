"""The services that the program and the providers call: resource monitor and engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf import empty_pb2
from google.protobuf.message import Message
from pulumi.runtime.proto import (
    engine_pb2,
    engine_pb2_grpc,
    provider_pb2,
    resource_pb2,
    resource_pb2_grpc,
)

from dpp.engine.answers import ProviderError
from dpp.engine.deployment import Deployment, Stopped
from dpp.engine.events import Event
from dpp.engine.goal import make_urn, of_request
from dpp.engine.plugin import CHANNEL_OPTIONS
from dpp.engine.project import Config, Project
from dpp.engine.providers import BUILT_IN
from dpp.engine.state import REFERENCE_TYPE, STACK_TYPE, Resource
from dpp.engine.transcript import Transcript
from dpp.engine.values import Properties, from_struct, to_struct
from dpp.model.errors import DppError, FatalError

_FEATURES = (
    "SECRETS",
    "RESOURCE_REFERENCES",
    "OUTPUT_VALUES",
    "ALIAS_SPECS",
    "DELETED_WITH",
    "INVOKE_DEPENDS_ON",
    "INVOKE_PARENT",
)
_SEVERITIES = {0: "debug", 1: "info", 2: "warning", 3: "error"}


@dataclass
class Run:
    """What the services need to know about the operation.

    Parameters
    ----------
    references
        Returns the properties of the stack reference of a name.
    """

    project: Project
    config: Config
    stack: str
    deployment: Deployment
    references: Callable[[str], Properties]


class Monitor(resource_pb2_grpc.ResourceMonitorServicer, engine_pb2_grpc.EngineServicer):
    """Serves a program and the providers while an operation runs.

    Attributes
    ----------
    program_done
        Set once the program has registered all that it wants.
    release
        To be set when the program may end.
    """

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self._root = ""
        self._server = grpc.aio.server(options=CHANNEL_OPTIONS)
        self.program_done = asyncio.Event()
        self.release = asyncio.Event()
        self.address = ""

    async def start(self) -> None:
        """Listen on a free port of the loopback interface."""
        resource_pb2_grpc.add_ResourceMonitorServicer_to_server(self, self._server)
        engine_pb2_grpc.add_EngineServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()

    def serve(self, run: Run) -> None:
        """Answer for `run` from now on; who calls is started or told of the address after this."""
        self._run = run

    async def stop(self) -> None:
        """Close the services."""
        await self._server.stop(0)

    async def _answer(
        self, method: str, request: Message, context: grpc.aio.ServicerContext[Any, Any], work: Awaitable[Message]
    ) -> Message:
        transcript, name = self._transcript, f"ResourceMonitor/{method}"
        began = transcript.start(name, request, mode="server")
        deployment = self._run.deployment
        error: Exception
        try:
            response = await work
        except Stopped as stop:
            error = stop
        except (ProviderError, DppError) as problem:
            error = deployment.fail("", problem)
        except Exception as problem:
            error = deployment.fail("", problem)
            raise
        else:
            transcript.end(name, request, began, response, mode="server")
            return response
        transcript.end(name, request, began, None, str(error), mode="server")
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the operation ends")
        raise AssertionError

    async def GetDeploymentInfo(self, request: Any, context: Any) -> Message:  # noqa: N802 - names of the protocol
        """Tell the program its stack and configuration, and what this engine does."""
        return await self._answer("GetDeploymentInfo", request, context, self._info())

    async def _info(self) -> Message:
        run = self._run
        features = [resource_pb2.ResourceMonitorFeature.Value(f"RESOURCE_MONITOR_FEATURE_{name}") for name in _FEATURES]
        return resource_pb2.DeploymentInfo(
            project=run.project.name,
            stack=run.stack,
            organization="organization",
            config=run.config.values,
            configSecretKeys=run.config.secret_keys,
            dryRun=run.deployment.preview,
            parallel=run.deployment.parallel,
            supportedFeatures=features,
        )

    async def SupportsFeature(self, request: Any, context: Any) -> Message:  # noqa: N802
        """Answer older SDKs."""
        supported = {"secrets", "resourceReferences", "outputValues", "aliasSpecs", "deletedWith"}
        return await self._answer(
            "SupportsFeature",
            request,
            context,
            _ready(resource_pb2.SupportsFeatureResponse(hasSupport=request.id in supported)),
        )

    async def RegisterResource(self, request: Any, context: Any) -> Message:  # noqa: N802
        """Bring a resource to what the program asks for."""
        return await self._answer("RegisterResource", request, context, self._register(request))

    async def _register(self, request: resource_pb2.RegisterResourceRequest) -> Message:
        run = self._run
        goal = of_request(request, run.stack, run.project.name, Path(run.project.folder))
        outcome = await run.deployment.register(goal)
        outputs = outcome.outputs if goal.custom else goal.inputs
        return resource_pb2.RegisterResourceResponse(
            urn=outcome.urn, id=outcome.id, object=to_struct(outputs), stables=list(outcome.stables)
        )

    async def RegisterResourceOutputs(self, request: Any, context: Any) -> Message:  # noqa: N802
        """Note what a component puts out."""
        return await self._answer("RegisterResourceOutputs", request, context, self._outputs(request))

    async def _outputs(self, request: resource_pb2.RegisterResourceOutputsRequest) -> Message:
        journal = self._run.deployment.journal
        old = journal.old(request.urn)
        if old is None:
            raise FatalError(request.urn, "has outputs but was not registered", "a component of this program")
        outputs = from_struct(request.outputs)
        if self._run.deployment.stopped.is_set():
            raise Stopped
        journal.amend(old.with_fields(outputs=outputs), old)
        journal.save()
        if old.type == STACK_TYPE:
            self._run.deployment.emit(Event("outputs", old.urn, diff=outputs))
        return empty_pb2.Empty()

    async def ReadResource(self, request: Any, context: Any) -> Message:  # noqa: N802
        """Read what another stack, or somebody else, manages."""
        return await self._answer("ReadResource", request, context, self._read(request))

    async def _read(self, request: resource_pb2.ReadResourceRequest) -> Message:
        run, deployment = self._run, self._run.deployment
        urn = make_urn(run.stack, run.project.name, request.type, request.name, request.parent)
        if deployment.stopped.is_set():
            raise Stopped
        deployment.claimed.add(urn)
        inputs = from_struct(request.properties)
        if request.type == REFERENCE_TYPE:
            provider = await deployment.providers.default(BUILT_IN)
            id_, outputs = request.id, await asyncio.to_thread(run.references, str(inputs.get("name", request.id)))
        else:
            package = request.type.partition(":")[0]
            of = deployment.providers
            provider = await (of.of_reference(request.provider) if request.provider else of.default(package))
            found = await provider.process.read(urn, request.id, (inputs, {}))
            if not found.id:
                raise FatalError(urn, f"{request.id} does not exist", "an object to read")
            id_, outputs = found.id, found.outputs
        fields = {"urn": urn, "custom": True, "id": id_, "type": request.type, "parent": request.parent}
        fields |= {"external": True, "provider": provider.reference, "dependencies": list(request.dependencies)}
        resource = Resource({key: value for key, value in fields.items() if value}, inputs, outputs)
        deployment.journal.add(resource, deployment.journal.old(urn))
        deployment.journal.save()
        deployment.emit(Event("step", urn, "read", "done", parent=request.parent))
        return resource_pb2.ReadResourceResponse(urn=urn, properties=to_struct(outputs))

    async def Invoke(self, request: Any, context: Any) -> Message:  # noqa: N802
        """Call a function of a provider, or look outputs and resources up."""
        return await self._answer("Invoke", request, context, self._invoke(request))

    async def _invoke(self, request: resource_pb2.ResourceInvokeRequest) -> Message:
        args = from_struct(request.args)
        deployment = self._run.deployment
        if request.tok == "pulumi:pulumi:readStackOutputs":
            found = await asyncio.to_thread(self._run.references, str(args["name"]))
            return provider_pb2.InvokeResponse(**{"return": to_struct(found)})
        if request.tok == "pulumi:pulumi:getResource":
            resource = deployment.journal.old(str(args["urn"]))
            if resource is None:
                raise FatalError(str(args["urn"]), "not in this stack", "a resource that was registered before")
            state = {"urn": resource.urn, "id": resource.id, "state": resource.outputs}
            return provider_pb2.InvokeResponse(**{"return": to_struct(state)})
        of = deployment.providers
        provider = await (
            of.of_reference(request.provider) if request.provider else of.default(request.tok.partition(":")[0])
        )
        result, failures = await provider.process.invoke(request.tok, args, preview=deployment.preview)
        return provider_pb2.InvokeResponse(**{"return": to_struct(result)}, failures=failures)

    async def SignalAndWaitForShutdown(self, request: Any, context: Any) -> Message:  # noqa: N802
        """Hold the program until what it does not ask for is deleted."""
        return await self._answer("SignalAndWaitForShutdown", request, context, self._wait())

    async def _wait(self) -> Message:
        self.program_done.set()
        await self.release.wait()
        return empty_pb2.Empty()

    async def Log(self, request: Any, context: Any) -> Message:  # noqa: N802, ARG002
        """Pass a line on; errors are kept for the end."""
        severity = "status" if request.ephemeral else _SEVERITIES.get(request.severity, "info")
        deployment = self._run.deployment
        if deployment.stopped.is_set() and "monitor has terminated" in request.message:
            return empty_pb2.Empty()  # the program's view of an end that has its own message
        if severity == "error" and not request.urn:
            deployment.errors.append(request.message)  # shown at the end, where nobody misses it
            return empty_pb2.Empty()
        deployment.emit(Event("log", request.urn, message=request.message, severity=severity))
        return empty_pb2.Empty()

    async def GetRootResource(self, request: Any, context: Any) -> Message:  # noqa: N802, ARG002
        """Return the root resource."""
        return engine_pb2.GetRootResourceResponse(urn=self._root)

    async def SetRootResource(self, request: Any, context: Any) -> Message:  # noqa: N802, ARG002
        """Note the root resource."""
        self._root = request.urn
        return engine_pb2.SetRootResourceResponse()


async def _ready(message: Message) -> Message:
    return message
