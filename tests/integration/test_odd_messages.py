"""Whatever is written to a topic while a night runs: no process restarts, what is good is processed, what is odd is listed."""

from __future__ import annotations

import json

import pytest

from integration.conftest import Fed, System, stamped
from integration.odd import GROUPS, REASONS, WORKERS, counted, messages

pytestmark = pytest.mark.root
EXPECTED = {(role, group): len(REASONS) for role, groups in GROUPS.items() for group in groups}


def test_no_process_restarts(fed: Fed) -> None:
    lasting = {name: pid for name, pid in fed.before.items() if "night" not in name}
    assert {"data_backbone-ncsa", "alert_distribution-ncsa", "forwarder-summit", "worker"} <= lasting.keys()
    assert {name: fed.after.get(name) for name in lasting} == lasting


def test_what_is_good_is_processed(fed: Fed) -> None:
    report = json.loads((fed.folder / "report.json").read_text())
    exposures, alerts = report["exposures"], report["alerts"]
    assert (exposures["lost"], exposures["processed"], exposures["archived"]) == (0, 3, 3), exposures
    assert (alerts["missing"], alerts["duplicates"], alerts["undecodable"]) == (0, 0, 0), alerts
    assert len(stamped(fed.folder, "alerted")) == 3


@pytest.mark.usefixtures("fed")
def test_what_is_odd_is_listed_with_its_reason_and_dealt_with(system: System) -> None:
    system.wait(lambda: counted(messages(system, "list")) == EXPECTED, "all that is odd is listed")
    found = messages(system, "list")
    for where in EXPECTED:
        reasons = [one["reason"] for one in found if (one["role"], one["group"]) == where]
        for reason, said in zip(reasons, REASONS, strict=True):
            assert said in reason, where

    given = messages(system, "give-back", "--group", WORKERS)
    assert len(given) == len(REASONS)
    before = {one["name"] for one in found}
    system.wait(
        lambda: len([one for one in messages(system, "list", "--group", WORKERS) if one["name"] not in before]) == 3,
        "what was given back and is as odd as before is listed anew",
    )
    assert not {one["name"] for one in given} & {one["name"] for one in messages(system, "list")}
    messages(system, "dismiss")
    assert messages(system, "list") == []


@pytest.mark.usefixtures("fed")
def test_asking_whether_it_works_leaves_nothing_behind(system: System) -> None:
    system.miniature.run("health", "ncsa", "main-camera-prompt-processing", "4711")
    assert messages(system, "list") == []
