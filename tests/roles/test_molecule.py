"""Every role converges, converges again without a change, repairs a drift and is verified, on machines of the lab's kind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from instances import instance

ROOT = Path(__file__).parents[2]
ROLES = sorted(path.parents[2].name for path in ROOT.glob("roles/*/molecule/default/molecule.yml"))


CONTINUED = {"kubernetes_node": "kubernetes_control_plane"}
"""Roles whose scenario goes on with the machines of another's: a cluster is started once."""


@pytest.mark.parametrize("role", [role for role in ROLES if role not in CONTINUED.values()])
def test_role(role: str, tmp_path: Path):
    if role not in CONTINUED:
        _molecule("test", role, states=tmp_path)
        return
    begun = CONTINUED[role]
    try:
        _molecule("test", begun, "--destroy=never", states=tmp_path)
        _molecule("test", role, states=tmp_path)
    except BaseException:
        _molecule("destroy", role, states=tmp_path)
        raise


def _molecule(verb: str, role: str, *options: str, states: Path) -> None:
    """Run one command of molecule, which remembers in a folder below `states` what it has done to a role.

    Left to itself it remembers in the home folder by the role's name alone: what other runs, clones and labs did to machines of theirs.
    """
    environment = os.environ | {
        "DPP_LAB": instance("m"),
        "MOLECULE_EPHEMERAL_DIRECTORY": str(states / role),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ANSIBLE_FORCE_COLOR": "0",
    }
    done = subprocess.run(
        [
            "molecule",
            "--base-config",
            str(ROOT / ".config/molecule/config.yml"),
            verb,
            "--scenario-name=default",
            *options,
        ],
        cwd=ROOT / "roles" / role,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    # What a playbook or testinfra says is on the one stream, molecule's own account of it on the other.
    said = f"{done.stdout[-12000:]}\n{done.stderr[-2000:]}"
    assert done.returncode == 0, f"molecule {verb} of {role}:\n{said}"
