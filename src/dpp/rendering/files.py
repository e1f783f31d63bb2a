"""What roles bring about on hosts, as Ansible renders their tasks: files, units of systemd, and the arguments of all else.

Ansible loads the roles, resolves variables and expands templates; nothing is run, no host is asked. Secrets stand by name.
What only the host can tell (registered results, facts) is listed with its reason. What looks the same to a template on many
hosts is rendered once: a piece is remembered by the variables that it can see, as `dpp.rendering.hosts` sees them.
"""

from __future__ import annotations

import copy
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY
from dpp.rendering.hosts import all_hosts, inventory

_PLUGINS: Final = Path(__file__).with_name("ansible_plugins") / "lookup"
_FILES, _UNITS = "dpp_files", "dpp_units"
_NOT_DEPLOYED: Final = frozenset({"validate_argument_spec", "meta", "debug", "assert", "fail"})
"""Modules that leave nothing on a host."""
_AROUND: Final = ("ansible_", "role_", "playbook_dir", "omit")
"""Variables of Ansible's own that lookups need."""
_EXPRESSION = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_TEXT = re.compile(r"'[^']*'|\"[^\"]*\"")
_WORD = re.compile(r"[a-z_][a-z0-9_]*")
_TEMPLATE = re.compile(r"'([^']+\.j2)'")


@dataclass
class Rendered:
    """What a role brings about on one host.

    Parameters
    ----------
    files
        Path to owner, mode and content, or to where a link leads.
    units
        Name of a unit to what is asked of it, with the patterns of files on whose change it restarts or reloads.
    tasks
        ``role : task`` of every other task to its arguments.
    unseen
        ``role : task`` or path of a file to why it cannot be told without the host.
    """

    files: dict[str, str] = field(default_factory=dict)
    units: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[str, Any] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)


def rendered(environment: str, wanted: Mapping[str, Collection[str]]) -> dict[str, dict[str, Rendered]]:
    """Return what each of the roles named brings about on each host of `wanted`; roles that a host does not have are left out.

    Secrets stand by name, in a process that looks none up: it is for this alone from then on.

    Raises
    ------
    FatalError
        If the process has looked secrets up before.
    """
    _name_secrets()
    renderer = _Renderer(environment)
    return {name: renderer.host(name, roles) for name, roles in wanted.items()}


def _name_secrets() -> None:
    os.environ.setdefault("ANSIBLE_CONFIG", str(REPOSITORY / "ansible.cfg"))
    from ansible.plugins.loader import init_plugin_loader, lookup_loader  # noqa: PLC0415 - Ansible is slow to import
    from ansible.utils.collection_loader import AnsibleCollectionConfig  # noqa: PLC0415

    if AnsibleCollectionConfig.collection_finder is None:
        init_plugin_loader()
    lookup_loader.add_directory(str(_PLUGINS))  # goes before the configured ones
    path = Path(inspect.getfile(type(lookup_loader.get("dpp_secret"))))
    if path.parent != _PLUGINS:  # a process that has looked secrets up would go on to tell them
        raise FatalError("secrets of what is rendered", f"told by {path}", f"named by {_PLUGINS}", "render in a process of its own")  # fmt: skip
    # It copies all variables in depth before it adds its own to them: most of the time that a host takes, and needless here.
    module = sys.modules[type(lookup_loader.get("ansible.builtin.template")).__module__]
    setattr(module, "deepcopy", copy.copy)  # noqa: B010 - Ansible has no types


class _Renderer:
    """Renders roles on the hosts of one environment."""

    def __init__(self, environment: str) -> None:
        self._environment = environment
        self._inventory, self._manager = inventory(environment)
        self._hostvars = all_hosts(environment)
        self._roles: dict[str, list[Any]] = {}
        self._groups: dict[str, list[str]] | None = None
        self._memory: dict[Any, Any] = {}
        self._sight = _Sight()

    def host(self, name: str, roles: Collection[str]) -> dict[str, Rendered]:
        """Return what roles bring about on one host, by role."""
        found: dict[str, Rendered] = {}
        host = self._inventory.get_host(name)
        groups = {group.name for group in host.get_groups()} if host else set()
        known = self._known(host) if groups else {}
        for role in sorted(one for one in set(roles) & groups if (REPOSITORY / "roles" / one).is_dir()):
            found[role] = Rendered()
            for task in self._tasks(role):
                self._task(task, known, found[role])
        return found

    def _known(self, host: Any) -> dict[str, Any]:
        """Return the variables that the inventory gives a host, those of groups and others as one object for all hosts."""
        known: dict[str, Any] = self._manager.get_vars(host=host, include_hostvars=False)
        if self._groups is None:
            self._groups = {group: sorted(members) for group, members in known["groups"].items()}
        own = {"groups": self._groups, "group_names": sorted(known["group_names"]), "hostvars": self._hostvars}
        return known | own | {"ansible_check_mode": False}

    def _tasks(self, role: str) -> list[Any]:
        """Return the tasks of a role, those that it imports included, in their order."""
        if role in self._roles:
            return self._roles[role]
        from ansible.playbook.play import Play  # noqa: PLC0415

        loader = self._manager._loader  # noqa: SLF001 - the one that the inventory was read with
        loader.set_basedir(str(REPOSITORY / "playbooks"))
        content = {"name": role, "hosts": "all", "gather_facts": False, "roles": [{"role": role}]}
        play = Play.load(content, variable_manager=self._manager, loader=loader)
        found = [task for block in play.compile() for task in _flat(block)]
        self._roles[role] = [task for task in found if _module(task) not in _NOT_DEPLOYED]
        return self._roles[role]

    def _task(self, task: Any, known: Mapping[str, Any], found: Rendered) -> None:
        """Render a task as far as it can be without the host."""
        role = task._role  # noqa: SLF001 - Ansible has no other way to it
        variables = role.get_default_vars() | known | role.get_vars() | task.get_vars()
        variables["ansible_search_path"] = [*task.get_search_path(), str(REPOSITORY / "playbooks")]
        piece = _Piece(self._memory, self._sight, task, variables)
        if not piece.wanted():
            return
        if _module(task) == _FILES:
            for path, answer in piece.items("files", "path", _file):
                _keep(answer, path, found.files, found)
        elif _module(task) == _UNITS:
            for name, answer in piece.items("units", "name", lambda unit: unit):
                _keep(answer, name, found.units, found)
        else:
            _keep(piece.arguments(), task.get_name(), found.tasks, found)


@dataclass(frozen=True)
class _Unseen:
    """Why something cannot be told without the host."""

    reason: str


def _keep(answer: Any, name: str, into: dict[str, Any], found: Rendered) -> None:
    if isinstance(answer, _Unseen):
        found.unseen[name] = answer.reason
    else:
        into[name] = answer


class _Piece:
    """One task on one host, rendered part by part; what was rendered for the same variables elsewhere is taken from there."""

    def __init__(self, memory: dict[Any, Any], sight: _Sight, task: Any, variables: dict[str, Any]) -> None:
        self._memory, self._sight, self._task, self._variables = memory, sight, task, variables

    def wanted(self) -> bool:
        """Say whether the task's conditions hold; one that asks the host may."""
        answers = (self._remembered(one, partial(_holds, one)) for one in self._task.when)
        return all(isinstance(answer, _Unseen) or bool(answer) for answer in answers)

    def items(self, key: str, name: str, shape: Callable[[dict[str, Any]], Any]) -> Iterator[tuple[str, Any]]:
        """Yield name and content of each item of the task's list."""
        raw = self._task.args[key]
        if not isinstance(raw, list):
            listed = self._remembered(raw, partial(_expanded, raw))
            if isinstance(listed, _Unseen):
                yield self._task.get_name(), listed
            else:
                yield from ((item[name], shape(item)) for item in listed)
            return
        for item in raw:
            answer = self._remembered(item, partial(_expanded, item))
            if isinstance(answer, _Unseen):
                yield str(item[name]), answer
            else:
                yield answer[name], shape(answer)

    def arguments(self) -> Any:
        """Return the task's arguments by module, one set for each item of its loop."""
        return self._remembered([dict(self._task.args), self._task.loop], self._arguments)

    def _arguments(self, templar: Any) -> Any:
        from ansible.template import Templar  # noqa: PLC0415

        task, module = self._task, _module(self._task)
        if task.loop is None:
            return {module: _plain(templar.template(dict(task.args)))}
        name = task.loop_control.loop_var if task.loop_control else "item"
        items = templar.template(task.loop)
        each = (Templar(loader=task._loader, variables=templar.available_variables | {name: item}) for item in items)  # noqa: SLF001
        return {module: [_plain(one.template(dict(task.args))) for one in each]}

    def _remembered(self, raw: Any, render: Callable[[Any], Any]) -> Any:
        """Return what a part of the task is rendered to, or why it cannot be."""
        from ansible.errors import AnsibleError  # noqa: PLC0415
        from ansible.template import Templar  # noqa: PLC0415

        seen = self._sight.seen(raw, self._task._role._role_path, self._variables)  # noqa: SLF001
        key = (self._task._uuid, id(raw) if isinstance(raw, dict) else repr(raw), self._sight.prints(seen))  # noqa: SLF001
        if key not in self._memory:
            around = {name: value for name, value in self._variables.items() if name.startswith(_AROUND)}
            try:  # no more than it sees: lookups of templates copy all that there is
                self._memory[key] = render(Templar(loader=self._task._loader, variables=around | seen))  # noqa: SLF001
            except (AnsibleError, KeyError, TypeError, ValueError) as error:
                self._memory[key] = _Unseen(" ".join((getattr(error, "message", None) or str(error)).split())[:200])
        return self._memory[key]


class _Sight:
    """Which variables a piece can see, and what they are."""

    def __init__(self) -> None:
        self._words_of: dict[int, tuple[Any, frozenset[str]]] = {}
        self._prints_of: dict[int, tuple[Any, int]] = {}
        self._texts: dict[tuple[str, str], frozenset[str]] = {}

    def seen(self, raw: Any, role: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return the variables that a raw value can see, directly and through others."""
        key = (role, repr(raw))
        if key not in self._texts:
            texts = [path.read_text() for name in _TEMPLATE.findall(key[1]) if (path := Path(role) / "templates" / name).is_file()]  # fmt: skip
            self._texts[key] = _names(" ".join(["{{", key[1], "}}"])) | frozenset[str]().union(*map(_names, texts))
        words = self._texts[key]
        found: dict[str, Any] = {}
        while new := {name: variables[name] for name in words & variables.keys() if name not in found}:
            found |= new
            words = words.union(*map(self._words, new.values()))
        return found

    def prints(self, seen: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
        """Return a print of each variable's content, by name."""
        return tuple(sorted((name, self._print(value)) for name, value in seen.items()))

    def _words(self, value: Any) -> frozenset[str]:
        if id(value) not in self._words_of:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            self._words_of[id(value)] = value, _names(text)
        return self._words_of[id(value)][1]

    def _print(self, value: Any) -> int:
        if id(value) not in self._prints_of:
            self._prints_of[id(value)] = value, hash(repr(value))
        return self._prints_of[id(value)][1]


def _names(text: str) -> frozenset[str]:
    """Return the words of a text's expressions that may be names of variables: those outside of quotation marks."""
    return frozenset(word for one in _EXPRESSION.findall(text) for word in _WORD.findall(_TEXT.sub("", one)))


def _holds(condition: Any, templar: Any) -> bool:
    return bool(templar.evaluate_conditional(condition))


def _expanded(raw: Any, templar: Any) -> Any:
    return _plain(templar.template(raw))


def _module(task: Any) -> str:
    return str(task.action).rpartition(".")[2]


def _flat(block: Any) -> Iterator[Any]:
    for part in (*block.block, *block.rescue, *block.always):
        if hasattr(part, "block"):
            yield from _flat(part)
        elif part._role is not None:  # noqa: SLF001 - what the play adds to a role's tasks has none
            yield part


def _file(item: dict[str, Any]) -> str:
    if item.get("link"):
        return f"link to {item['link']}\n"
    return f"{item.get('owner', 'root')}:{item.get('group', 'root')} {item.get('mode', '0644')}\n{item['content']}"


def _plain(value: Any) -> Any:
    """Return a value without Ansible's tags."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)
