"""What a client reads from the interfaces of devices: commands with their parameters, events, and the schemas of all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.dom import minidom

_WORDS = {"boolean": "true or false", "string": "a text", "float": "a number", "double": "a number"}
_WHOLE = {
    "byte": (-128, 255),
    "short": (-(2**15), 2**15 - 1),
    "unsigned short": (0, 2**16 - 1),
    "int": (-(2**31), 2**31 - 1),
    "long": (-(2**31), 2**31 - 1),
    "unsigned int": (0, 2**32 - 1),
    "long long": (-(2**63), 2**63 - 1),
}
_LONG = ("unsigned int", "long long")
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class UsageError(Exception):
    """What was asked for does not go with the device's interface: the text says what would."""


@dataclass(frozen=True)
class Parameter:
    """A field of a topic, as the interface declares it."""

    name: str
    type: str
    units: str
    about: str
    count: int = 1

    @property
    def avro(self) -> str:
        """Its type in Avro."""
        return ("long" if self.type in _LONG else "int") if self.type in _WHOLE else self.type

    @property
    def nothing(self) -> Any:
        """Its value where nobody says."""
        value: Any = {"boolean": False, "string": "", "float": 0.0, "double": 0.0}.get(self.type, 0)
        return value if self.count == 1 else [value] * self.count

    @property
    def expected(self) -> str:
        """What a value of it looks like, for people."""
        lowest, highest = _WHOLE.get(self.type, (0, 0))
        one = _WORDS.get(self.type) or f"a whole number from {lowest} to {highest}"
        unit = "" if self.units == "unitless" else f" ({self.units})"
        return f"{one}{unit}" if self.count == 1 else f"{self.count} values, joined by commas, each {one}{unit}"

    def schema(self) -> dict[str, Any]:
        """Return the field of the schema."""
        kind: Any = self.avro if self.count == 1 else {"type": "array", "items": self.avro}
        told = {"description": self.about, "units": self.units}
        return {"name": self.name, "type": kind, "default": self.nothing, **told}

    def parse(self, text: str) -> Any:
        """Return the value that a text stands for.

        Raises
        ------
        UsageError
            If it stands for none.
        """
        if self.count == 1:
            return self._one(text)
        parts = text.split(",")
        if len(parts) != self.count:
            raise UsageError(f"{self.name}={text}: {len(parts)} values; expected {self.expected}")
        return [self._one(part) for part in parts]

    def _one(self, text: str) -> Any:
        try:
            if self.type in _WHOLE:
                number, (lowest, highest) = int(text, 0), _WHOLE[self.type]
                return {True: number}[lowest <= number <= highest]
            if self.type == "boolean":
                return _TRUTHS[text.strip().lower()]
            return text if self.type == "string" else float(text)
        except (ValueError, KeyError) as error:
            raise UsageError(f"{self.name}={text}: expected {self.expected}") from error


def _stamp(name: str, about: str) -> Parameter:
    return Parameter(name, "double", "second", about)


def _number(name: str, about: str) -> Parameter:
    return Parameter(name, "long", "unitless", about)


def _word(name: str, about: str) -> Parameter:
    return Parameter(name, "string", "unitless", about)


_HEAD = (
    _stamp("private_sndStamp", "Time of sending, TAI"),
    _stamp("private_rcvStamp", "Time of reception, TAI"),
    _stamp("private_efdStamp", "Time of sending, UTC"),
    _stamp("private_kafkaStamp", "Time of production, TAI"),
    _number("private_seqNum", "Sequence number"),
    _word("private_revCode", "Revision of this schema"),
    _word("private_identity", "Sender"),
    _number("private_origin", "Process of the sender"),
)
_ACKNOWLEDGEMENT = (
    _number("ack", "Code"),
    _number("error", "Number of an error"),
    _word("result", "Result"),
    _word("identity", "Sender of the command"),
    _number("origin", "Process of the command's sender"),
    _number("cmdtype", "Place of the command in the list of all"),
    _stamp("timeout", "Expected duration"),
)


@dataclass(frozen=True)
class Subject:
    """One topic of a device, as a client sees it."""

    device: str
    name: str
    about: str
    own: tuple[Parameter, ...]
    indexed: bool

    @property
    def schema(self) -> str:
        """Its schema, as JSON."""
        index = (_number("salIndex", "Index of the component"),) if self.indexed else ()
        fields = [one.schema() for one in (*index, *_HEAD, *self.own)]
        head = {"type": "record", "name": self.name, "namespace": f"lsst.sal.{self.device}"}
        return json.dumps(head | {"fields": fields, "description": self.about}, indent=4)

    @property
    def revision(self) -> str:
        """The revision that records name."""
        return hashlib.md5(self.schema.encode(), usedforsecurity=False).hexdigest()[:8]

    def key(self, index: int) -> str:
        """Return the key of a command's records."""
        instance = f'"index": {index}, ' if self.indexed else ""
        return '{ "name": "' + self.device + '", ' + instance + '"topic": "' + self.name + '" }'


@dataclass(frozen=True)
class Interface:
    """One device: its topics by their names, acknowledgements included."""

    name: str
    about: str
    indexed: bool
    subjects: Mapping[str, Subject]

    @classmethod
    def read(cls, device: str, folder: Path | None = None) -> Interface:
        """Read the interface of a device.

        Raises
        ------
        UsageError
            If there is no such device.
        """
        place = folder or where()
        systems = {one["Name"]: one for one in map(_facts, _elements(place / "SALSubsystems.xml", "SALSubsystem"))}
        if device not in systems:
            raise UsageError(f"device {device}: there is none; expected one of {', '.join(sorted(systems))}")
        system = systems[device]
        indexed = system["IndexEnumeration"] != "no"
        wanted = {"mandatory", *(one.strip() for one in system["AddedGenerics"].split(","))}
        found: dict[str, Subject] = {}
        for tag, part in (("SALCommand", "Commands"), ("SALEvent", "Events"), ("SALTelemetry", "Telemetry")):
            own = place / device / f"{device}_{part}.xml"
            generic = [
                one for one in _elements(place / "SALGenerics.xml", tag) if _facts(one).get("Category") in wanted
            ]
            for element in [*generic, *(_elements(own, tag) if own.is_file() else [])]:
                subject = _subject(element, device, indexed=indexed)
                found[subject.name] = subject
        found["ackcmd"] = Subject(device, "ackcmd", "Acknowledgements", _ACKNOWLEDGEMENT, indexed)
        return cls(device, system["Description"], indexed, found)

    @property
    def commands(self) -> list[str]:
        """Its commands, in the order of their names."""
        return sorted(name.removeprefix("command_") for name in self.subjects if name.startswith("command_"))

    @property
    def events(self) -> list[str]:
        """Its events, in the order of their names."""
        return sorted(name.removeprefix("logevent_") for name in self.subjects if name.startswith("logevent_"))

    @property
    def telemetry(self) -> list[str]:
        """Its telemetry topics, in the order of their names."""
        return sorted(
            name for name in self.subjects if name != "ackcmd" and not name.startswith(("command_", "logevent_"))
        )

    def command(self, name: str) -> Subject:
        """Return the topic of a command; `UsageError` where there is none."""
        if name not in self.commands:
            raise UsageError(f"{self.name} {name}: no such command; expected one of {', '.join(self.commands)}")
        return self.subjects[f"command_{name}"]

    def watched(self, name: str) -> Subject:
        """Return the topic of an event or of telemetry; `UsageError` where there is none."""
        for full in (f"logevent_{name}", name):
            if full in self.subjects and not full.startswith("command_"):
                return self.subjects[full]
        raise UsageError(
            f"{self.name} {name}: no such event; expected one of {', '.join([*self.events, *self.telemetry])}"
        )

    def parameters(self, command: str, words: Iterable[str]) -> dict[str, Any]:
        """Return the parameters of a command that words such as ``level=10`` stand for.

        Raises
        ------
        UsageError
            If there is none of a name, or a value is of another type.
        """
        own = {one.name: one for one in self.command(command).own}
        found = {name: one.nothing for name, one in own.items()}
        for word in words:
            name, sign, value = word.partition("=")
            if name not in own or not sign:
                known = "; ".join(f"{one.name}={one.expected}" for one in own.values()) or "no parameter"
                raise UsageError(f"{self.name} {command}: {word}: expected {known}")
            found[name] = own[name].parse(value)
        return found


def where() -> Path:
    """Return the folder of the interfaces."""
    return Path(os.environ.get("DPP_INTERFACES") or Path(__file__).resolve().parents[4] / "interfaces")


def devices(folder: Path | None = None) -> dict[str, str]:
    """Return all devices with what they are."""
    systems = map(_facts, _elements((folder or where()) / "SALSubsystems.xml", "SALSubsystem"))
    return {one["Name"]: one["Description"] for one in systems}


def _subject(element: minidom.Element, device: str, *, indexed: bool) -> Subject:
    facts = _facts(element)
    items = [_facts(one) for one in element.getElementsByTagName("item")]
    own = [
        Parameter(one["EFDB_Name"], one["IDL_Type"], one["Units"], one["Description"], int(one["Count"]))
        for one in items
    ]
    return Subject(device, facts["EFDB_Topic"].split("_", 1)[1], facts["Description"], tuple(own), indexed)


def _elements(path: Path, tag: str) -> list[minidom.Element]:
    return list(minidom.parse(str(path)).getElementsByTagName(tag))  # noqa: S318 - files of this repository


def _facts(element: minidom.Element) -> dict[str, str]:
    """Return the texts of an element's children, by tag."""
    found = {}
    for child in element.childNodes:
        if isinstance(child, minidom.Element):
            text = "".join(node.data for node in child.childNodes if isinstance(node, minidom.Text))
            found[child.tagName] = " ".join(text.split())
    return found
