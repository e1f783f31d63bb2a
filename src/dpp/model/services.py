"""The service catalogue: one file per service in `services/`, checked against the tree that implements it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY
from dpp.model.problems import DeclarationError, Problem
from dpp.model.types import Kebab, Model


class Objective(Model):
    """What users may rely on, and the requirement that says so."""

    requirement: Annotated[
        str, Field(pattern=r"^(DMS-REQ-[0-9]{4}|OSS-REQ-[0-9]{4}|OCS-DM-COM-ICD-[0-9]{4}|house)$")
    ] = Field(description="Identifier in the observatory's requirements; `house` where the goal is this project's own.")
    text: str = Field(min_length=10)


class Service(Model):
    """One service of the concept of operations, or an internal one that they stand on."""

    name: Kebab = Field(description="The file's name.")
    title: str
    chapter: Literal[
        "level-1",
        "level-2",
        "data-backbone",
        "data-access",
        "development-support",
        "miscellaneous",
        "itc",
        "wan",
        "management",
        "internal",
    ] = Field(description="Chapter of the concept of operations; `internal` for supporting services.")
    owner: str = Field(description="Team that answers for it.")
    tier: Literal["real-time", "critical", "operational"] = Field(
        description="real-time: within the visit; critical: within the night; operational: within working days."
    )
    status: Literal["planned", "lab", "production"] = Field(
        description="lab: proved by `test` on the one-machine environment."
    )
    description: str = Field(min_length=60)
    objectives: tuple[Objective, ...] = Field(min_length=1)
    dependencies: tuple[Kebab, ...] = ()
    workloads: tuple[Kebab, ...] = Field(default=(), description="Folders of k8s/ that implement it.")
    roles: tuple[str, ...] = Field(default=(), description="Roles that implement it.")
    runbook: str | None = Field(default=None, description="Path of the page for 03:00.")
    test: str | None = Field(
        default=None, description="`path::function` of the end-to-end test that fails when it is down."
    )


class Catalogue(Model):
    """All services, by name."""

    services: dict[str, Service]

    @classmethod
    def load(cls, root: Path = REPOSITORY) -> Catalogue:
        """Read and check ``services/``.

        Raises
        ------
        DeclarationError
            With every mistake: shape, unknown or circular dependencies, names that the tree does not have.
        """
        problems: list[Problem] = []
        paths = sorted((root / "services").glob("*.yml"))
        read = [(path, _read(path, root, problems)) for path in paths]
        services = {service.name: service for _, service in read if service}
        known = {path.stem for path in paths}
        for service in services.values():
            problems += [
                _problem(service.name, *found) for found in (*_dependencies(service, known), *_tree(service, root))
            ]
        problems += _cycle(services)
        if problems:
            raise DeclarationError("services", sorted(problems, key=lambda p: (p.file, p.subject)))
        return cls(services=services)

    def service(self, name: str) -> Service:
        """Return the service `name`; ``FatalError`` where there is none."""
        if name in self.services:
            return self.services[name]
        raise FatalError(
            f"service {name}", "not in services/", "a name that `dpp service list` shows", "check the name"
        )

    def needed_by(self, name: str) -> tuple[str, ...]:
        """Return the services that depend directly on `name`."""
        return tuple(service.name for service in self.services.values() if name in service.dependencies)


def _problem(service: str, key: str, found: str, expected: str, remedy: str) -> Problem:
    return Problem(f"services/{service}.yml", None, key, found, expected, remedy)


def _read(path: Path, root: Path, problems: list[Problem]) -> Service | None:
    import yaml  # noqa: PLC0415

    file = str(path.relative_to(root))
    try:
        content: Any = yaml.load(path.read_text(), yaml.CSafeLoader)
        return Service.model_validate({**content, "name": path.stem})
    except ValidationError as error:
        for detail in error.errors():
            key = "/".join(map(str, detail["loc"]))
            problems.append(Problem(file, None, key, repr(detail["input"])[:80], str(detail["msg"]), "correct it"))
    except (yaml.YAMLError, TypeError) as error:
        problems.append(Problem(file, None, path.stem, " ".join(str(error).split()), "a mapping in YAML", "correct it"))
    return None


def _dependencies(service: Service, known: set[str]) -> Iterator[tuple[str, str, str, str]]:
    for name in service.dependencies:
        if name not in known:
            yield (
                "dependencies",
                f"service {name}, which does not exist",
                "names of files in services/",
                "correct the name",
            )


def _tree(service: Service, root: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield what `service` names but the tree does not have."""
    for key, folder, names in (("workloads", "k8s", service.workloads), ("roles", "roles", service.roles)):
        for name in names:
            if not (root / folder / name).is_dir():
                yield key, name, f"a folder of {folder}/", "correct the name"
    if service.runbook and not (root / service.runbook).is_file():
        yield "runbook", service.runbook, "a file of the repository", "write the page or correct the path"
    if service.status != "planned" and not service.test:
        yield "test", "nothing", f"an end-to-end test, since the status is {service.status}", "name one, or say planned"
    if service.test and not _has_test(root, service.test):
        yield "test", service.test, "path::function of a test", "write the test or correct the name"


def _has_test(root: Path, test: str) -> bool:
    path, _, function = test.partition("::")
    if not function or not (root / path).is_file():
        return False
    tree = ast.parse((root / path).read_text())
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in ast.walk(tree))


def _cycle(services: dict[str, Service]) -> list[Problem]:
    graph = {name: set(service.dependencies) & set(services) for name, service in services.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        ring = error.args[1]
        return [
            _problem(
                ring[0], "dependencies", f"the cycle {' -> '.join(reversed(ring))}", "no cycle", "remove one of them"
            )
        ]
    return []
