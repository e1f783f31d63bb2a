"""Reads an inventory folder through Ansible and remembers where every value stands."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Final

from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY

Keys = tuple[str, ...]
CONFIGURATION: Final = str(REPOSITORY / "ansible.cfg")
"""Ansible looks for one where it is run; only this one names the plugin that says what contracts come to at a host."""
_READING = Lock()
"""Ansible's loaders set the process up when they are first used, which is not safe in two threads at once."""


@dataclass(frozen=True)
class Place:
    """A file (from the root of the repository) and line."""

    file: str
    line: int | None = None


@dataclass(frozen=True)
class Variable:
    """One variable as a file declares it: for ``all``, a group or a host."""

    scope: str
    name: str
    value: Any
    place: Place


@dataclass
class Sources:
    """What the files of one environment say, as plain values.

    Attributes
    ----------
    folder
        The inventory folder.
    variables
        Every variable of every scope, in the order of the files.
    groups
        Host name to the names of its groups.
    children
        Group name to the names of its child groups.
    places
        Where the value at some keys stands: ``("dpp_circuits", "summit-base-primary", "a")``.
    """

    folder: Path
    root: Path = REPOSITORY
    variables: list[Variable] = field(default_factory=list)
    groups: dict[str, frozenset[str]] = field(default_factory=dict)
    children: dict[str, frozenset[str]] = field(default_factory=dict)
    places: dict[Keys, Place] = field(default_factory=dict)

    def place(self, keys: Keys) -> Place:
        """Return where `keys` stand: the nearest known ancestor, at worst the inventory's host file."""
        while keys:
            if keys in self.places:
                return self.places[keys]
            keys = keys[:-1]
        return Place(self.relative(self.folder / "hosts.yml"))

    def relative(self, path: Path | str) -> str:
        """Return `path` as seen from the root of the repository."""
        return os.path.relpath(path, self.root)


def read(folder: Path, root: Path = REPOSITORY) -> Sources:
    """Read the inventory in `folder`.

    Raises
    ------
    FatalError
        The folder is no inventory, or a file of it is no YAML.
    """
    if not (folder / "hosts.yml").is_file():
        known = sorted(path.parent.name for path in folder.parent.glob("*/hosts.yml"))
        raise FatalError(f"environment {folder.name}", f"no file {folder / 'hosts.yml'}", f"one of {', '.join(known)}")
    os.environ["ANSIBLE_CONFIG"] = CONFIGURATION
    with _READING:
        from ansible.errors import AnsibleError  # noqa: PLC0415 - importing Ansible takes most of a second

    sources = Sources(folder, root)
    try:
        with _READING:
            return _read(sources)
    except AnsibleError as error:
        at = getattr(error.obj, "path", None)
        subject = f"{sources.relative(at)}:{error.obj.line_num}" if at else sources.relative(folder)
        raise FatalError(subject, " ".join(error.message.split()), "valid YAML", "correct that file") from error


def _read(sources: Sources) -> Sources:
    from ansible.inventory.manager import InventoryManager  # noqa: PLC0415
    from ansible.parsing.dataloader import DataLoader  # noqa: PLC0415

    loader = DataLoader()
    # Host ranges are expanded and groups resolved by Ansible; variable files are read by it one by one, to know them apart.
    inventory = InventoryManager(loader=loader, sources=[str(sources.folder / "hosts.yml")])
    for thing in (*inventory.groups.values(), *inventory.hosts.values()):
        place = _origin(sources, thing.name)
        if place:
            sources.places[(str(thing.name),)] = place
    for host in inventory.get_hosts():
        sources.groups[str(host.name)] = frozenset(str(group.name) for group in host.get_groups())
        _declare(
            sources,
            str(host.name),
            {k: v for k, v in host.vars.items() if k not in ("inventory_file", "inventory_dir")},
        )
    for group in inventory.groups.values():
        sources.children[str(group.name)] = frozenset(str(child.name) for child in group.child_groups)
        _declare(sources, str(group.name), group.vars)
    for scope, path in _variable_files(sources.folder):
        content = loader.load_from_file(str(path), trusted_as_template=True) or {}
        if not isinstance(content, Mapping):
            raise FatalError(
                sources.relative(path), f"a {type(content).__name__}", "a mapping of variables", "correct that file"
            )
        _declare(sources, scope, content)
    return sources


def _variable_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield scope and path of each file of group_vars and host_vars: ``all.yml`` or ``all/*.yml``."""
    for kind in ("group_vars", "host_vars"):
        for path in sorted((folder / kind).glob("*")):
            if path.is_dir():
                yield from ((path.name, inner) for inner in sorted(path.rglob("*.yml")))
            elif path.suffix == ".yml":
                yield path.stem, path


def _declare(sources: Sources, scope: str, content: Mapping[Any, Any]) -> None:
    for name, value in content.items():
        keys = (str(name),) if scope == "all" else (scope, str(name))
        native = _native(sources, keys, value)
        place = (
            _origin(sources, name) or sources.places.get(keys) or Place(sources.relative(sources.folder / "hosts.yml"))
        )
        sources.places[keys] = place
        sources.variables.append(Variable(scope, str(name), native, place))


def _native(sources: Sources, keys: Keys, value: Any) -> Any:
    """Return `value` without Ansible's tags, keeping their line numbers in `sources`."""
    from ansible.module_utils._internal._datatag import AnsibleTagHelper  # noqa: PLC0415

    place = _origin(sources, value)
    if place:
        sources.places.setdefault(keys, place)
    if isinstance(value, Mapping):
        for key in value:
            place = _origin(sources, key)
            if place:
                sources.places[*keys, str(key)] = place
        return {str(key): _native(sources, (*keys, str(key)), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_native(sources, (*keys, str(index)), inner) for index, inner in enumerate(value)]
    return AnsibleTagHelper.as_native_type(value)


def _origin(sources: Sources, value: Any) -> Place | None:
    from ansible._internal._datatag._tags import Origin  # noqa: PLC0415

    tag = Origin.get_tag(value)
    return Place(sources.relative(tag.path), tag.line_num) if tag and tag.path else None
