"""The module that runs units: what it decides from what systemd says; molecule shows it with a real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MODULE = Path(__file__).parents[3] / "src/dpp/adapters/ansible_plugins/modules/dpp_units.py"
_SYSTEMCTL = """#!/usr/bin/env python3
import json, pathlib, sys
states = json.loads(pathlib.Path("{states}").read_text())
verb, *names = [word for word in sys.argv[1:] if not word.startswith("--")]
if verb == "show":
    print("\\n\\n".join("\\n".join(f"{{key}}={{value}}" for key, value in states[name].items()) for name in names))
elif "broken" in names:
    sys.exit("Job for broken.service failed.")
else:
    with open("{calls}", "a") as stream:
        print(verb, *names, file=stream)
"""
RUNNING = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled"}
STOPPED = {"LoadState": "loaded", "ActiveState": "inactive", "UnitFileState": "disabled"}
MASKED = {"LoadState": "masked", "ActiveState": "inactive", "UnitFileState": "masked"}
STATIC = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "static"}
ABSENT = {"LoadState": "not-found", "ActiveState": "inactive", "UnitFileState": ""}
STATES = {
    "running": RUNNING,
    "stopped": STOPPED,
    "masked": MASKED,
    "static": STATIC,
    "absent": ABSENT,
    "broken": STOPPED,
}


class Host:
    """A host whose systemd says what `STATES` says and writes down what it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, folder / "calls"
        states, program = folder / "states.json", folder / "systemctl"
        states.write_text(json.dumps(STATES))
        program.write_text(_SYSTEMCTL.format(states=states, calls=self.calls))
        program.chmod(0o755)

    def run(self, *units: dict[str, Any], changed: tuple[str, ...] = (), check: bool = False) -> dict[str, Any]:
        arguments = {"units": list(units), "changed": list(changed), "_ansible_check_mode": check}
        done = subprocess.run(
            [sys.executable, MODULE],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            env=os.environ | {"PATH": f"{self.folder}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_what_is_right_is_left_alone(host: Host) -> None:
    result = host.run(
        {"name": "running", "enabled": True, "running": True, "restart_on": "^/etc/app/"},
        {"name": "masked", "masked": True, "enabled": False, "running": False},
        {"name": "stopped"},
        {"name": "static", "enabled": False},
        {"name": "static", "enabled": True},
        changed=("/etc/other",),
    )
    assert result["changed"] is False
    assert host.called() == []


def test_units_are_enabled_started_stopped_and_masked(host: Host) -> None:
    host.run(
        {"name": "stopped", "enabled": True, "running": True},
        {"name": "running", "masked": True, "running": False},
        {"name": "masked", "masked": False},
    )
    assert host.called() == ["enable stopped", "start stopped", "stop running", "mask running", "unmask masked"]


def test_units_read_what_changed(host: Host) -> None:
    result = host.run(
        {"name": "running", "running": True, "restart_on": "^/etc/app/"},
        {"name": "stopped", "running": True, "reload_on": "unit"},
        changed=("/etc/app/a", "/etc/systemd/system/unit.conf"),
    )
    assert host.called() == ["daemon-reload", "restart running", "reload-or-restart stopped"]
    assert result["actions"] == ["restart running", "reload-or-restart stopped"]


def test_what_is_to_be_stopped_is_not_restarted(host: Host) -> None:
    host.run({"name": "stopped", "running": False, "restart_on": "^/etc/app/"}, changed=("/etc/app/a",))
    assert host.called() == []


def test_check_mode_tells_and_does_nothing(host: Host) -> None:
    result = host.run({"name": "stopped", "running": True}, {"name": "absent", "running": True}, check=True)
    assert result["changed"]
    assert result["diff"]["after"] == "start stopped\nstart absent\n"
    assert host.called() == []


def test_failures_are_named_and_keep_nobody_from_a_restart(host: Host) -> None:
    result = host.run(
        {"name": "absent", "running": True},
        {"name": "broken", "enabled": True, "running": True},
        {"name": "running", "restart_on": "^/etc/app/"},
        changed=("/etc/app/a",),
    )
    assert result["failed"]
    assert "unit absent: systemd knows none of this name" in result["msg"]
    assert "systemctl enable broken: Job for broken.service failed." in result["msg"]
    assert host.called() == ["restart running"]
