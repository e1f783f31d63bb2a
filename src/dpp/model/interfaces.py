"""The devices' interfaces in `interfaces/`, in the XML form of the observatory's Service Abstraction Layer, read strictly.

``SALSubsystems.xml`` names the components, ``SALGenerics.xml`` has the topics that many of them share, and
``<component>/<component>_Commands.xml``, ``_Events.xml`` and ``_Telemetry.xml`` those of each. What is refused here is refused
for everybody: devices and clients read the same files, each by code of their own, and rely on this check.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from xml.parsers import expat

from dpp.model.folders import REPOSITORY
from dpp.model.problems import DeclarationError, Problem

FOLDER: Final = "interfaces"
COMMAND_PREFIX: Final = "command_"
EVENT_PREFIX: Final = "logevent_"
ACK: Final = "ackcmd"
"""Topic of a component's acknowledgements: the same for all, so no file declares it."""
TYPES: Final = {
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
"""Types of the interfaces, and what they are in Avro."""
_SETS: Final = {
    "Commands": ("SALCommandSet", "SALCommand", COMMAND_PREFIX),
    "Events": ("SALEventSet", "SALEvent", EVENT_PREFIX),
    "Telemetry": ("SALTelemetrySet", "SALTelemetry", ""),
}
_GENERIC: Final = "SALGeneric"
_CATEGORIES: Final = ("mandatory", "csc", "configurable")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TOPIC: Final = ("Subsystem", "EFDB_Topic", "Description")
_FIELD: Final = ("EFDB_Name", "Description", "IDL_Type", "Units", "Count")
_SUBSYSTEM: Final = ("Name", "Description", "IndexEnumeration", "AddedGenerics")
_OPTIONAL: Final = frozenset({"Category", "IDL_Size", "SoftwareLanguage", "Configuration", "CSCDocs", "Github"})


@dataclass(frozen=True)
class Field:
    """A field of a topic; `count` above 1 makes it an array of so many."""

    name: str
    type: str
    units: str
    description: str
    count: int = 1


@dataclass(frozen=True)
class SalTopic:
    """A topic of a component.

    Parameters
    ----------
    name
        Such as ``command_start``, ``logevent_heartbeat``; telemetry has no prefix.
    description
        For people.
    fields
        Those of its own, without the private ones.
    """

    name: str
    description: str
    fields: tuple[Field, ...] = ()

    @property
    def short(self) -> str:
        """Its name without what tells of which kind it is."""
        return self.name.removeprefix(COMMAND_PREFIX).removeprefix(EVENT_PREFIX)

    @property
    def kind(self) -> str:
        """One of ``command``, ``event``, ``ack`` and ``telemetry``."""
        if self.name == ACK:
            return "ack"
        return {"command": "command", "logevent": "event"}.get(self.name.partition("_")[0], "telemetry")


@dataclass(frozen=True)
class Component:
    """A device, as the control system sees it.

    Parameters
    ----------
    name, description
        What it is called, and what it is.
    indices
        Names and numbers of its instances where it is indexed; empty where any number may be; None where it has none.
    topics
        All but the acknowledgements, by name, in the order in which they are declared.
    """

    name: str
    description: str
    indices: Mapping[str, int] | None
    topics: Mapping[str, SalTopic]

    @property
    def indexed(self) -> bool:
        """Whether there may be several of it, told apart by an index."""
        return self.indices is not None

    def of_kind(self, kind: str) -> tuple[SalTopic, ...]:
        """Return its topics of a kind, in the order of their names."""
        return tuple(topic for _, topic in sorted(self.topics.items()) if topic.kind == kind)


def read_interfaces(root: Path = REPOSITORY) -> dict[str, Component]:
    """Read every component of ``interfaces/``.

    Raises
    ------
    DeclarationError
        With every mistake: its file, its line, what was found, what was expected.
    """
    reader = _Reader(root)
    components = reader.components()
    if reader.problems:
        raise DeclarationError(FOLDER, sorted(reader.problems, key=lambda one: (one.file, one.line or 0)))
    return components


@dataclass
class _Element:
    tag: str
    line: int
    text: str = ""
    children: list[_Element] = field(default_factory=list)

    def child(self, tag: str) -> str:
        """Return the text of a child, without what stands around it; empty where there is none."""
        return next((" ".join(one.text.split()) for one in self.children if one.tag == tag), "")

    def line_of(self, tag: str) -> int:
        return next((one.line for one in self.children if one.tag == tag), self.line)


class _Reader:
    """Reads the files of a tree, and gathers what is wrong with them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = ""
        self.problems: list[Problem] = []

    def components(self) -> dict[str, Component]:
        categories, generics = self._generics()
        found: dict[str, Component] = {}
        self._file = f"{FOLDER}/SALSubsystems.xml"
        for element in list(self._children("SALSubsystemSet", "SALSubsystem")):
            self._file = f"{FOLDER}/SALSubsystems.xml"
            if not self._complete(element, _SUBSYSTEM, "component"):
                continue
            component = self._component(element, categories, generics)
            if component.name in found:
                self._refuse(element.line_of("Name"), component.name, "a second component of that name", "one")
            found[component.name] = component
        self._strangers(found)
        return found

    def _component(
        self, element: _Element, categories: Mapping[str, list[str]], generics: Mapping[str, SalTopic]
    ) -> Component:
        name = element.child("Name")
        topics: dict[str, SalTopic] = {}
        added = ["mandatory", *(one.strip() for one in element.child("AddedGenerics").split(",") if one.strip())]
        for one in dict.fromkeys(added):
            names = [one] if one in generics else categories.get(one, [])
            if not names:
                expected = f"one of {', '.join([*categories, *generics])}"
                self._refuse(element.line_of("AddedGenerics"), f"{name}/AddedGenerics", one, expected)
            topics |= {generic: generics[generic] for generic in names}
        indices = self._indices(element, name)
        for topic in self._own(name):
            if topic.name in topics:
                self._refuse(0, f"{name}/{topic.name}", "a topic that there is already", "a name of its own")
            topics[topic.name] = topic
        return Component(name, element.child("Description"), indices, topics)

    def _indices(self, element: _Element, name: str) -> dict[str, int] | None:
        said = element.child("IndexEnumeration")
        if said in ("no", "any"):
            return None if said == "no" else {}
        found: dict[str, int] = {}
        for number, one in enumerate(said.split(","), 1):
            label, _, value = one.partition("=")
            if not _NAME.fullmatch(label.strip()) or not (value.strip() or str(number)).isdecimal():
                line = element.line_of("IndexEnumeration")
                self._refuse(line, f"{name}/IndexEnumeration", one.strip() or "nothing", "no, any, or NAME=NUMBER, ...")
                continue
            found[label.strip()] = int(value or number)
        return found

    # -- topics --------------------------------------------------------------------------------------------------------

    def _generics(self) -> tuple[dict[str, list[str]], dict[str, SalTopic]]:
        self._file = f"{FOLDER}/SALGenerics.xml"
        categories: dict[str, list[str]] = {name: [] for name in _CATEGORIES}
        topics: dict[str, SalTopic] = {}
        sets = {tag: part for part, (tag, _, _) in _SETS.items()}
        for group in self._children("SALObjects", *sets):
            _, tag, prefix = _SETS[sets[group.tag]]
            for element in self._of_tag(group, tag):
                topic = self._topic(element, _GENERIC, prefix)
                if topic is None:
                    continue
                topics[topic.name] = topic
                category = element.child("Category")
                if category in categories:
                    categories[category].append(topic.name)
                elif category:
                    line, expected = element.line_of("Category"), f"one of {', '.join(_CATEGORIES)}"
                    self._refuse(line, f"{_GENERIC}/{topic.name}/Category", category, expected)
        return categories, topics

    def _own(self, component: str) -> Iterator[SalTopic]:
        for part, (root, tag, prefix) in _SETS.items():
            self._file = f"{FOLDER}/{component}/{component}_{part}.xml"
            if (self._root / self._file).is_file():
                for element in self._children(root, tag):
                    if (topic := self._topic(element, component, prefix)) is not None:
                        yield topic

    def _topic(self, element: _Element, component: str, prefix: str) -> SalTopic | None:
        if not self._complete(element, _TOPIC, "topic", "item"):
            return None
        full = element.child("EFDB_Topic")
        owner, _, name = full.partition("_")
        line = element.line_of("EFDB_Topic")
        if element.child("Subsystem") != component:
            found = element.child("Subsystem")
            self._refuse(element.line_of("Subsystem"), f"{component}/Subsystem", found, component)
        if owner != component or not name.startswith(prefix) or not _NAME.fullmatch(name.removeprefix(prefix)):
            self._refuse(line, f"{component}/EFDB_Topic", full, f"{component}_{prefix}NAME")
            return None
        if not prefix and name.startswith((COMMAND_PREFIX, EVENT_PREFIX, ACK)):
            self._refuse(line, f"{component}/EFDB_Topic", full, "telemetry without a prefix")
            return None
        fields: dict[str, Field] = {}
        for item in (one for one in element.children if one.tag == "item"):
            made = self._field(item, f"{component}/{name}")
            if made is not None and (made.name in fields or made.name == "salIndex"):
                self._refuse(
                    item.line, f"{component}/{name}/{made.name}", "a field that there is already", "another name"
                )
            elif made is not None:
                fields[made.name] = made
        return SalTopic(name, element.child("Description"), tuple(fields.values()))

    def _field(self, item: _Element, topic: str) -> Field | None:
        if not self._complete(item, _FIELD, "field", subject=topic):
            return None
        name, type_, count = item.child("EFDB_Name"), item.child("IDL_Type"), item.child("Count")
        wrong = [
            (tag, found, expected)
            for tag, found, expected, right in (
                ("EFDB_Name", name, "a name without the prefix private_", _named(name)),
                ("IDL_Type", type_, f"one of {', '.join(TYPES)}", type_ in TYPES),
                ("Count", count, "a number from 1", count.isdecimal() and int(count) > 0),
            )
            if not right
        ]
        if not wrong and type_ == "string" and count != "1":
            wrong.append(("Count", count, "1: texts are never in arrays"))
        for tag, found, expected in wrong:
            self._refuse(item.line_of(tag), f"{topic}/{name}/{tag}", found, expected)
        return None if wrong else Field(name, type_, item.child("Units"), item.child("Description"), int(count))

    # -- files ---------------------------------------------------------------------------------------------------------

    def _children(self, root: str, *tags: str) -> Iterator[_Element]:
        element = self._parse()
        if element is None:
            return
        if element.tag != root:
            self._refuse(element.line, element.tag, f"<{element.tag}>", f"<{root}>")
            return
        yield from self._of_tag(element, *tags)

    def _of_tag(self, element: _Element, *tags: str) -> Iterator[_Element]:
        for child in element.children:
            if child.tag in tags:
                yield child
            else:
                self._refuse(child.line, element.tag, f"<{child.tag}>", f"<{'>, <'.join(tags)}>")

    def _complete(self, element: _Element, needed: tuple[str, ...], noun: str, *more: str, subject: str = "") -> bool:
        """Say whether an element has what it needs, once each and with a text, and nothing that nobody knows."""
        tags = [child.tag for child in element.children]
        name = subject or element.child("Name") or element.child("EFDB_Topic") or element.tag
        before = len(self.problems)
        for tag in needed:
            if not element.child(tag):
                self._refuse(element.line_of(tag), name, f"a {noun} without <{tag}>", f"one <{tag}> with a text")
            elif tags.count(tag) > 1:
                self._refuse(element.line, name, f"{tags.count(tag)} times <{tag}>", f"one <{tag}>")
        for child in element.children:
            if child.tag not in {*needed, *more, *_OPTIONAL}:
                self._refuse(child.line, name, f"<{child.tag}>", f"one of <{'>, <'.join([*needed, *more])}>")
        return len(self.problems) == before

    def _parse(self) -> _Element | None:
        try:
            return _parsed((self._root / self._file).read_bytes())
        except OSError as error:
            self._refuse(0, "the file", str(error.strerror), "one that can be read")
        except expat.ExpatError as error:
            self._refuse(error.lineno, self._file, expat.errors.messages[error.code], "well-formed XML")
        return None

    def _strangers(self, components: Mapping[str, Component]) -> None:
        """Refuse files that nobody would read."""
        for path in sorted((self._root / FOLDER).rglob("*")):
            name = path.relative_to(self._root / FOLDER).as_posix()
            folder = name.split("/", 1)[0]
            known = {f"{folder}/{folder}_{part}.xml" for part in _SETS} if folder in components else set()
            if path.is_file() and name not in {"SALSubsystems.xml", "SALGenerics.xml", *known}:
                self._file = f"{FOLDER}/{name}"
                self._refuse(
                    0, name, "a file of no component", "COMPONENT/COMPONENT_Commands.xml, _Events.xml or _Telemetry.xml"
                )

    def _refuse(self, line: int, subject: str, found: str, expected: str) -> None:
        self.problems.append(Problem(self._file, line or None, subject, found or "nothing", expected, "correct it"))


def _parsed(data: bytes) -> _Element | None:
    """Return the root of a document whose elements know their lines."""
    stack: list[_Element] = []
    roots: list[_Element] = []
    parser: Any = expat.ParserCreate()

    def begin(tag: str, _: Mapping[str, str]) -> None:
        element = _Element(tag, parser.CurrentLineNumber)
        (stack[-1].children if stack else roots).append(element)
        stack.append(element)

    def text(data: str) -> None:
        stack[-1].text += data

    parser.StartElementHandler, parser.CharacterDataHandler = begin, text
    parser.EndElementHandler = lambda _: stack.pop()
    parser.Parse(data, True)
    return roots[0]


def _named(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and not name.startswith("private_")
