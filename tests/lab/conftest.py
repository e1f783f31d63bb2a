"""One observatory for all end-to-end tests: stood when first asked for, taken down at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos import host
from lab.observatory import Observatory


@pytest.fixture(scope="session")
def observatory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observatory]:
    """Yield the standing lab of the instance; one that stood before is left standing."""
    found = Observatory(tmp_path_factory.mktemp("commands"))
    if found.stands():
        yield found
        return
    found.before = host.snapshot()
    try:
        found.dpp("lab", "up")
        yield found
    finally:
        found.dpp("lab", "down")
