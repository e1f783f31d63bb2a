"""Imports in `src/dpp` go downwards only; the two distributions do not know each other."""

from __future__ import annotations

import ast
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
