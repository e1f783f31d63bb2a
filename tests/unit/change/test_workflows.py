"""Workflows give nothing away: what runs a change's code may read only, what may write runs main's code only."""

from __future__ import annotations

import re
import shlex

import pytest
import typer

from dpp.cli import change, tools
from dpp.model.folders import REPOSITORY
from unit.change import workflows
from unit.change.workflows import FILES, load, problems, steps, text_of

CHECKOUT = "git checkout --quiet --detach"


def test_there_are_three() -> None:
    assert FILES == ["plan.yml", "review.yml", "tests.yml"]
    assert {name: sorted(load(text_of(name))["on"]) for name in FILES} == {
        "plan.yml": ["pull_request"],
        "review.yml": ["workflow_run"],
        "tests.yml": ["pull_request", "push"],
    }


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_given_away(name: str) -> None:
    assert problems(text_of(name)) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("plan.yml", "pull_request:", "pull_request_target:", "event pull_request_target"),
        ("plan.yml", '"on":', "on:", "no event"),
        ("plan.yml", "TOKEN: ${{ github.token }}", "TOKEN: ${{ secrets.DEPLOY }}", "a secret where"),
        ("plan.yml", "    steps:", "    secrets: inherit\n    steps:", "a secret where"),
        ("plan.yml", "contents: read", "contents: write", "permissions {'contents': 'write'} where"),
        ("plan.yml", "permissions:\n  contents: read\n", "", "no permissions"),
        ("plan.yml", "permissions:\n  contents: read\n", "permissions: write-all\n", "no permissions"),
        ("tests.yml", "    timeout-minutes: 350\n", "    timeout-minutes: 350\n    permissions: {contents: write}\n", "permissions {'contents': 'write'} where"),
        ("plan.yml", "    timeout-minutes: 120\n", "", "job plan has no timeout-minutes"),
        ("plan.yml", "concurrency:\n  group:", "env:\n  group:", "no concurrency"),
        ("plan.yml", "ubuntu-24.04", "ubuntu-latest", "which is no version"),
        ("plan.yml", "    steps:", "    container: {image: debian}\n    steps:", "takes an image"),
        ("plan.yml", "run: make environment", "run: echo ${{ github.event.pull_request.title }}", "an expression in a command"),
        ("plan.yml", "@043fb46d1a93c77aae656e7c1c64a875d1fc6a0a  # v7.0.1", "@v7", "is not pinned by a commit"),
        ("plan.yml", "  # v7.0.1", "", "whose version is not named"),
        ("review.yml", "REVISION: ${{ github.sha }}", "REVISION: ${{ github.event.workflow_run.head_sha }}", "checks out"),
        ("review.yml", "upload-artifact@", "download-artifact@", "takes what a change's code left"),
        ("review.yml", "  workflow_run:", "  push: {branches: [main]}\n  workflow_run:", "runs upon something else too"),
    ],
)  # fmt: skip
def test_each_rule_refuses(name: str, old: str, new: str, said: str) -> None:
    text = text_of(name)
    assert old in text
    assert any(said in problem for problem in problems(text.replace(old, new)))


@pytest.mark.parametrize("name", FILES)
def test_a_checkout_leaves_no_token_behind(name: str) -> None:
    """It stands in the environment of that one step, and in no file of git's."""
    job = [step for _, step in steps(load(text_of(name)))]
    given = [step["name"] for step in job if "github.token" in str(step.get("env"))]
    assert given[0].startswith("Check out")
    assert CHECKOUT in job[0]["run"]
    assert "git remote" not in job[0]["run"]
    assert "git config" not in job[0]["run"]
    may = {"review.yml": ["Take the dossier", "Comment and label"]}
    assert given[1:] == may.get(name, [])


def test_every_step_is_a_command_of_this_repository() -> None:
    """But for the checkout, before which there is none."""
    known = typer.main.get_group(change.app).commands | typer.main.get_group(tools.app).commands
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for name, about, command in workflows.commands():
        if CHECKOUT in command:
            continue
        program, *words = shlex.split(command)
        assert program in {"make", ".venv/bin/dpp"}, f"{name}: {about}"
        assert words[0] in targets if program == "make" else words[1] in known, f"{name}: {about}"


def test_the_gate_is_that_of_continuous_integration() -> None:
    """`make test` is the one command that no test runs: it is what runs them. Here it is the same as everywhere."""
    told = [command for name, _, command in workflows.commands() if name == "tests.yml"]
    assert "make test" in told
    assert (REPOSITORY / ".ci/run").read_text().splitlines()[-1] == "exec make test"


def test_what_is_reviewed_is_what_was_planned() -> None:
    assert load(text_of("review.yml"))["on"]["workflow_run"]["workflows"] == [load(text_of("plan.yml"))["name"]]


def test_the_template_asks_for_what_no_dossier_knows() -> None:
    text = (REPOSITORY / ".github/pull_request_template.md").read_text()
    assert re.findall(r"^\*\*(.*?):\*\*", text, re.MULTILINE) == ["Request", "Reason", "Look at"]
    assert len(text.splitlines()) < 12
