"""The provider's resources as programs see them: one class per type, inputs by keyword, outputs as attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pulumi


class _Resource(pulumi.CustomResource):
    token: ClassVar[str]
    outputs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, **inputs: pulumi.Input[Any]) -> None:
        super().__init__(self.token, name, inputs | dict.fromkeys(self.outputs), opts)


class Machine(_Resource):
    """A host, standing and on its network."""

    token = "dpp:machines:Machine"  # noqa: S105 - a type's name
    outputs = ("identity",)
    identity: pulumi.Output[str]


class Link(_Resource):
    """A circuit of the lab: two shaped ends."""

    token = "dpp:links:Link"  # noqa: S105


class Convergence(_Resource):
    """A layer of hosts converged by their roles."""

    token = "dpp:hosts:Convergence"  # noqa: S105
    outputs = ("changes",)
    changes: pulumi.Output[int]


class DeviceConfiguration(_Resource):
    """A router's whole configuration."""

    token = "dpp:network:DeviceConfiguration"  # noqa: S105


class PlatformImages(_Resource):
    """The images that a site's cluster runs on, in the site's registry."""

    token = "dpp:images:PlatformImages"  # noqa: S105
    outputs = ("references",)
    references: pulumi.Output[Mapping[str, str]]


class WorkloadImages(_Resource):
    """The images of the workloads, in a site's registry."""

    token = "dpp:images:WorkloadImages"  # noqa: S105
    outputs = ("references",)
    references: pulumi.Output[Mapping[str, str]]


class Manifests(_Resource):
    """The objects of one service on one cluster."""

    token = "dpp:clusters:Manifests"  # noqa: S105
    outputs = ("owner",)
    owner: pulumi.Output[str]
