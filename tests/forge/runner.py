"""Runs jobs of workflows as a forge's runner does: each step's own command, in an empty folder, with what it is told."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unit.change.workflows import load, text_of

_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
_NAME = re.compile(r"github(?:\.\w+)+")
_SHELL = "bash --noprofile --norc -eo pipefail {0}"
_ROOT = "sudo --preserve-env "
_OWN = ("PYTHONPATH", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "VIRTUAL_ENV", "DPP_IMAGE", "GITHUB_TOKEN")
_HUNG_SECONDS = 1800


@dataclass
class Done:
    """What became of a step: `code` is none where it was not run."""

    name: str
    code: int | None
    said: str = ""


@dataclass
class Runner:
    """One runner.

    Parameters
    ----------
    folder
        Where its workspaces are.
    github
        What expressions may ask for.
    variables
        What it tells every step beside that.
    elsewhere
        Commands that are not run here, each with the reason.
    """

    folder: Path
    github: dict[str, Any]
    variables: Mapping[str, str]
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    kept: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def job(self, file: str, name: str) -> list[Done]:
        """Run a job; a step that fails is the last, but for those that ask to be run all the same."""
        workflow = load(text_of(file))
        job = workflow["jobs"][name]
        assert self._holds(job.get("if", "true")), f"{file}: {name} would not run"
        workspace = self.folder / f"{file}-{name}"
        workspace.mkdir()
        shell = workflow.get("defaults", {}).get("run", {}).get("shell", _SHELL)
        done: list[Done] = []
        for step in job["steps"]:
            failed = any(one.code for one in done)
            if not self._holds(step["if"]) if "if" in step else failed:
                done.append(Done(step["name"], None))
            else:
                done.append(self._use(step, workspace) if "uses" in step else self._run(step, workspace, shell))
        return done

    def _run(self, step: Mapping[str, Any], workspace: Path, shell: str) -> Done:
        if why := self.elsewhere.get(step["run"].strip()):
            return Done(step["name"], None, why)
        script = self.folder / "script.sh"
        script.write_text(step["run"])
        if not shutil.which("sudo") and os.geteuid() == 0:
            shell = shell.removeprefix(_ROOT)  # who it would make us is who we are
        told = {name: self.evaluated(value) for name, value in step.get("env", {}).items()}
        own = {name: value for name, value in os.environ.items() if name not in _OWN}
        done = subprocess.run(
            [word.replace("{0}", str(script)) for word in shlex.split(shell)],
            cwd=workspace, env=own | dict(self.variables) | told, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False, timeout=_HUNG_SECONDS,
        )  # fmt: skip
        return Done(step["name"], done.returncode, done.stdout)

    def _use(self, step: Mapping[str, Any], workspace: Path) -> Done:
        """Keep files as the one action does that there is."""
        assert step["uses"].startswith("actions/upload-artifact@")
        given = step["with"]
        assert set(given) == {"name", "path", "if-no-files-found", "retention-days"}
        path = workspace / given["path"]
        files = [one for one in ([path] if path.is_file() else path.rglob("*")) if one.is_file()]
        if not files:
            return Done(step["name"], int(given["if-no-files-found"] == "error"), "no files found")
        self.kept[given["name"]] = {one.name: one.read_bytes() for one in files}
        return Done(step["name"], 0)

    def evaluated(self, text: str) -> str:
        """Return a text with its expressions replaced by what they name."""
        return _EXPRESSION.sub(lambda match: str(self._named(match[1])), text)

    def _named(self, name: str) -> Any:
        assert _NAME.fullmatch(name), f"an expression that is no name: {name}"
        value: Any = self.github
        for part in name.split(".")[1:]:
            value = value[part]
        return value

    def _holds(self, condition: str) -> bool:
        """Say whether a condition of equalities, joined by &&, holds; nothing is ever cancelled here."""
        text = _EXPRESSION.sub(r"\1", str(condition)).strip()
        return all(self._term(term.strip()) for term in text.split("&&"))

    def _term(self, term: str) -> bool:
        if term in {"true", "!cancelled()"}:
            return True
        match = re.fullmatch(r"(?P<name>github(?:\.\w+)+) (?P<sign>==|!=) '(?P<value>.*)'", term)
        assert match, f"a condition that this runner does not know: {term}"
        return (self._named(match["name"]) == match["value"]) == (match["sign"] == "==")


def forget(folder: Path) -> None:
    """Delete the workspaces: each holds an environment."""
    shutil.rmtree(folder, ignore_errors=True)
