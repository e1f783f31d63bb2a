"""Who is asked to look at a file follows from the service that it belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY
from dpp.model.services import Catalogue
from dpp.operations.change.forge import declared
from dpp.operations.change.forge.declared import Declared
from dpp.operations.change.forge.owners import FILE, asked, codeowners
from proofs.catalogue import Tree, pattern

ROWS = asked(REPOSITORY)
TEAM = f"@{Declared.read(REPOSITORY).organisation}/"
FILES = Tree().files


def glob(row: str) -> str:
    """Return what a pattern of the file means, as a glob from the root."""
    return "**" if row == "*" else f"{row.removeprefix('/')}{'**' if row.endswith('/') else ''}"


@pytest.fixture(scope="module")
def owners() -> dict[str, tuple[str, ...]]:
    """Return who is asked for each file of the tree: the last line that fits counts."""
    lines = [line.split() for line in (REPOSITORY / FILE).read_text().splitlines() if line and not line.startswith("#")]
    rules = [(pattern(glob(row)), tuple(teams)) for row, *teams in lines]
    return {path: next((teams for rule, teams in reversed(rules) if rule.fullmatch(path)), ()) for path in FILES}


def test_the_file_is_what_is_declared() -> None:
    assert (REPOSITORY / FILE).read_text() == codeowners(REPOSITORY), "run dpp change owners --write"


def test_somebody_is_asked_for_every_file(owners: dict[str, tuple[str, ...]]) -> None:
    assert [path for path in FILES if not owners.get(path)] == []


def test_every_pattern_fits_a_file() -> None:
    idle = [row.pattern for row in ROWS if not any(pattern(glob(row.pattern)).fullmatch(path) for path in FILES)]
    assert idle == []


@pytest.mark.parametrize(
    ("path", "teams"),
    [
        ("services/wide-area-network.yml", {"networks"}),
        ("docs/runbooks/data-backbone.md", {"data-curation"}),
        ("roles/border_router/tasks/main.yml", {"networks"}),
        ("roles/kafka_broker/tasks/main.yml", {"alert-production", "infrastructure"}),
        ("k8s/prompt-processing/kustomization.yaml", {"alert-production"}),
        ("workloads/src/workloads/visit_ledger/__main__.py", {"data-curation"}),
        ("inventories/lab/group_vars/all/circuits.yml", {"networks"}),
        ("inventories/production/group_vars/all/topics.yml", {"alert-production"}),
        ("inventories/production/hosts.yml", {"infrastructure"}),
        ("stacks/units/wan.py", {"networks"}),
        ("changes/rules.yml", {"service-management"}),
        (".github/workflows/plan.yml", {"service-management"}),
        ("README.md", {"service-management"}),
    ],
)
def test_each_noun_has_its_owner(owners: dict[str, tuple[str, ...]], path: str, teams: set[str]) -> None:
    assert {team.removeprefix(TEAM) for team in owners[path]} == teams


def test_every_service_is_asked_for_its_own_declaration(owners: dict[str, tuple[str, ...]]) -> None:
    services = Catalogue.read().services
    assert {name: owners[f"services/{name}.yml"] for name in services} == {
        name: (f"{TEAM}{service.owner}",) for name, service in services.items()
    }


def test_a_service_that_there_is_none_of_is_refused(tmp_path: Path) -> None:
    (tmp_path / "changes").mkdir()
    text = (REPOSITORY / declared.FILE).read_text()
    for folder in ("services", "interfaces"):
        (tmp_path / folder).symlink_to(REPOSITORY / folder)
    (tmp_path / declared.FILE).write_text(
        text.replace("/stacks/units/wan.py: wide-area-network", "/stacks/units/wan.py: wan")
    )
    with pytest.raises(FatalError, match=r"changes/forge.yml: service wan; expected one of services/"):
        asked(tmp_path)
    (tmp_path / declared.FILE).write_text(text.replace("service: 1d76db", "service: blue"))
    with pytest.raises(FatalError, match=r"labels.service"):
        asked(tmp_path)
