"""The provider's resources as programs see them: one class per kind, made from its inputs, outputs as attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

import pulumi

from dpp.provider import kinds

K = TypeVar("K", bound=kinds.Kind)


class _Resource(pulumi.CustomResource, Generic[K]):
    def __init__(self, name: str, inputs: K, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(inputs.token, name, inputs.given() | dict.fromkeys(inputs.outputs), opts)


class Machine(_Resource[kinds.Machine]):
    """A host, standing and on its network."""

    identity: pulumi.Output[str]


class Link(_Resource[kinds.Link]):
    """A circuit of the lab: two shaped ends."""


class Convergence(_Resource[kinds.Convergence]):
    """A layer of hosts converged by their roles."""

    changes: pulumi.Output[int]


class DeviceConfiguration(_Resource[kinds.DeviceConfiguration]):
    """A router's whole configuration."""


class PlatformImages(_Resource[kinds.PlatformImages]):
    """The images that a site's cluster runs on, in the site's registry."""

    references: pulumi.Output[Mapping[str, str]]


class WorkloadImages(_Resource[kinds.WorkloadImages]):
    """The images of the workloads, in a site's registry."""

    references: pulumi.Output[Mapping[str, str]]


class Manifests(_Resource[kinds.Manifests]):
    """The objects of one service on one cluster."""

    owner: pulumi.Output[str]
