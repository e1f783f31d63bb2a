"""`dpp stack`: what people see, exit codes, and JSON for programs."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dpp.cli.stack import app
from dpp.engine.display import Display
from dpp.engine.environments import Environment
from dpp.engine.events import Event, Result
from dpp.engine.workspace import Workspace
from dpp.model.errors import UsageError
from stacks.engine.projects import Project


@pytest.fixture
def stack(ledger: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return the ledger project as the stacks of an environment."""
    monkeypatch.setenv("DPP_ENGINE", "offline")
    monkeypatch.setattr(Environment, "workspace", lambda _self, parallel=8: _workspace(ledger, parallel))
    return ledger


def _workspace(project: Project, parallel: int) -> Workspace:
    workspace = project.workspace()
    workspace.parallel = parallel
    return workspace


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_preview_up_and_again(stack: Project) -> None:
    code, text = run("preview", stack.stack)
    assert code == 3
    assert re.search(r"^ \+ +Only base$\n +place: \"here\"\n +size: 1\n +token: \[secret\]$", text, re.MULTILINE), text
    assert re.search(r"^lab\.ledger preview: 9 to create \(\d+\.\d s\)$", text, re.MULTILINE), text
    assert not stack.checkpoint.exists()

    code, text = run("up", stack.stack, "--yes")
    assert code == 0, text
    assert re.search(r"^ +0:\d\d \+ Only base +creating$", text, re.MULTILINE), text
    assert re.search(r"^ +0:\d\d \+ Only base +created( \d+\.\d s)?$", text, re.MULTILINE), text
    assert "hidden" not in text

    code, text = run("up", stack.stack, "--yes", "--json", "--expect-no-changes")
    found = json.loads(text)
    assert code == 0
    assert (found["changes"], found["ok"], found["counts"]["same"]) == (0, True, 9)
    assert run("preview", stack.stack)[0] == 0

    assert json.loads(run("outputs", stack.stack, "--json")[1]) == {"places": ["here", "here"], "token": "[secret]"}
    assert "hidden-token" in run("outputs", stack.stack, "--show-secrets")[1]

    exported = stack.folder / "exported.json"
    exported.write_text(run("export", stack.stack)[1])
    assert run("import", stack.stack, str(exported)) == (0, f"{stack.stack}: 10 resources imported\n")
    assert run("cancel", stack.stack) == (0, f"{stack.stack}: nobody holds it\n")


def test_changes_where_none_are_expected(stack: Project) -> None:
    code, text = run("preview", stack.stack, "--expect-no-changes")
    assert code == 1
    assert "9 changes, expected none" in text


def test_usage() -> None:
    for arguments in (("preview", "lab.wan", "--bogus"), ("preview",), ("bogus",)):
        assert run(*arguments)[0] == 2
    for arguments, message in (
        (("preview", "lab.wan", "--target", "x"), "--target: part of a stack; expected whole stacks"),
        (("preview", "wan"), "stack: 'wan'; expected <environment>.<unit>"),
        (("destroy", "lab.wan"), "--yes: not given; expected consent"),
        (("env", "nowhere"), "environment: 'nowhere'; expected a folder of inventories/"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            run(*arguments)


def test_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exports name folders of the instance, and files that are there."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("DPP_LAB", "feng")
    code, text = run("env", "lab")
    assert code == 0
    exports = dict(
        line.removeprefix("export ").split("=", 1) for line in text.splitlines() if line.startswith("export ")
    )
    state = tmp_path / "dpp/feng"
    assert exports["PULUMI_BACKEND_URL"] == f"file://{state}/pulumi"
    assert Path(exports["PULUMI_CONFIG_PASSPHRASE_FILE"]).stat().st_mode & 0o777 == 0o600
    assert "encryptionsalt: v1:" in Path(exports["PULUMI_OPTION_CONFIG_FILE"]).read_text()
    assert "unset PULUMI_CONFIG_PASSPHRASE" in text
    assert str(Path(sys.executable).parent) in exports["PATH"]


def test_display_of_text_and_failure() -> None:
    """Texts are shown as differences of lines; a failure says what and why."""
    stream = io.StringIO()
    urn = "urn:pulumi:lab.wan::observatory::dpp:index:DeviceConfiguration::rt01.base"
    old, new = ("\n".join([f"line {number}" for number in range(40)] + [end]) for end in ("old end", "new end"))
    step = Event("step", urn, "update", "planned", diff={"configuration": {"old": old, "new": new}})
    result = Result("preview", "lab.wan", [step], errors=["rt01.base: unreachable; expected SSH\n  at somewhere"])
    Display(stream).finish(result)
    assert stream.getvalue().splitlines() == [
        " ~ DeviceConfiguration rt01.base",
        "       configuration:",
        *("         " + line for line in ("@@ -39,3 +39,3 @@", " line 38", " line 39", "-old end", "+new end")),
        "✗ rt01.base: unreachable; expected SSH",
        "    at somewhere",
        "lab.wan preview: 1 to update (0.0 s) — not finished",
    ]
