"""Every role passes Ansible's lint at its strictest, the production profile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from roles.test_molecule import ROLES, ROOT


@pytest.mark.parametrize("role", ROLES)
def test_role(role: str) -> None:
    command = [str(Path(sys.executable).with_name("ansible-lint")), "--offline", "-q", f"roles/{role}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
