"""What documents tell people to type exists: verbs and options of `dpp`, workloads, playbooks, links."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from dpp.cli import AREAS, VERBS
from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY
from dpp.model.services import Catalogue

PAGES = sorted([REPOSITORY / "README.md", *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("roles/*/README.md")])
RUNBOOKS = sorted(page for page in REPOSITORY.glob("docs/runbooks/*.md") if page.stem != "README")
SECTIONS = ["Healthy", "Symptom, cause, remedy", "Restart", "Who is affected"]
_CODE = re.compile(r"```\n(.*?)```|`([^`\n]+)`", re.DOTALL)
_PLACEHOLDER = re.compile(r"[A-Z][A-Z:]*|<.*>|\.\.\.")


def name(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def lines(page: Path) -> Iterator[str]:
    """Yield every line of code of a page, and every span of code in its text, without comments."""
    for block, span in _CODE.findall(page.read_text()):
        for line in (block or span).splitlines():
            yield line.partition("  #")[0].partition(" # ")[0].strip()


def commands(page: Path, program: str) -> Iterator[list[str]]:
    """Yield the words after `program` wherever a page calls it."""
    for line in lines(page):
        for part in re.split(r"[;|]|\$\(|&&|\)| -- ", line):  # what stands after -- is a call of its own
            words = part.split()
            if words[:1] == [program] and len(words) > 1:
                try:
                    yield shlex.split(part)[1:]
                except ValueError:
                    yield words[1:]


def verb(area: str) -> Any:
    app = importlib.import_module(f"dpp.cli.{area}").app
    return (typer.main.get_command if area in VERBS else typer.main.get_group)(app)


def wrong(words: list[str]) -> str:
    """Say what of a call of `dpp` does not exist."""
    area, *rest = words
    if area.startswith("-") or _PLACEHOLDER.fullmatch(area):
        return ""
    if area not in AREAS:
        return f"dpp {area}"
    command = verb(area)
    if isinstance(command, click.Group) or hasattr(command, "commands"):
        if not rest or "|" in rest[0] or _PLACEHOLDER.fullmatch(rest[0]):
            return ""
        if rest[0] not in command.commands:
            return f"dpp {area} {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    options = [word.partition("=")[0] for word in rest if word.startswith("--") and word != "--"]
    return ", ".join(f"{' '.join(words)}: {option}" for option in options if option not in {*known, "--help"})


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_calls_of_dpp_exist(page: Path) -> None:
    assert [found for words in commands(page, "dpp") if (found := wrong(words))] == []


@pytest.fixture(scope="module")
def places() -> set[str]:
    lab = Environment.load("lab")
    return {*lab.hosts, *lab.sites}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_playbooks_and_hosts_exist(page: Path, places: set[str]) -> None:
    for words in commands(page, "ansible-playbook"):
        assert (REPOSITORY / words[0]).is_file() or "<" in words[0], words
        if "--limit" in words:
            assert words[words.index("--limit") + 1] in places, words


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", RUNBOOKS, ids=name)
def test_workloads_that_a_runbook_names_exist(page: Path) -> None:
    platform = {"coredns"}
    for kind, workload in re.findall(r"\b(deployment|job)/([a-z-]+)", page.read_text()):
        folder = REPOSITORY / "k8s" / workload
        assert workload in platform or (folder / f"{kind}.yaml").is_file(), f"{kind}/{workload}"


@pytest.mark.parametrize("page", RUNBOOKS, ids=name)
def test_units_that_a_runbook_names_are_some_role(page: Path) -> None:
    roles = "".join(path.read_text() for path in REPOSITORY.glob("roles/*/tasks/*.yml"))
    for line in lines(page):
        for words in re.findall(r"systemctl (?:status|restart) ([a-z0-9@. -]+)", line):
            for unit in words.split():
                assert re.search(rf"\b{re.escape(unit)}\b", roles), unit


@pytest.mark.parametrize("page", RUNBOOKS, ids=name)
def test_a_runbook_answers_what_is_asked_at_night(page: Path) -> None:
    found = re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE)
    assert [section for section in found if section in SECTIONS] == SECTIONS


def test_every_service_that_has_something_running_has_its_runbook() -> None:
    services = Catalogue.load().services.values()
    without = {"authentication-and-authorization", "itc-provisioning", "miscellaneous", "monitoring"}
    sites = {"chilean-itc", "ncsa-itc", "satellite-itc", "commissioning-cluster"}
    for service in services:
        runs = service.workloads or service.roles or service.status != "planned"
        if runs and service.name not in without | sites:
            assert service.runbook == f"docs/runbooks/{service.name}.md"
    assert {page.stem for page in RUNBOOKS} == {service.name for service in services if service.runbook}
