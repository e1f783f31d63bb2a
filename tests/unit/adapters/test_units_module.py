"""The module that runs units: what it decides from what systemd says; molecule shows it with a real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

MODULE = Path(__file__).parents[3] / "src/dpp/adapters/ansible_plugins/modules/dpp_units.py"
_SYSTEMCTL = """#!/usr/bin/env python3
import json, pathlib, sys
states = json.loads(pathlib.Path("{states}").read_text())
begun = "{begun}"
verb, *names = [word for word in sys.argv[1:] if not word.startswith("--")]
if verb == "show":
    said = {{"NeedDaemonReload": "no", "InactiveExitTimestamp": begun}}
    print("\\n\\n".join("\\n".join(f"{{k}}={{v}}" for k, v in {{**said, **states[name]}}.items()) for name in names))
elif any("broken" in name for name in names):
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
CHANGED = {**RUNNING, "NeedDaemonReload": "yes"}
STATES = {
    "running": RUNNING,
    "changed": CHANGED,
    "stopped": STOPPED,
    "masked": MASKED,
    "static": STATIC,
    "absent": ABSENT,
    "broken": STOPPED,
    "broken-running": RUNNING,
}


class Host:
    """A host whose systemd says what `STATES` says and writes down what it is asked for; its units began a minute ago."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls, self.module = folder, folder / "calls", folder / "dpp_units.py"
        self.module.write_text(MODULE.read_text().replace("/run/dpp/", f"{folder}/"))
        self.begin(60)

    def begin(self, ago: float) -> None:
        """Let all units have begun so many seconds ago."""
        states, program = self.folder / "states.json", self.folder / "systemctl"
        states.write_text(json.dumps(STATES))
        begun = f"{datetime.fromtimestamp(time.time() - ago, UTC):%a %Y-%m-%d %H:%M:%S.%f} UTC"
        program.write_text(_SYSTEMCTL.format(states=states, calls=self.calls, begun=begun))
        program.chmod(0o755)

    def run(self, *units: dict[str, Any], changed: tuple[str, ...] = (), check: bool = False) -> dict[str, Any]:
        arguments = {"units": list(units), "changed": list(changed), "_ansible_check_mode": check}
        done = subprocess.run(
            [sys.executable, self.module],
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
        {"name": "running", "enabled": True, "running": True, "restart_on": ["/etc/app/*"]},
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


def test_units_read_what_changed_after_they_began(host: Host, tmp_path: Path) -> None:
    """Whoever wrote it and whenever: nobody has to say so."""
    (tmp_path / "app.conf").touch()
    unit = {"name": "running", "running": True}
    assert host.run({**unit, "restart_on": [f"{tmp_path}/*.conf"]})["actions"] == ["restart running"]
    assert host.run({**unit, "reload_on": [f"{tmp_path}/app.conf"]})["actions"] == ["reload-or-restart running"]
    assert host.run({**unit, "restart_on": [f"{tmp_path}/other.conf"]})["actions"] == []
    host.begin(0)
    assert host.run({**unit, "restart_on": [f"{tmp_path}/*.conf"]})["actions"] == []
    (tmp_path / "app.conf").chmod(0o600)
    assert host.run({**unit, "restart_on": [f"{tmp_path}/*.conf"]})["actions"] == ["restart running"]


def test_what_was_read_again_is_not_read_once_more(host: Host, tmp_path: Path) -> None:
    (tmp_path / "app.conf").touch()
    unit = {"name": "running", "reload_on": [f"{tmp_path}/app.conf"]}
    assert host.run(unit)["actions"] == ["reload-or-restart running"]
    assert host.run(unit)["actions"] == []
    (tmp_path / "app.conf").touch()
    assert host.run(unit)["actions"] == ["reload-or-restart running"]


def test_a_reload_that_failed_is_tried_again(host: Host, tmp_path: Path) -> None:
    (tmp_path / "app.conf").touch()
    unit = {"name": "broken-running", "reload_on": [f"{tmp_path}/app.conf"]}
    for _ in range(2):
        assert "Job for broken" in host.run(unit)["msg"]


def test_units_are_read_again_where_systemd_says_so(host: Host) -> None:
    host.run({"name": "changed"}, check=True)
    assert host.called() == []
    host.run({"name": "changed"})
    assert host.called() == ["daemon-reload"]


def test_what_does_not_run_is_not_restarted(host: Host, tmp_path: Path) -> None:
    (tmp_path / "app.conf").touch()
    for running, called in ((False, []), (None, []), (True, ["start stopped"])):
        host.run({"name": "stopped", "running": running, "restart_on": [f"{tmp_path}/app.conf"]})
        assert host.called() == called


def test_check_mode_tells_what_would_follow_of_files_that_it_did_not_write(host: Host) -> None:
    unit = {"name": "running", "restart_on": ["/etc/app/*"]}
    assert host.run(unit, changed=("/etc/app/a",), check=True)["actions"] == ["restart running"]
    assert host.called() == []


def test_check_mode_tells_and_does_nothing(host: Host) -> None:
    result = host.run({"name": "stopped", "running": True}, {"name": "absent", "running": True}, check=True)
    assert result["changed"]
    assert result["diff"]["after"] == "start stopped\nstart absent\n"
    assert host.called() == []


def test_failures_are_named_and_keep_nobody_from_a_restart(host: Host, tmp_path: Path) -> None:
    (tmp_path / "app.conf").touch()
    result = host.run(
        {"name": "absent", "running": True},
        {"name": "broken", "enabled": True, "running": True},
        {"name": "running", "restart_on": [f"{tmp_path}/app.conf"]},
    )
    assert result["failed"]
    assert "unit absent: systemd knows none of this name" in result["msg"]
    assert "systemctl enable broken: Job for broken.service failed." in result["msg"]
    assert host.called() == ["daemon-reload", "restart running"]
