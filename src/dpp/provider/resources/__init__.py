"""What is done for each kind of resource, one module each, imported when the first of its kind is asked for."""

from functools import cache
from importlib import import_module
from typing import Any, Final

from dpp.model.errors import FatalError
from dpp.provider import kinds
from dpp.provider.resource import Resource

_MODULES: Final[dict[type[kinds.Kind], str]] = {
    kinds.Machine: "machine",
    kinds.Link: "link",
    kinds.Convergence: "convergence",
    kinds.DeviceConfiguration: "device_configuration",
    kinds.PlatformImages: "platform_images",
    kinds.WorkloadImages: "workload_images",
    kinds.Manifests: "manifests",
}
KINDS: Final = tuple(_MODULES)
"""All kinds that programs can use."""


@cache
def resource_of(token: str) -> Resource[Any]:
    """Return what is done for a type of resource.

    Raises
    ------
    FatalError
        If there is no such type.
    """
    for kind, module in _MODULES.items():
        if kind.token == token:
            found: Resource[Any] = getattr(import_module(f"{__name__}.{module}"), kind.__name__)()
            return found
    known = ", ".join(sorted(kind.token for kind in KINDS))
    raise FatalError(f"resource type {token}", "unknown to provider dpp", f"one of {known}")
