"""What operators see of messages that were set aside, and what they have done with them."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from dpp import cli
from dpp.adapters.process import Done
from dpp.model.environment import Environment
from dpp.model.errors import RetriableError
from dpp.model.folders import Folders
from dpp.operations import status
from dpp.operations.data_plane import DataPlane


def message(group: str, offset: int, reason: str, time: float) -> dict[str, Any]:
    return {
        "name": f"{group}/t/0/{offset}", "group": group, "workload": group, "role": "ledger", "topic": "t", "partition": 0,
        "offset": offset, "timestamp": 1.0, "size": 5, "reason": reason, "attempts": 1, "time": time, "begins": "68",
        "traceback": "",
    }  # fmt: skip


class Plane:
    """The operations hosts of all sites."""

    def __init__(self) -> None:
        self.at: dict[str, list[dict[str, Any]]] = {"summit": [], "ncsa": []}
        self.away: set[str] = set()
        self.asked: list[tuple[str, ...]] = []

    def run(self, plane: Any, *words: str, **_: Any) -> Done:
        site = plane._site
        assert plane._principal == "health"
        self.asked.append((site, *words))
        if site in self.away:
            raise RetriableError(f"operations host of {site}", "no answer")
        lines = "".join(json.dumps(one) + "\n" for one in self.at[site])
        return Done(0, lines.encode(), b"a warning\n")


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> Plane:
    made = Plane()

    def run(plane: DataPlane, *words: str, **options: Any) -> Done:
        return made.run(plane, *words, **options)

    monkeypatch.setattr(DataPlane, "run", run)
    return made


def dpp(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["dpp", *words])
    return cli.main()


def test_status_says_per_site_and_group_how_many_and_why_the_newest(plane: Plane) -> None:
    plane.at["ncsa"] = [message("b", 1, "old", 1.0), message("a", 1, "only", 5.0), message("b", 9, "new", 3.0)]
    pieces = list(status._messages(Environment.load("lab"), Folders.current()))
    assert [(one.name, one.state, one.sound) for one in pieces] == [
        ("summit", "none set aside", True),
        ("ncsa a", "1 set aside, the newest: only", False),
        ("ncsa b", "2 set aside, the newest: new", False),
    ]


def test_a_site_that_does_not_answer_hides_no_other(plane: Plane) -> None:
    plane.away.add("summit")
    plane.at["ncsa"] = [message("a", 1, "only", 5.0)]
    pieces = list(status._messages(Environment.load("lab"), Folders.current()))
    assert [(one.name, one.sound) for one in pieces] == [("summit", False), ("ncsa a", False)]
    assert "no answer" in pieces[0].state


def test_what_is_chosen_is_given_back_at_every_site_or_at_one(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dpp(monkeypatch, "messages", "give-back", "lab", "--group", "forwarder") == 0
    assert dpp(monkeypatch, "messages", "dismiss", "lab", "--site", "summit", "--message", "a/t/0/1", "--json") == 0
    assert json.loads(capsys.readouterr().out.split("\n", 3)[-1] or "[]") == []
    assert plane.asked == [
        ("summit", "workloads.messages", "give-back", "--group", "forwarder"),
        ("ncsa", "workloads.messages", "give-back", "--group", "forwarder"),
        ("summit", "workloads.messages", "dismiss", "--name", "a/t/0/1"),
    ]


@pytest.mark.parametrize("words", [("give-back", "lab"), ("dismiss",), ("list", "lab", "--site", "base")])
def test_nothing_happens_by_mistake(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert dpp(monkeypatch, "messages", *words) == 2
    assert plane.asked == []
    assert SimpleNamespace(err=capsys.readouterr().err).err.startswith("dpp: ")
