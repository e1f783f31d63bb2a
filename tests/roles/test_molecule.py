"""Every role converges, converges again without a change, repairs a drift and is verified, on machines of the lab's kind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import quiet

ROOT = Path(__file__).parents[2]
ROLES = sorted(path.parents[2].name for path in ROOT.glob("roles/*/molecule/default/molecule.yml"))


CONTINUED = {"kubernetes_node": "kubernetes_control_plane"}
"""Roles whose scenario goes on with the machines of another's: a cluster is started once."""


def test_every_role_has_a_scenario():
    assert sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir()) == ROLES


@pytest.mark.parametrize("role", [role for role in ROLES if role not in CONTINUED.values()])
def test_role(role: str):
    if role not in CONTINUED:
        _molecule("test", role)
        return
    _molecule("reset", role)  # what it remembers of a run that was killed
    try:
        _molecule("test", CONTINUED[role], "--destroy=never")
        quiet.rest()
        _molecule("test", role)
    except BaseException:
        _molecule("destroy", role)
        raise


def _molecule(verb: str, role: str, *options: str) -> None:
    environment = os.environ | {
        "DPP_LAB": "dppmol",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ANSIBLE_FORCE_COLOR": "0",
    }
    done = subprocess.run(
        ["molecule", verb, "--scenario-name", "default", *options],
        cwd=ROOT / "roles" / role,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, f"molecule {verb} of {role}:\n{(done.stdout + done.stderr)[-8000:]}"
