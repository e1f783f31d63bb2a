"""Who is asked to look at which file: ``.github/CODEOWNERS``, made of services, what is theirs, and what is declared beside."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

from dpp.model.errors import FatalError
from dpp.model.names import snake
from dpp.model.services import Catalogue, Service
from dpp.operations.change.forge import declared
from dpp.operations.change.forge.declared import Declared

FILE: Final = ".github/CODEOWNERS"
_HEAD: Final = f"""\
# Who is asked to look at what. Made of services/ and {declared.FILE}: dpp change owners --write
# The last line that fits a file counts. Who is asked authorises nothing: docs/operators/changes.md
"""


@dataclass(frozen=True)
class Asked:
    """Who is asked to look at some files.

    Parameters
    ----------
    noun
        What they declare.
    pattern
        The files.
    owners
        Owners, as services name them: any of them may look.
    services
        Those that they own.
    """

    noun: str
    pattern: str
    owners: tuple[str, ...]
    services: tuple[str, ...]


def asked(root: Path) -> tuple[Asked, ...]:
    """Return who is asked, in the order of the file: the last that fits counts.

    Raises
    ------
    FatalError
        If a service is declared that there is none of.
    """
    catalogue, beside = Catalogue.read(root).services, Declared.read(root)
    if unknown := sorted({beside.everything_else, *beside.paths.values()} - set(catalogue)):
        raise FatalError(declared.FILE, f"service {', '.join(unknown)}", "one of services/", "correct the name")
    rows = [_row("everything", "*", (beside.everything_else,), catalogue)]
    rows += [_row("of no service alone", pattern, (service,), catalogue) for pattern, service in beside.paths.items()]
    own: dict[tuple[str, str], list[str]] = defaultdict(list)
    for service in catalogue.values():
        for noun, pattern in _own(service, root):
            own[noun, pattern].append(service.name)
    return (*rows, *(_row(noun, pattern, tuple(names), catalogue) for (noun, pattern), names in sorted(own.items())))


def codeowners(root: Path) -> str:
    """Return the file as it is to be for a tree."""
    organisation, rows = Declared.read(root).organisation, asked(root)
    width = max(len(row.pattern) for row in rows)
    text = _HEAD
    for noun, group in groupby(rows, key=lambda row: row.noun):
        text += f"\n# {noun}\n"
        for row in group:
            text += f"{row.pattern:{width}} {' '.join(f'@{organisation}/{owner}' for owner in row.owners)}\n"
    return text


def _row(noun: str, pattern: str, services: tuple[str, ...], catalogue: Mapping[str, Service]) -> Asked:
    owners = tuple(dict.fromkeys(catalogue[service].owner for service in services))
    return Asked(noun, pattern, owners, services)


def _own(service: Service, root: Path) -> Iterator[tuple[str, str]]:
    """Yield what is a service's, noun and pattern: its declaration, its runbook, its roles and workloads."""
    yield "service", f"/services/{service.name}.yml"
    if service.runbook:
        yield "runbook", f"/{service.runbook}"
    yield from (("role", f"/roles/{role}/") for role in service.roles)
    for workload in service.workloads:
        for noun, folder in (("manifest", f"k8s/{workload}"), ("image", f"workloads/src/workloads/{snake(workload)}")):
            if (root / folder).is_dir():
                yield noun, f"/{folder}/"
