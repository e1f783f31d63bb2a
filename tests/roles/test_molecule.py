"""Every role converges, converges again without a change, repairs a drift and is verified, on machines of the lab's kind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROLES = sorted(path.parents[2].name for path in ROOT.glob("roles/*/molecule/default/molecule.yml"))


def test_every_role_has_a_scenario():
    assert sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir()) == ROLES


@pytest.mark.parametrize("role", ROLES)
def test_role(role: str):
    environment = os.environ | {
        "DPP_LAB": "dppmol",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ANSIBLE_FORCE_COLOR": "0",
    }
    done = subprocess.run(
        ["molecule", "test", "--scenario-name", "default"],
        cwd=ROOT / "roles" / role,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, f"molecule test of {role}:\n{(done.stdout + done.stderr)[-8000:]}"
