"""What must not stand in a workflow: each rule as a function of its text, so that a test can break each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from dpp.model.folders import REPOSITORY

FOLDER = REPOSITORY / ".github/workflows"
FILES = sorted(path.name for path in FOLDER.glob("*"))
_PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
_NAMED = re.compile(r"uses: \S+@[0-9a-f]{40}  # v\d+\.\d+\.\d+$", re.MULTILINE)
_EXPRESSION = re.compile(r"\$\{\{.*?\}\}", re.DOTALL)
_OF_BASE = "${{ github.sha }}"
FROM_OUTSIDE = ("pull_request",)
"""Events upon which the code of a change runs: anybody may propose one."""
TRUSTED = ("push", "workflow_run")


def text_of(name: str) -> str:
    return (FOLDER / name).read_text()


def load(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def steps(workflow: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each step with the name of its job."""
    for name, job in workflow["jobs"].items():
        yield from ((name, step) for step in job["steps"])


def problems(text: str) -> list[str]:
    """Return what is wrong with a workflow."""
    workflow = load(text)
    events = set(workflow.get("on") or ())
    found = [*_events(events), *_limits(workflow), *_permissions(workflow, events), *_actions(workflow, text)]
    if events & {*FROM_OUTSIDE}:
        found += ["a secret where a change's code runs"] if re.search(r"\bsecrets\b", text) else []
    for _, step in steps(workflow):
        found += [f"an expression in a command: {match}" for match in _EXPRESSION.findall(step.get("run", ""))]
        found += ["a step that has no name"] if not step.get("name") else []
    if "workflow_run" in events:
        found += _of_base(workflow)
    return found


def _events(events: set[str]) -> Iterator[str]:
    if not events:
        yield "no event, or `on` unquoted, which YAML takes for yes"
    yield from (f"event {name}" for name in sorted(events - {*FROM_OUTSIDE, *TRUSTED}))
    if "workflow_run" in events and len(events) > 1:
        yield "what may write runs upon something else too"


def _limits(workflow: dict[str, Any]) -> Iterator[str]:
    if "group" not in (workflow.get("concurrency") or {}):
        yield "no concurrency"
    for name, job in workflow["jobs"].items():
        if not isinstance(job.get("timeout-minutes"), int):
            yield f"job {name} has no timeout-minutes"
        if not re.fullmatch(r"[a-z]+-\d+\.\d+", str(job.get("runs-on"))):
            yield f"job {name} runs on {job.get('runs-on')}, which is no version"
        if "container" in job or "services" in job or "uses" in job:
            yield f"job {name} takes an image or a workflow from elsewhere"


def _permissions(workflow: dict[str, Any], events: set[str]) -> Iterator[str]:
    asked = [
        workflow.get("permissions"),
        *(job["permissions"] for job in workflow["jobs"].values() if "permissions" in job),
    ]
    if not isinstance(asked[0], dict):
        yield "no permissions, or all"
    for one in asked:
        more = {name: level for name, level in one.items() if level != "read"} if isinstance(one, dict) else {}
        if more and events & {*FROM_OUTSIDE, "push"}:
            yield f"permissions {more} where a change's code runs"


def _actions(workflow: dict[str, Any], text: str) -> Iterator[str]:
    used = [step["uses"] for _, step in steps(workflow) if "uses" in step]
    yield from (f"action {name} is not pinned by a commit" for name in used if not _PINNED.fullmatch(name))
    if len(_NAMED.findall(text)) != len(used):
        yield "an action whose version is not named beside its commit"


def _of_base(workflow: dict[str, Any]) -> Iterator[str]:
    """Yield where a workflow that may write takes anything but what the base is."""
    for _, step in steps(workflow):
        if step.get("env", {}).get("REVISION", _OF_BASE) != _OF_BASE:
            yield f"checks out {step['env']['REVISION']}"
        if re.search(r"download-artifact|github-script", step.get("uses", "")):
            yield f"{step['uses']} takes what a change's code left"


def commands() -> list[tuple[str, str, str]]:
    """Return every command of every workflow: file, name of the step, command."""
    return [
        (name, step["name"], step["run"].strip())
        for name in FILES
        for _, step in steps(load(text_of(name)))
        if "run" in step
    ]


def path_of(name: str) -> Path:
    return FOLDER / name
