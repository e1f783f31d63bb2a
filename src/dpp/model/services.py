"""The service catalogue: one file per service in `services/`, checked against the tree that implements it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from dpp.model.contracts import Contract
from dpp.model.devices import by_hand, expanded, mistakes
from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY
from dpp.model.interfaces import read_interfaces
from dpp.model.problems import DeclarationError, Problem
from dpp.model.types import Kebab, Model

_GROUND: Final = {
    "publishes": "event-streaming",
    "consumes": "event-streaming",
    "stores": "object-storage",
    "reads": "relational-databases",
    "writes": "relational-databases",
}
"""By what a workload's contract names: the service that it stands on."""
_PLATFORM: Final = "container-platform"


class Objective(Model):
    """What users may rely on, and the requirement that says so."""

    requirement: Annotated[
        str, Field(pattern=r"^(DMS-REQ-[0-9]{4}|OSS-REQ-[0-9]{4}|OCS-DM-COM-ICD-[0-9]{4}|house)$")
    ] = Field(description="Identifier in the observatory's requirements; `house` where the goal is this project's own.")
    text: str = Field(min_length=10)
    planned: bool = Field(default=False, description="Nothing provides it yet, whatever the status of the service.")


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
    dependencies: tuple[Kebab, ...] = Field(
        default=(), description="Services that it needs; those that follow from its contracts are not named."
    )
    contracts: dict[Kebab, Contract] = Field(default={}, description="One for each of its workloads.")
    manifests: tuple[Kebab, ...] = Field(default=(), description="Folders of k8s/ with no workload in them.")
    roles: tuple[str, ...] = Field(default=(), description="Roles that implement it.")
    runbook: str | None = Field(default=None, description="Path of the page for 03:00.")
    test: str | None = Field(
        default=None, description="`path::function` of the end-to-end test that fails when it is down."
    )

    @property
    def workloads(self) -> tuple[str, ...]:
        """Folders of k8s/ that implement it."""
        return (*self.manifests, *(one.name for one in self.contracts.values() if one.group is None))


class Catalogue(Model):
    """All services, by name."""

    services: dict[str, Service]

    @classmethod
    def read(cls, root: Path = REPOSITORY) -> Catalogue:
        """Read ``services/`` without a look at the rest of the tree.

        Raises
        ------
        DeclarationError
            With every mistake: shape, unknown or circular dependencies, two contracts of one name.
        """
        problems: list[Problem] = []
        paths = sorted((root / "services").glob("*.yml"))
        services = {service.name: service for path in paths if (service := _read(path, root, problems))}
        problems += _owners(services)
        services = _with_devices(services, root, problems)
        services = {name: _completed(service, services, problems) for name, service in services.items()}
        known = {path.stem for path in paths}
        problems += [_problem(one.name, *found) for one in services.values() for found in _dependencies(one, known)]
        _refuse([*problems, *_cycle(services)])
        return cls(services=services)

    @classmethod
    def load(cls, root: Path = REPOSITORY) -> Catalogue:
        """Read and check ``services/``.

        Raises
        ------
        DeclarationError
            With every mistake: those of `read`, and names that the tree does not have.
        """
        catalogue = cls.read(root)
        _refuse([_problem(one.name, *what) for one in catalogue.services.values() for what in _tree(one, root)])
        return catalogue

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


def _refuse(problems: Sequence[Problem]) -> None:
    if problems:
        raise DeclarationError("services", sorted(problems, key=lambda p: (p.file, p.subject)))


def _problem(service: str, key: str, found: str, expected: str, remedy: str) -> Problem:
    return Problem(f"services/{service}.yml", None, key, found, expected, remedy)


def _owners(services: dict[str, Service]) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    for service in services.values():
        for name in service.contracts:
            if owners.setdefault(name, service.name) != service.name:
                found = f"a contract that {owners[name]} has too"
                yield _problem(service.name, f"contracts/{name}", found, "a name of its own", "rename one of the two")


def _with_devices(services: dict[str, Service], root: Path, problems: list[Problem]) -> dict[str, Service]:
    """Return services with the topics that follow from the devices that their contracts name."""
    owners = {name: service.name for service in services.values() for name in service.contracts}
    contracts = {name: contract for service in services.values() for name, contract in service.contracts.items()}
    if not any(one.devices or one.commands or by_hand(one) for one in contracts.values()):
        return services
    try:
        components = read_interfaces(root)
    except DeclarationError as error:
        problems += error.problems
        return services
    found = list(mistakes(contracts, components))
    problems += [
        _problem(owners[contract], f"contracts/{contract}/{key}", what, expected, "correct the name")
        for contract, key, what, expected in found
    ]
    if found:
        return services
    return {
        name: service.model_copy(
            update={"contracts": {key: expanded(one, components) for key, one in service.contracts.items()}}
        )
        for name, service in services.items()
    }


def _completed(service: Service, services: dict[str, Service], problems: list[Problem]) -> Service:
    """Return a service with the dependencies that follow from its contracts."""
    derived: set[str] = set()
    for contract in service.contracts.values():
        if contract.group is None:  # what runs on hosts is part of the ground
            derived |= {_PLATFORM, *(ground for field, ground in _GROUND.items() if getattr(contract, field))}
            derived |= {
                other.name
                for other in services.values()
                for name in contract.calls
                if name in other.contracts and other.contracts[name].stands_in_for is None
            }
    derived.discard(service.name)
    for name in sorted(derived & set(service.dependencies)):
        expected = "what does not follow from its contracts"
        problems.append(_problem(service.name, "dependencies", name, expected, "delete it"))
    return service.model_copy(update={"dependencies": (*service.dependencies, *sorted(derived))})


def _read(path: Path, root: Path, problems: list[Problem]) -> Service | None:
    import yaml  # noqa: PLC0415

    file = str(path.relative_to(root))
    try:
        content: Any = yaml.load(path.read_text(), yaml.CSafeLoader)
        contracts = {name: {**one, "name": name} for name, one in (content.get("contracts") or {}).items()}
        return Service.model_validate({**content, "name": path.stem, "contracts": contracts})
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
