"""The page about the devices' interfaces, as the files of `interfaces/` say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from dpp.model.interfaces import Component, Field, SalTopic

PAGE: Final = "docs/developers/interfaces.md"
_HEAD: Final = """\
# Interfaces of devices

Made from `interfaces/` by `dpp model interfaces`; a test holds it to them. Each topic is called `lsst.sal.DEVICE.TOPIC` in Kafka, has
one partition, and a record of Avro with the fields that stand here behind the private ones. Events are compacted, to the last of
each after a week; all else is kept for a week. `dpp ocs` commands any device that a workload's contract names (`devices:`); none does
yet: the archiver of the lab still has topics of its own.
"""
_GENERIC: Final = (
    "command_disable", "command_enable", "command_exitControl", "command_setLogLevel", "command_standby", "command_start",
    "logevent_configurationApplied", "logevent_configurationsAvailable", "logevent_errorCode", "logevent_heartbeat",
    "logevent_logLevel", "logevent_logMessage", "logevent_simulationMode", "logevent_softwareVersions", "logevent_summaryState",
)  # fmt: skip
_KINDS: Final = ("command", "event", "telemetry")


def page(components: Mapping[str, Component]) -> str:
    """Return the page."""
    return "\n".join([_HEAD, *_generics(components), *(line for one in components.values() for line in _device(one))])


def _generics(components: Mapping[str, Component]) -> Iterator[str]:
    """Yield the topics that many devices share, once."""
    shared = {name: topic for one in components.values() for name, topic in one.topics.items() if name in _GENERIC}
    yield "## What all devices have\n"
    yield "Those with `configuration` in their names only devices that can be configured.\n"
    yield from _topics(shared)


def _device(component: Component) -> Iterator[str]:
    yield f"## {component.name}\n"
    yield f"{component.description}.{_instances(component)}\n"
    yield from _topics({name: topic for name, topic in component.topics.items() if name not in _GENERIC})


def _instances(component: Component) -> str:
    if component.indices is None:
        return ""
    named = ", ".join(f"{number} is {name}" for name, number in component.indices.items())
    return f" It has several instances, told apart by `salIndex`: {named or 'any number'}."


def _topics(topics: Mapping[str, SalTopic]) -> Iterator[str]:
    yield "| topic | field | type | |"
    yield "|---|---|---|---|"
    for kind in _KINDS:
        for name, topic in sorted(topics.items()):
            if topic.kind == kind:
                yield f"| `{name}` | | | {topic.description} |"
                yield from (_row(field) for field in topic.fields)
    yield ""


def _row(field: Field) -> str:
    count = f"[{field.count}]" if field.count > 1 else ""
    unit = "" if field.units == "unitless" else f" ({field.units})"
    return f"| | `{field.name}` | {field.type}{count} | {field.description}{unit} |"
