"""What a provider answers: differences, objects, and errors with what they left."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import grpc.aio
from pulumi.runtime.proto import provider_pb2, status_pb2

from dpp.engine.values import Properties

_WRAPPED = re.compile(r"^Unexpected <class '[^']+'>: ")
_TRACEBACK = re.compile(r":\n {2}File \".*", re.DOTALL)


class ProviderError(Exception):
    """A call that the provider answered with an error.

    Parameters
    ----------
    message
        What the provider said, without its traceback.
    detail
        The traceback, if it sent one.
    left
        What exists although the call failed, if the provider said so.
    """

    def __init__(
        self, message: str, detail: str = "", left: provider_pb2.ErrorResourceInitFailed | None = None
    ) -> None:
        super().__init__(message)
        self.detail = detail
        self.left = left

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> ProviderError:
        """Return what a gRPC error means."""
        text = _WRAPPED.sub("", error.details() or error.code().name)
        traceback = _TRACEBACK.search(text)
        left = _left(error)
        message = "; ".join(left.reasons) if left and left.reasons else _TRACEBACK.sub("", text)
        return cls(message, traceback.group(0)[2:] if traceback else "", left)


def _left(error: grpc.aio.AioRpcError) -> provider_pb2.ErrorResourceInitFailed | None:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                found = provider_pb2.ErrorResourceInitFailed()
                if detail.Unpack(found):
                    return found
    return None


@dataclass(frozen=True)
class Diff:
    """What a provider says about the difference between a resource and its inputs."""

    changes: bool | None
    replaces: tuple[str, ...] = ()
    stables: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    delete_before_replace: bool = False


@dataclass(frozen=True)
class Found:
    """What a provider returned for an object: an empty id says that there is none."""

    id: str
    outputs: Properties = field(default_factory=dict)
    inputs: Properties = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
