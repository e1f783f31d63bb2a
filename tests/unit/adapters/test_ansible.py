"""What decides that a host is converged anew."""

from __future__ import annotations

import os
import subprocess
import sys

_PROGRAM = "from dpp.adapters.ansible import desired_state; print(desired_state('lab', ['rt01.summit', 'svc01.ncsa']))"


def test_digest_is_the_same_in_every_process() -> None:
    """Ansible keeps groups in sets, whose order depends on the process's hash seed; a second `up` must change nothing."""
    said = {
        subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1, said
    assert "rt01.summit" in said.pop()
