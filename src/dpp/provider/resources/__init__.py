"""The kinds of resources, one module each."""

from typing import Final

from dpp.provider.resource import Resource
from dpp.provider.resources.convergence import Convergence
from dpp.provider.resources.device_configuration import DeviceConfiguration
from dpp.provider.resources.link import Link
from dpp.provider.resources.machine import Machine
from dpp.provider.resources.manifests import Manifests
from dpp.provider.resources.platform_images import PlatformImages
from dpp.provider.resources.workload_images import WorkloadImages

KINDS: Final[tuple[type[Resource], ...]] = (
    Machine,
    Link,
    Convergence,
    DeviceConfiguration,
    PlatformImages,
    WorkloadImages,
    Manifests,
)
"""All kinds that programs can use."""
