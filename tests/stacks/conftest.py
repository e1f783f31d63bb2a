"""Projects to deploy."""

from __future__ import annotations

from pathlib import Path

import pytest

from stacks.projects import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Return a project whose objects are files."""
    return Ledger.make(tmp_path / "project")
