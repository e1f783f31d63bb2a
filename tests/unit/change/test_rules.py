"""Rules judge a plan: the greatest risk, all approvals, the narrowest window, each for a reason."""

from __future__ import annotations

from typing import Any

import pytest

from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY
from dpp.operations.change.dossier import html, markdown
from dpp.operations.change.findings import Affected, Dossier, Effect, Noun, Plan, Preview, Right, Step
from dpp.operations.change.people import People
from dpp.operations.change.plan import digest_of, drifted, with_digest
from dpp.operations.change.rules import Rules

RULES = Rules.parse((REPOSITORY / "changes/rules.yml").read_text(), "changes/rules.yml")


def a_plan(*verbs: str, kind: str = "dpp:hosts:Convergence", **more: Any) -> Plan:
    steps = tuple(Step(verb=verb, kind=kind, name=f"n{number}") for number, verb in enumerate(verbs))
    previews = (Preview(stack="lab.wan", steps=steps, source="the engine"),) if steps else ()
    return Plan(environment="lab", applied=True, previews=previews, **more)


def touched(tier: str) -> tuple[Affected, ...]:
    return (Affected(name="one", title="One", tier=tier, owner="somebody", direct=True, because="role one"),)


def names(plan: Plan, *nouns: Noun) -> set[str]:
    return {rule.partition(" ")[0] for rule in RULES.judge(plan, nouns).rules}


def test_what_deploys_nothing_needs_nobody() -> None:
    found = RULES.judge(a_plan(), ())
    assert (found.risk, found.approvals, found.window) == ("none", {}, "any-time")


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (a_plan("update"), {"deploys"}),
        (a_plan("update", services=touched("critical")), {"deploys", "touches-critical"}),
        (a_plan("replace"), {"deploys", "loses-objects"}),
        (a_plan("update", kind="dpp:network:DeviceConfiguration"), {"deploys", "routers"}),
        (a_plan("update", gained=(Right(principal="a", verb="read", resource="b"),)), {"deploys", "rights-grow"}),
        (a_plan("update", lost=(Right(principal="a", verb="read", resource="b"),)), {"deploys"}),
        (a_plan(errors=("no engine",)), {"deploys", "unknown"}),
        (a_plan("update", effects=(Effect(verb="converges", name="host", places=tuple(map(str, range(20))), because="roles"),)), {"deploys", "many-hosts"}),
    ],
)  # fmt: skip
def test_each_danger_has_its_rule(plan: Plan, expected: set[str]) -> None:
    assert names(plan) == expected


@pytest.mark.parametrize(("seconds", "risk"), [(0, "moderate"), (60, "high"), (None, "high")])
def test_a_real_time_service_that_is_away_waits_for_the_day(seconds: int | None, risk: str) -> None:
    effect = Effect(verb="restarts", name="kafka", places=("svc01.ncsa",), seconds=seconds, because="reads a file")
    found = RULES.judge(a_plan("update", services=touched("real-time"), effects=(effect,)), ())
    assert found.risk == risk
    assert found.window == ("daytime" if risk == "high" else "working-day")
    assert found.approvals == {"change-manager": 1, "service-owner": 1}


def test_who_authorises_is_authorised_by_two() -> None:
    noun = Noun(kind="person", name="changes/people.yml", verb="changed", file="changes/people.yml")
    assert RULES.judge(a_plan(), [noun]).approvals == {"change-manager": 2}


def test_a_rule_names_declared_words() -> None:
    text = (REPOSITORY / "changes/rules.yml").read_text().replace("window: daytime", "window: midnight", 1)
    with pytest.raises(FatalError, match=r"rule real-time-away: .*midnight"):
        Rules.parse(text, "changes/rules.yml")


def test_every_role_that_rules_name_is_declared() -> None:
    people = People.parse((REPOSITORY / "changes/people.yml").read_text(), "changes/people.yml")
    named = {role for rule in RULES.rules for role in rule.approvals} | set(RULES.emergency_roles)
    assert named == set(people.roles)


# -- digests and pages ---------------------------------------------------------------------------------------------------


def test_a_digest_is_of_what_is_done() -> None:
    one = with_digest(a_plan("update"), {"lab.wan": [["update", "a", "b", []]], "lab.empty": []})
    other = with_digest(a_plan("update", unseen={"x": "y"}), {"lab.wan": [["update", "a", "b", []]]})
    assert one.digest == other.digest
    assert set(one.parts) == {"lab.wan"}
    assert one.digest != with_digest(a_plan("update"), {"lab.wan": [["replace", "a", "b", []]]}).digest
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})


def test_what_drifted_is_named_by_part() -> None:
    assert drifted({"lab.wan": "1", "night": "1"}, {"lab.wan": "2", "lab.new": "1"}) == [
        "lab.new is new",
        "night is gone",
        "lab.wan differs",
    ]


def dossier(*plans: Plan, nouns: tuple[Noun, ...] = ()) -> Dossier:
    judged = tuple(plan.model_copy(update={"judgement": RULES.judge(plan, nouns)}) for plan in plans)
    more: dict[str, Any] = {
        "compared_with": "BASE",
        "judged_by": "BASE",
        "files": len(nouns),
        "proofs": (),
        "authors": (),
    }
    return Dossier(base="b" * 40, head="h" * 40, nouns=nouns, plans=judged, digest="d" * 64, **more)


def test_a_change_of_documents_is_one_line() -> None:
    nouns = tuple(Noun(kind="document", name=name, verb="changed", file=f"docs/{name}") for name in ("a.md", "b.md"))
    page = markdown(dossier(nouns=nouns))
    assert page == f"**This change deploys nothing**: 2 documents in 2 files; no proof is owed; plan `{'d' * 16}`.\n"


def test_what_is_lost_comes_first_and_hosts_are_counted() -> None:
    steps = tuple(
        Step(verb="update", kind="dpp:machines:Machine", name=f"node{number:02d}.ncsa", changes=("image",))
        for number in range(9)
    )
    steps = (Step(verb="delete", kind="dpp:machines:Machine", name="svc01.ncsa"), *steps)
    plan = Plan(
        environment="lab", applied=True, previews=(Preview(stack="lab.ncsa-itc", steps=steps, source="the engine"),)
    )
    page = markdown(dossier(plan))
    rows = [line for line in page.splitlines() if "| Machine |" in line]
    assert rows[0] == "| **delete** | Machine | svc01.ncsa |  |"
    assert rows[1].startswith("| update | Machine | 9 places: node00.ncsa, node01.ncsa,")
    assert len(rows) == 2


def test_a_page_for_browsers_escapes_what_it_is_told() -> None:
    plan = a_plan("update", gained=(Right(principal="<b>", verb="read", resource="x"),))
    page = html(dossier(plan))
    assert "&lt;b&gt; may read x" in page
    assert "risk high" not in page
