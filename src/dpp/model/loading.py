"""Builds an environment from its sources: shape first, then what no single file can know, every mistake at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from dpp.model import checks, sources
from dpp.model.declared import Declared
from dpp.model.problems import DeclarationError, Finding, Problem
from dpp.model.sources import Sources, Variable
from dpp.model.types import (
    Camera,
    Circuit,
    Cluster,
    Host,
    Network,
    Outside,
    Pool,
    Provisioning,
    Retired,
    Routing,
    Site,
    StorageSite,
    TopicFigures,
    VolumeFigures,
)

TABLES: Final[dict[str, tuple[str, type[BaseModel], str]]] = {
    "dpp_sites": ("sites", Site, "name"),
    "dpp_networks": ("networks", Network, "name"),
    "dpp_circuits": ("circuits", Circuit, "name"),
    "dpp_clusters": ("clusters", Cluster, "name"),
    "dpp_storage": ("storage", StorageSite, "site"),
    "dpp_topics": ("topics", TopicFigures, "role"),
    "dpp_volumes": ("volumes", VolumeFigures, "name"),
    "dpp_outside": ("outside", Outside, "name"),
    "dpp_pools": ("pools", Pool, "name"),
}
"""Variables that are tables: the field of the environment, the model of a row, and the field that holds a row's key."""
SINGLES: Final[dict[str, tuple[str, type[BaseModel] | None]]] = {
    "dpp_camera": ("camera", Camera),
    "dpp_routing": ("routing", Routing),
    "dpp_provisioning": ("provisioning", Provisioning),
    "dpp_retired": ("retired", Retired),
    "dpp_circuit_scale": ("circuit_scale", None),
}
M = TypeVar("M", bound=BaseModel)
HOST_KEY: Final = "dpp_address"
OPTIONAL: Final[dict[str, Any]] = {
    "dpp_pools": {},
    "dpp_outside": {},
    "dpp_routing": {},
    "dpp_provisioning": {},
    "dpp_retired": {},
}
_TEMPLATE = re.compile(r"\{\{|\{%|\{#")


def load(name: str, root: Path) -> Declared:
    """Read and check the environment `name` of the repository at `root`."""
    origin = sources.read(root / "inventories" / name, root)
    problems = [*_variable_problems(origin)]
    fields, broken = _fields(origin, problems)
    if set(Declared.model_fields) - {"name", "folder"} <= set(fields):
        declared = Declared.model_construct(name=name, folder=origin.folder, **fields)
        found = checks.findings(declared, origin, complete=not broken)
        problems += [_problem(origin, finding) for finding in found if not broken & set(finding.about)]
    if problems:
        raise DeclarationError(
            f"inventories/{name}", sorted(dict.fromkeys(problems), key=lambda p: (p.file, p.line or 0, p.subject))
        )
    return declared


def _problem(origin: Sources, finding: Finding) -> Problem:
    place = origin.place(finding.path)
    return Problem(place.file, place.line, "/".join(finding.path), finding.found, finding.expected, finding.remedy)


def _variable_problems(origin: Sources) -> Iterator[Problem]:
    """Yield variables that are unknown, misplaced, declared twice or not literal."""
    roles = declared_by_roles(origin.root)
    seen: dict[tuple[str, str], Variable] = {}
    for variable in origin.variables:
        refused = _refusal(origin, variable, roles)
        earlier = seen.setdefault((variable.scope, variable.name), variable)
        if earlier is not variable:
            refused = (f"declared in {earlier.place.file} too", "one declaration", "delete one of the two")
        if refused:
            yield Problem(variable.place.file, variable.place.line, _subject(variable), *refused)
        elif variable.name.startswith("dpp_"):
            keys = (variable.name,) if variable.scope == "all" else (variable.scope, variable.name)
            yield from (_problem(origin, finding) for finding in _templates(keys, variable.value))


def _subject(variable: Variable) -> str:
    return variable.name if variable.scope == "all" else f"{variable.scope}/{variable.name}"


def _refusal(origin: Sources, variable: Variable, roles: frozenset[str]) -> tuple[str, str, str] | None:
    name, scope = variable.name, variable.scope
    if scope != "all" and scope not in origin.groups and scope not in origin.children:
        return f"variables of {scope}", "a host or group of hosts.yml", "rename the file or add the group"
    if name == HOST_KEY:
        return None if scope in origin.groups else (f"{name} of a group", "on single hosts", "move it to the hosts")
    if name in TABLES or name in SINGLES:
        return None if scope == "all" else (f"{name} of {scope}", "in group_vars/all/", "move it there")
    if name.startswith("dpp_"):
        known = ", ".join(sorted([*TABLES, *SINGLES, HOST_KEY]))
        return "a key that the model does not know", f"one of {known}", "correct the name, or teach dpp.model the key"
    if name.startswith("ansible_") or name in roles:
        return None
    return (
        "a variable that no role declares",
        "ansible_* or an option of some role's argument_specs.yml",
        "correct the name",
    )


def declared_by_roles(root: Path) -> frozenset[str]:
    """Return the names of all options in roles/*/meta/argument_specs.yml."""
    import yaml  # noqa: PLC0415

    names: set[str] = set()
    for path in sorted((root / "roles").glob("*/meta/argument_specs.yml")):
        content = yaml.load(path.read_text(), yaml.CSafeLoader) or {}
        for spec in (content.get("argument_specs") or {}).values():
            names |= set(spec.get("options") or {})
    return frozenset(names)


def _templates(keys: tuple[str, ...], value: Any) -> Iterator[Finding]:
    if isinstance(value, str) and _TEMPLATE.search(value):
        yield Finding(
            keys,
            f"the template {value!r}",
            "a literal value",
            "write the value itself: dpp_ keys are read without Ansible",
        )
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _templates((*keys, key), inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _templates((*keys, str(index)), inner)


def _fields(origin: Sources, problems: list[Problem]) -> tuple[dict[str, Any], set[str]]:
    """Return the fields of the environment that are right in shape, and the names of the objects that are not."""
    declared = OPTIONAL | {variable.name: variable.value for variable in origin.variables if variable.scope == "all"}
    fields: dict[str, Any] = {}
    broken: set[str] = set()
    for key in (*TABLES, *SINGLES):
        if key not in declared:
            hint = f"declare {key} in group_vars/all/"
            problems.append(
                Problem(origin.relative(origin.folder / "group_vars/all"), None, key, "nothing", "a declaration", hint)
            )
    for key, (field, _, _) in TABLES.items():
        if key in declared:
            fields[field] = _rows(origin, key, declared[key], problems, broken)
    for key, (field, single) in SINGLES.items():
        if single is not None and key in declared:
            made = _validated(origin, (key,), single, declared[key], problems)
            fields |= {field: made} if made else {}
    if "dpp_circuit_scale" in declared:
        scale = declared["dpp_circuit_scale"]
        if isinstance(scale, int | float) and 0 < scale <= 1:
            fields["circuit_scale"] = float(scale)
        else:
            finding = Finding(("dpp_circuit_scale",), repr(scale), "a number above 0 and up to 1", "correct it")
            problems.append(_problem(origin, finding))
    fields["hosts"] = _hosts(origin, problems, broken)
    return fields, broken


def _rows(
    origin: Sources,
    key: str,
    table: Any,
    problems: list[Problem],
    broken: set[str],
) -> dict[str, BaseModel]:
    _, model, identity = TABLES[key]
    if not isinstance(table, Mapping):
        problems.append(_problem(origin, Finding((key,), repr(table), "a mapping of names to objects", "correct it")))
        return {}
    rows: dict[str, BaseModel] = {}
    for name, row in table.items():
        content = {**row, identity: name} if isinstance(row, Mapping) else row
        made = _validated(origin, (key, name), model, content, problems)
        if made:
            rows[name] = made
        else:
            broken.add(name)
    return rows


def _hosts(origin: Sources, problems: list[Problem], broken: set[str]) -> dict[str, Host]:
    addresses = {variable.scope: variable.value for variable in origin.variables if variable.name == HOST_KEY}
    sites = origin.children.get("sites", frozenset())
    hosts: dict[str, Host] = {}
    for name, groups in origin.groups.items():
        own = sorted(sites & groups)
        if len(own) != 1:
            found = f"in {len(own)} site groups ({', '.join(own) or 'none'})"
            problems.append(
                _problem(origin, Finding((name,), found, "in exactly one group under `sites`", "correct hosts.yml"))
            )
            broken.add(name)
            continue
        content = {"name": name, "site": own[0], "groups": groups} | (
            {"address": addresses[name]} if name in addresses else {}
        )
        made = _validated(origin, (name,), Host, content, problems)
        if isinstance(made, Host):
            hosts[name] = made
        else:
            broken.add(name)
    return hosts


def _validated(
    origin: Sources, keys: tuple[str, ...], model: type[M], content: Any, problems: list[Problem]
) -> M | None:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        for detail in error.errors():
            where = tuple(HOST_KEY if model is Host and part == "address" else str(part) for part in detail["loc"])
            problem = _problem(origin, _shape_finding((*keys, *where), dict(detail)))
            if problem.subject not in {known.subject for known in problems}:
                problems.append(problem)
        return None


def _shape_finding(keys: tuple[str, ...], detail: dict[str, Any]) -> Finding:
    if detail["type"] == "extra_forbidden":
        return Finding(keys, f"the unknown key {keys[-1]!r}", "a key of the model", "delete it or correct its name")
    if detail["type"] == "missing":
        return Finding(keys, "nothing", f"a value for {keys[-1]!r}", "add it")
    message = str(detail["msg"])
    return Finding(keys, repr(detail["input"]), message[0].lower() + message[1:], "correct the value")
