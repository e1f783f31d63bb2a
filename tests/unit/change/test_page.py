"""The page for browsers: three answers first, and all that a reader needs who listens to it, prints it, or has a small screen."""

from __future__ import annotations

from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from dpp.operations.change.dossier import html
from dpp.operations.change.findings import Affected, Effect, Noun, Plan, Preview, Proof, Right, Step, TextDifference
from unit.change.test_rules import dossier

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """A page as a tree of what is in what: it refuses what is not closed where it was opened.

    Parameters
    ----------
    text
        The page.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[tuple[str, ...], dict[str, str]]] = []
        self.words: list[tuple[tuple[str, ...], str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(((*self._open, tag), {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append((tuple(self._open), " ".join(data.split())))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for path, attributes in self.elements if path[-1] == tag]

    def said(self, tag: str) -> list[str]:
        return [words for path, words in self.words if tag in path]


def _plan(environment: str, *verbs: str, direct: tuple[str, ...] = (), indirect: tuple[str, ...] = ()) -> Plan:
    services = tuple(
        Affected(name=name, title=name, tier="operational", owner="somebody", direct=name in direct, because="it is so")
        for name in (*direct, *indirect)
    )
    steps = tuple(Step(verb=verb, kind="dpp:hosts:Convergence", name=f"n{number}", changes=("a: b",)) for number, verb in enumerate(verbs))  # fmt: skip
    return Plan(
        environment=environment,
        applied=environment == "lab",
        previews=(Preview(stack=f"{environment}.wan", steps=steps, errors=("no engine",) * ("delete" in verbs), source="the engine"),),
        differences=(TextDifference(kind="router", name="configuration", places=("rt01.base",), diff="@@\n-a\n+b\n c"),),
        gained=(Right(principal="a", verb="read", resource="b"),) * ("delete" in verbs),
        effects=(Effect(verb="restarts", name="frr", places=("rt01.base",), seconds=40, because="reads a file"),),
        services=services,
        unseen={"a file": "its host says"},
    )  # fmt: skip


NOUNS = tuple(Noun(kind="host", name=f"n{number}", verb="added", file="hosts.yml", environments=("lab",)) for number in range(25))  # fmt: skip
DEPLOYS = dossier(_plan("production", "update", direct=("one",)), _plan("lab", "delete", "replace", direct=tuple("abcdefgh"), indirect=("x", "y")), nouns=NOUNS)  # fmt: skip
DEPLOYS = DEPLOYS.model_copy(update={"proofs": (Proof(id="routing", owner="wan", seconds=60, why="x"),)})
PAGES = {"deploys": DEPLOYS, "silent": dossier(nouns=NOUNS)}


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> Page:
    return Page(html(PAGES[request.param]))


def test_it_is_whole_in_one_file_and_does_nothing(page: Page) -> None:
    assert page.all("script") == page.all("link") == page.all("img") == []
    assert all(address.startswith("#") for link in page.all("a") for address in [link["href"]])
    assert not any("http" in words or "url(" in words for words in page.said("style"))


def test_it_can_be_listened_to(page: Page) -> None:
    [root] = page.all("html")
    assert root["lang"] == "en"
    assert len(page.said("title")) == len(page.all("main")) == len(page.all("header")) == len(page.all("footer")) == 1
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes]
    assert set(named) <= set(ids)
    assert {link["href"].removeprefix("#") for link in page.all("a")} <= set(ids)
    levels = [int(path[-1][1]) for path, _ in page.elements if path[-1] in {"h1", "h2", "h3", "h4"}]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels)), "no level is left out"
    assert all(head.get("scope") in {"row", "col"} for head in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("summary")) == len(page.all("details"))


def test_it_fits_a_small_screen_and_paper(page: Page) -> None:
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    style = " ".join(page.said("style"))
    assert "@media screen and (max-width" in style
    assert "@media print" in style
    assert "@media (prefers-color-scheme: dark)" in style
    cells = [attributes for path, attributes in page.elements if "tbody" in path and path[-1] in {"td", "th"}]
    assert cells
    assert all(cell["data-head"] for cell in cells), "a cell says what it is where its column's head is not shown"


def test_the_worst_comes_first_and_by_word() -> None:
    page = Page(html(DEPLOYS))
    assert page.said("title") == [f"Risk high: change {'b' * 12}..{'h' * 12}"]
    assert page.said("h2")[:2] == ["lab", "production, for previews only"]
    first = page.said("dl")[:30]
    assert first[:4] == ["Risk", "▲", "high", "of none, low, moderate, high"]
    assert first[4] == "Services touched: 8, and 2 that depend on them"
    assert "and 2 more" in first
    assert first.index("Way back") < first.index("Downtime")
    assert any("does not come back by a revert" in words for words in first)
    assert "no engine" in " ".join(page.said("p"))


def test_a_change_that_deploys_nothing_answers_the_same_three() -> None:
    said = Page(html(PAGES["silent"])).said("dl")
    assert [words for words in said if words in {"Risk", "none", "Services touched", "Way back"}] == ["Risk", "none", "Services touched", "none", "Way back"]  # fmt: skip


def test_a_difference_is_told_by_sign_and_cut_where_it_is_long() -> None:
    lines = [f"+line {number}" for number in range(300)]
    long: Any = DEPLOYS.plans[0].model_copy(update={"differences": (TextDifference(kind="router", name="c", places=("a",), diff="\n".join(lines)),)})  # fmt: skip
    said = Page(html(DEPLOYS.model_copy(update={"plans": (long,)}))).said("pre")
    assert said[:2] == ["+line 0", "+line 1"]
    assert said[-1] == "... 180 more lines, see --json"
    assert len(said) == 121
