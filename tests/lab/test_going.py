"""The lab goes: nothing of it is left, and its host is as it was before."""

from __future__ import annotations

import pytest

from chaos import host
from lab.observatory import Observatory


def test_a_lab_leaves_its_host_as_it_was(observatory: Observatory) -> None:
    if observatory.before is None:
        pytest.skip("the lab stood before the tests: it is not theirs to take down")
    observatory.dpp("lab", "down")
    assert not host.traces(observatory.folders.instance)
    assert not host.differences(observatory.before, host.snapshot())
