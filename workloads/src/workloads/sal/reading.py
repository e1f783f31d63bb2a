"""Events of devices as others read them: by the interfaces of this release, whatever the device's own is."""

from __future__ import annotations

from workloads.common.avro import Codec
from workloads.common.consume import Decode
from workloads.common.kafka import Bus
from workloads.common.registry import RegistryClient
from workloads.common.schemas import Declared
from workloads.sal.interfaces import component
from workloads.sal.link import REGISTRY

_NOBODYS = -1
"""Of what is only read: no message has it."""


def decoders(bus: Bus, *roles: str) -> dict[str, Decode]:
    """Return the decoders of topics of devices, by what contracts call them, such as ``MTArchiver.logevent_imageStored``."""
    declared = {}
    for role in roles:
        name, _, topic = role.partition(".")
        declared[role] = Declared(_NOBODYS, f"{role}-value", component(name).topic(topic).schema)
    codec = Codec.of(declared, RegistryClient(bus.settings.service(REGISTRY)))
    return dict.fromkeys(roles, lambda message: codec.decode(message.role, message.value))
