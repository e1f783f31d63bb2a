"""Imports in `src/dpp` go downwards only; the two distributions do not know each other."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = (
    ("model",),
    ("adapters",),
    ("build",),
    ("lab", "rendering"),
    ("provider",),
    ("operations",),
    ("cli",),
)
"""From the lowest to the highest; names in one row do not import each other."""
RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row}
FILES = sorted(path for path in (ROOT / "src/dpp").rglob("*.py") if "ansible_plugins" not in path.parts)
"""All but Ansible's plugins: those are entry points that Ansible calls, above every layer."""


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return modules | {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards(path: Path):
    own = path.relative_to(ROOT / "src/dpp").parts[0]
    if own not in RANK:
        return
    for module in sorted(imports(path)):
        parts = module.split(".")
        if parts[0] != "dpp" or len(parts) < 2 or parts[1] == own:
            continue
        assert RANK[parts[1]] < RANK[own], f"{path.relative_to(ROOT)} imports {module}: {own} may not import {parts[1]}"


def test_the_distributions_do_not_import_each_other():
    for path in FILES:
        assert not any(module.split(".")[0] == "workloads" for module in imports(path)), path
    for path in (ROOT / "workloads/src").rglob("*.py"):
        assert not any(module.split(".")[0] == "dpp" for module in imports(path)), path


def test_the_model_has_no_circle() -> None:
    """Its modules import each other at their heads, and can be sorted."""
    model = ROOT / "src/dpp/model"
    heads = {path.stem: ast.parse(path.read_text()).body for path in model.glob("*.py")}
    graph = {name: {one for node in body for one in _of_model(node)} for name, body in heads.items()}
    TopologicalSorter(graph).prepare()
    inside = {
        (path.stem, name) for path in model.glob("*.py") for name in imports(path) if name.startswith("dpp.model")
    }
    late = {(name, other) for name, other in inside if other.rpartition(".")[2] not in {*graph[name], "model"}}
    assert late == {("principals", "dpp.model.contract_checks")}, "a circle, hidden in a function"


def _of_model(node: ast.stmt) -> set[str]:
    if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("dpp.model"):
        return set()
    return {alias.name for alias in node.names} if node.module == "dpp.model" else {str(node.module).split(".")[2]}
