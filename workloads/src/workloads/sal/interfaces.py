"""The interfaces of devices, as the XML files of `interfaces/` say, and what they come to in Avro and Kafka.

``DPP_INTERFACES`` names another folder. The files are checked strictly where they are kept (``dpp model check``).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from workloads.common.errors import NonRetriableError

ACK = "ackcmd"
COMMAND, EVENT = "command_", "logevent_"
_AVRO = {
    "boolean": "boolean",
    "byte": "int",
    "short": "int",
    "int": "int",
    "long": "int",
    "long long": "long",
    "unsigned short": "int",
    "unsigned int": "long",
    "float": "float",
    "double": "double",
    "string": "string",
}
_BITS = {"int": 31, "long": 63}
_DEFAULTS: dict[str, Any] = {"boolean": False, "int": 0, "long": 0, "float": 0.0, "double": 0.0, "string": ""}
_PARTS = {"Commands": "SALCommand", "Events": "SALEvent", "Telemetry": "SALTelemetry"}


@dataclass(frozen=True)
class Field:
    """A field of a topic; `type` is Avro's, and `count` above 1 makes it an array of so many."""

    name: str
    type: str
    units: str
    description: str
    count: int = 1

    @property
    def default(self) -> Any:
        """What it is where nobody says."""
        value = _DEFAULTS[self.type]
        return [value] * self.count if self.count > 1 else value

    def schema(self) -> dict[str, Any]:
        """Return it as Avro has it; the order of the keys counts, see `Topic.revision`."""
        kind: Any = {"type": "array", "items": self.type} if self.count > 1 else self.type
        return {
            "name": self.name,
            "type": kind,
            "default": self.default,
            "description": self.description,
            "units": self.units,
        }

    def problem(self, value: Any) -> str:
        """Return what is wrong with a value; nothing if it fits."""
        if self.count == 1:
            return self._problem(value)
        if not isinstance(value, list | tuple) or len(value) != self.count:
            return f"{value!r}, expected {self.count} values of type {self.type}"
        return next(filter(None, map(self._problem, value)), "")

    def _problem(self, value: Any) -> str:
        right = {
            "boolean": isinstance(value, bool),
            "string": isinstance(value, str),
            "float": isinstance(value, int | float) and not isinstance(value, bool),
        }
        whole = isinstance(value, int) and not isinstance(value, bool)
        bits = _BITS.get(self.type)
        if bits:
            fits = whole and -(1 << bits) <= value < 1 << bits
        else:
            fits = right["float" if self.type == "double" else self.type]
        return "" if fits else f"{value!r}, expected a value of type {self.type}"


def _whole(name: str, description: str) -> Field:
    return Field(name, "int", "unitless", description)


def _text(name: str, description: str) -> Field:
    return Field(name, "string", "unitless", description)


def _seconds(name: str, description: str) -> Field:
    return Field(name, "double", "second", description)


_INDEX = _whole("salIndex", "Number of the instance of an indexed component")
_PRIVATE = (
    _seconds("private_sndStamp", "When it was sent, TAI"),
    _seconds("private_rcvStamp", "When it was received, TAI; the reader sets it"),
    _seconds("private_efdStamp", "When it was sent, UTC"),
    _seconds("private_kafkaStamp", "When it was given to Kafka, TAI"),
    _whole("private_seqNum", "Number of the record, from 1"),
    _text("private_revCode", "Revision of the schema: it changes with any of its words"),
    _text("private_identity", "Who sent it: name, or name and index, of a component; user@host of a person"),
    _whole("private_origin", "Number of the process that sent it"),
)
_ACK = (
    _whole("ack", "301 in progress, 303 complete, -302 failed, -303 aborted, -304 out of time"),
    _whole("error", "1 where the command failed, 0 otherwise"),
    _text("result", "What came of it, in words"),
    _text("identity", "private_identity of the command"),
    _whole("origin", "private_origin of the command"),
    _whole("cmdtype", "Place of the command among the component's commands in the order of their names, from 0"),
    _seconds("timeout", "How much longer it may take, where it is in progress"),
)


@dataclass(frozen=True)
class Topic:
    """A topic of a component.

    Parameters
    ----------
    component
        Whose.
    name
        ``command_X``, ``logevent_X``, the name of a telemetry topic, or ``ackcmd``.
    description
        For people.
    own
        Its fields without the private ones.
    indexed
        Whether its records say of which instance they are.
    """

    component: str
    name: str
    description: str
    own: tuple[Field, ...]
    indexed: bool

    @property
    def role(self) -> str:
        """What contracts call it."""
        return f"{self.component}.{self.name}"

    @property
    def short(self) -> str:
        """Its name without what tells of which kind it is."""
        return self.name.removeprefix(COMMAND).removeprefix(EVENT)

    @property
    def keyed(self) -> bool:
        """Whether its records have a key: all but telemetry."""
        return self.name.startswith((COMMAND, EVENT)) or self.name == ACK

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """All fields in their order."""
        return (*((_INDEX,) if self.indexed else ()), *_PRIVATE, *self.own)

    @cached_property
    def schema(self) -> dict[str, Any]:
        """Its schema; the namespace does not follow the name in Kafka."""
        return {
            "type": "record",
            "name": self.name,
            "namespace": f"lsst.sal.{self.component}",
            "fields": [field.schema() for field in self.fields],
            "description": self.description,
        }

    @cached_property
    def revision(self) -> str:
        """Its ``private_revCode``."""
        text = json.dumps(self.schema, indent=4)
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:8]

    def kafka_name(self, subname: str = "sal") -> str:
        """Return what it is called in Kafka."""
        return f"lsst.{subname}.{self.component}.{self.name}"

    def key(self, index: int) -> str | None:
        """Return the key of its records: one for each index, so that compaction keeps the last of each."""
        if not self.keyed:
            return None
        number = f'"index": {index}, ' if self.indexed else ""
        return f'{{ "name": "{self.component}", {number}"topic": "{self.name}" }}'


@dataclass(frozen=True)
class Component:
    """A device as the control system sees it; `topics` are by name, acknowledgements included."""

    name: str
    description: str
    indexed: bool
    topics: Mapping[str, Topic]

    @cached_property
    def commands(self) -> tuple[str, ...]:
        """The names of its commands in their order: the place of each is its ``cmdtype``."""
        return tuple(sorted(name.removeprefix(COMMAND) for name in self.topics if name.startswith(COMMAND)))

    def topic(self, name: str) -> Topic:
        """Return a topic; `NonRetriableError` where it has none of that name."""
        if name not in self.topics:
            raise NonRetriableError(f"{self.name}: no topic {name}; expected one of {', '.join(sorted(self.topics))}")
        return self.topics[name]

    def identity(self, index: int) -> str:
        """Return what an instance calls itself.

        Raises
        ------
        NonRetriableError
            If it needs an index and has none, or the other way round.
        """
        if self.indexed != (index > 0):
            raise NonRetriableError(f"{self.name}: index {index}, expected {'one above 0' if self.indexed else '0'}")
        return f"{self.name}:{index}" if self.indexed else self.name


def folder() -> Path:
    """Return where the interfaces are."""
    return Path(os.environ.get("DPP_INTERFACES", str(Path(__file__).parents[4] / "interfaces")))


def component(name: str) -> Component:
    """Return the interface of a component; `NonRetriableError` where there is none."""
    return _read(folder(), name)


@cache
def _read(place: Path, name: str) -> Component:
    systems = {_of(one, "Name"): one for one in _root(place / "SALSubsystems.xml")}
    if name not in systems:
        raise NonRetriableError(f"component {name}: not in {place}; expected one of {', '.join(sorted(systems))}")
    system = systems[name]
    indexed = _of(system, "IndexEnumeration") != "no"
    added = {"mandatory", *(one.strip() for one in _of(system, "AddedGenerics").split(","))}
    generics = [one for group in _root(place / "SALGenerics.xml") for one in group]
    chosen = [one for one in generics if {_of(one, "Category"), _of(one, "EFDB_Topic").partition("_")[2]} & added]
    topics = [_topic(one, name, indexed=indexed) for one in [*chosen, *_own(place, name)]]
    topics.append(Topic(name, ACK, "What becomes of a command", _ACK, indexed))
    return Component(name, _of(system, "Description"), indexed, {topic.name: topic for topic in topics})


def _own(place: Path, name: str) -> Iterator[ET.Element]:
    for part, tag in _PARTS.items():
        path = place / name / f"{name}_{part}.xml"
        if path.is_file():
            yield from _root(path).iter(tag)


def _topic(element: ET.Element, component_name: str, *, indexed: bool) -> Topic:
    fields = tuple(
        Field(
            _of(item, "EFDB_Name"), _AVRO[_of(item, "IDL_Type")], _of(item, "Units"), _of(item, "Description"),
            int(_of(item, "Count")),
        )
        for item in element.iter("item")
    )  # fmt: skip
    name = _of(element, "EFDB_Topic").partition("_")[2]
    return Topic(component_name, name, _of(element, "Description"), fields, indexed)


def _root(path: Path) -> ET.Element:
    try:
        return ET.parse(path).getroot()  # noqa: S314 - files of this repository
    except (OSError, ET.ParseError) as error:
        raise NonRetriableError(f"interface {path}: cannot be read: {error}; see `dpp model check`") from error


def _of(element: ET.Element, tag: str) -> str:
    return " ".join((element.findtext(tag) or "").split())
