"""The vendor's command and this engine, turn about on one backend; without the command, how it would be called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dpp.engine.environments import Environment, vendor_command
from dpp.engine.vendor import VendorWorkspace
from dpp.model.errors import UsageError
from stacks.engine.projects import Project

STUB = """#!/bin/sh
echo "$*" >> "$STUB_LOG"
case "$1" in
    preview) echo '{"steps": [{"op": "update", "urn": "urn:pulumi:lab.x::o::t:a:B::x", "oldState": {"inputs": {"a": 1}},
                    "newState": {"inputs": {"a": 2}, "parent": ""}}]}' ;;
    stack) [ "$2" = history ] && echo '[{"resourceChanges": {"create": 2, "same": 1}}]' ;;
    up) echo "a line"; exit "$STUB_EXIT" ;;
esac
exit 0
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("pulumi"), reason="the vendor's command is not on PATH: its transcripts are replayed"
)
def test_turn_about(sample: Project) -> None:
    """What one engine applied is no change to the other."""

    def vendor(*arguments: str) -> None:
        environment = {**os.environ, **sample.environment, "PULUMI_BACKEND_URL": sample.backend.as_uri()}
        environment |= {"PULUMI_HOME": str(sample.folder.parent / "home"), "PULUMI_DEBUG_GRPC": ""}
        command = ["pulumi", *arguments, "-s", sample.stack, "--non-interactive"]
        subprocess.run(command, cwd=sample.folder, env=environment, check=True)

    (sample.folder / ".venv").symlink_to(sys.prefix)
    assert sample.workspace().up(sample.stack).changes == 5
    vendor("preview", "--expect-no-changes")
    sample.configure(mode="second")
    vendor("up", "--yes", "--skip-preview")
    assert sample.workspace().preview(sample.stack).changes == 0
    assert sample.workspace().destroy(sample.stack).ok
    vendor("preview")


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command gets backend, configuration and stack; its plan and its numbers become a result."""
    command = tmp_path / "pulumi"
    command.write_text(STUB)
    command.chmod(0o755)
    monkeypatch.setenv("STUB_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("STUB_EXIT", "255")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("DPP_ENGINE", raising=False)
    assert vendor_command() == str(command)
    workspace = VendorWorkspace(Environment.named("lab"), str(command))
    planned = workspace.preview("lab.x", refresh=True)
    assert [(step.verb, step.diff) for step in planned.steps] == [("update", {"a": {"old": 1, "new": 2}})]
    lines: list[str] = []
    done = workspace.up("lab.x", lambda event: lines.append(event.message))
    assert lines == ["a line"]
    assert (done.counts, done.errors) == ({"create": 2, "same": 1}, ["pulumi up ended with exit code 255"])
    assert "preview -s lab.x --json --refresh --non-interactive" in (tmp_path / "log").read_text().splitlines()
    monkeypatch.setenv("DPP_ENGINE", "offline")
    assert vendor_command() is None
    monkeypatch.setenv("DPP_ENGINE", "other")
    with pytest.raises(UsageError, match="offline or pulumi"):
        vendor_command()
