"""What tests of changes share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from unit.change.offices import Office, maker


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Office]:
    """Return what makes offices, each with a record of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return maker(tmp_path)
