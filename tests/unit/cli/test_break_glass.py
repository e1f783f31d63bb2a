"""The glass is broken for any command: a playbook that asks for a permit, and what fails or is no command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dpp.adapters.process import at_terminal
from dpp.cli import change_glass
from dpp.model import permits
from dpp.model.errors import UsageError
from dpp.model.folders import REPOSITORY, Folders
from dpp.operations.change.glass import Broken, traces
from dpp.operations.change.places import folders_of

PLAYBOOK = f"""---
- ansible.builtin.import_playbook: {REPOSITORY}/playbooks/permission.yml
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.copy: {{dest: CHANGED, content: by hand}}
      delegate_to: localhost
      vars: {{ansible_connection: local, ansible_python_interpreter: "{sys.executable}"}}
"""
REASON = "--reason=Both ways are gone."


@pytest.fixture
def dome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    """Return the folders of an environment that asks for authorised changes, in a checkout of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("ANSIBLE_CONFIG", str(REPOSITORY / "ansible.cfg"))
    monkeypatch.setenv("ANSIBLE_VARS_PLUGINS", str(tmp_path))  # the model knows nothing of this environment
    monkeypatch.setenv("ANSIBLE_NOCOLOR", "1")
    monkeypatch.delenv(permits.TOKEN, raising=False)
    monkeypatch.setattr(change_glass, "REPOSITORY", tmp_path)
    for name, changes in (("dome", "authorised"), ("shed", "free")):
        folder = tmp_path / "inventories" / name
        (folder / "group_vars/all").mkdir(parents=True)
        (folder / "hosts.yml").write_text("all: {hosts: {svc01.summit: }}\n")
        text = f"dpp_provisioning: {{hosts: made, changes: {changes}}}\n"
        (folder / "group_vars/all/provisioning.yml").write_text(text)
    return folders_of(tmp_path)["dome"]


def run(*words: str) -> tuple[int, BaseException | None]:
    app = typer.Typer()
    change_glass.register(app)
    app.callback()(lambda: None)
    done = CliRunner().invoke(app, ["break-glass", *words])
    return done.exit_code, done.exception


def only(folders: Folders) -> Broken:
    [trace] = traces(folders)
    return trace


def test_a_playbook_is_let_in_and_leaves_a_trace(
    dome: Folders, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    play, changed = tmp_path / "play.yml", tmp_path / "changed"
    play.write_text(PLAYBOOK.replace("CHANGED", str(changed)))
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        f"--inventory={tmp_path}/inventories/dome",
        str(play),
    ]
    assert at_terminal(command) != 0
    said = " ".join(capfd.readouterr().out.split())
    assert "asks for an authorised change, and none is being applied to dome" in said
    assert "in an emergency dpp change break-glass dome --reason REASON -- ansible-playbook" in said
    assert not changed.exists()
    assert traces(dome) == []

    code, _ = run("dome", REASON, "--", *command)
    assert code == 0, capfd.readouterr().out
    assert changed.read_text() == "by hand"
    trace = only(dome)
    assert (trace.command, trace.reason, trace.how) == (
        tuple(command),
        "Both ways are gone.",
        "it ended with exit code 0",
    )
    assert permits.refusal("dome", dome).startswith("asks for an authorised change, and none")


@pytest.mark.parametrize(
    ("program", "expected"),
    [("raise SystemExit(7)", 7), ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143)],
)
def test_how_a_command_ends_is_told_and_written_down(dome: Folders, program: str, expected: int) -> None:
    assert run("dome", REASON, "--", sys.executable, "-c", program)[0] == expected
    assert only(dome).how == f"it ended with exit code {expected}"


def test_what_is_no_command_fails_and_is_seen_too(dome: Folders) -> None:
    _, error = run("dome", REASON, "--", "no-such-program")
    assert isinstance(error, UsageError)
    assert "no program of this name" in str(error)
    assert only(dome).how == "it failed"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("shed", REASON), "environment shed: asks for no authorised change"),
        (("barn", REASON), "environment barn: not in inventories/; expected one of dome, shed"),
        (("dome", "--reason= "), "expected a reason, in a few words"),
    ],
)
def test_glass_that_need_not_be_broken_stays_whole(dome: Folders, words: tuple[str, ...], said: str) -> None:
    _, error = run(*words, "--", "true")
    assert isinstance(error, UsageError)
    assert said in str(error)
    assert traces(dome) == []
