"""One observatory for all end-to-end tests: stood when first asked for, taken down at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.observatory import Observatory


@pytest.fixture(scope="session")
def observatory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observatory]:
    """Yield the standing lab of the instance; one that stood before is left standing."""
    found = Observatory(tmp_path_factory.mktemp("commands"))
    stood = found.stands()
    try:
        if not stood:
            found.up(interrupt_at="lab.chilean-itc", after=20.0)
        yield found
    finally:
        if not stood:
            found.dpp("lab", "down")
