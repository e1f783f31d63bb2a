"""Projects to deploy."""

from __future__ import annotations

from pathlib import Path

import pytest

from stacks.engine.projects import Project, make_ledger, make_sample


@pytest.fixture
def sample(tmp_path: Path) -> Project:
    """Return the recorded sample program and provider."""
    return make_sample(tmp_path)


@pytest.fixture
def ledger(tmp_path: Path) -> Project:
    """Return a project whose objects are files."""
    return make_ledger(tmp_path)
