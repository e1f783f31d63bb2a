"""Only a person of the base, in a role that the rules name, who did not write it, binds a plan by a signature; and for a time."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dpp.model.errors import FatalError, UsageError
from dpp.model.folders import REPOSITORY
from dpp.operations.change import authorisation
from dpp.operations.change.findings import Noun, Plan, Preview, Step
from dpp.operations.change.people import People, Person
from dpp.operations.change.plan import with_digest
from dpp.operations.change.records import Assessment, Planned, Record, Records
from dpp.operations.change.rules import Rules

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULES = Rules.parse((REPOSITORY / "changes/rules.yml").read_text(), "changes/rules.yml")
ROLES = ("service-owner", "change-manager", "on-call")


@dataclass
class Office:
    """Persons with their private keys."""

    folder: Path
    people: People

    def key(self, person: str) -> Path:
        return self.folder / person


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    folder = tmp_path_factory.mktemp("keys")
    people = {}
    for name, roles in (
        ("ana", ("service-owner", "change-manager")),
        ("ben", ("change-manager",)),
        ("eva", ("on-call",)),
        ("joe", ()),
    ):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        key = " ".join((folder / f"{name}.pub").read_text().split()[:2])
        people[name] = Person(name=name, email=(f"{name}@example.org",), roles=roles, keys=(key,))
    return Office(folder, People(roles=dict.fromkeys(ROLES, "a role"), people=people))


def plan(*verbs: str, part: Any = 1) -> Plan:
    steps = tuple(
        Step(verb=verb, kind="dpp:hosts:Convergence", name=f"n{number}")
        for number, verb in enumerate(verbs or ("update",))
    )
    found = Plan(
        environment="lab", applied=True, previews=(Preview(stack="lab.wan", steps=steps, source="the engine"),)
    )
    judged = found.model_copy(
        update={
            "judgement": RULES.judge(found, ()).model_copy(
                update={"approvals": {"service-owner": 1, "change-manager": 1}}
            )
        }
    )
    return with_digest(judged, {"lab.wan": [part], "lab.ncsa-itc": ["update"]})


def record(of: Plan | None = None, **more: Any) -> Record:
    made = of or plan()
    planned = Planned(
        digest=made.digest,
        parts=made.parts,
        risk="low",
        approvals={"service-owner": 1, "change-manager": 1},
        window="any-time",
    )
    given: dict[str, Any] = {
        "authors": ("writer@example.org",),
        "base": "b" * 40,
        "head": "h" * 40,
        "created": NOW,
        "recorded": NOW,
        "plans": {"lab": planned},
    }
    return Record(
        id="2026-0001",
        name="more-partitions",
        request="ticket 7",
        reason="More visits are read at once.",
        **given | more,
    )


def approve(office: Office, one: Record, person: str, role: str, *, key: str = "", at: datetime = NOW) -> Record:
    return authorisation.approve(one, "lab", person, role, office.key(key or person), office.people, plan(), at)


def verdict(
    office: Office, one: Record, now: Plan | None = None, *, nouns: tuple[Noun, ...] = (), at: datetime = NOW
) -> authorisation.Verdict:
    return authorisation.authorised(one, "lab", office.people, RULES, now or plan(), nouns, at)


def test_all_whom_the_rules_name_must_agree(office: Office) -> None:
    one = record()
    assert verdict(office, one).why == "it lacks service-owner, change-manager"
    one = approve(office, one, "ana", "service-owner")
    assert verdict(office, one).why == "it lacks change-manager"
    both = approve(office, one, "ana", "change-manager")
    assert verdict(office, both).valid is False, "one person agrees in one role"
    one = approve(office, both, "ben", "change-manager")
    assert verdict(office, one) == authorisation.Verdict(valid=True, why="approved by all whom the rules name")


def test_a_plan_that_has_drifted_is_authorised_no_more_and_says_which_part(office: Office) -> None:
    one = approve(office, approve(office, record(), "ana", "service-owner"), "ben", "change-manager")
    assert verdict(office, one, plan(part=2)).why == "the plan has drifted since it was recorded: lab.wan differs"
    with pytest.raises(FatalError, match=r"drifted: lab\.wan differs"):
        authorisation.approve(
            record(), "lab", "ana", "service-owner", office.key("ana"), office.people, plan(part=2), NOW
        )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"person": "ben"}, "signature is by no key of ben"),
        ({"person": "joe"}, "joe is no change-manager"),
        ({"person": "zoe"}, "knows no zoe"),
        ({"expires": NOW + timedelta(days=400)}, "signature is by no key of ana"),
        ({"digest": "0" * 64}, "another plan"),
        ({"signature": "nothing"}, "signature is by no key of ana"),
    ],
)
def test_an_approval_is_of_exactly_what_was_signed(office: Office, change: dict[str, Any], why: str) -> None:
    one = approve(office, record(), "ana", "change-manager")
    forged = one.approvals[0].model_copy(update=change)
    found = authorisation.judge(one, forged, office.people, NOW)
    assert not found.valid
    assert why in found.why


def test_an_approval_of_one_change_is_none_of_another(office: Office) -> None:
    one = approve(office, record(), "ana", "change-manager")
    other = one.model_copy(update={"id": "2026-0002"})
    assert "signature" in authorisation.judge(other, one.approvals[0], office.people, NOW).why


def test_an_approval_expires(office: Office) -> None:
    one = approve(office, record(), "ana", "change-manager")
    assert authorisation.judge(
        one, one.approvals[0], office.people, NOW + authorisation.VALID_FOR - timedelta(seconds=1)
    ).valid
    assert "expired" in authorisation.judge(one, one.approvals[0], office.people, NOW + authorisation.VALID_FOR).why


def test_authors_do_not_approve_their_own(office: Office) -> None:
    with pytest.raises(FatalError, match="ana wrote it"):
        approve(office, record(authors=("ana@example.org",)), "ana", "change-manager")


def test_a_key_of_somebody_else_does_not_sign(office: Office) -> None:
    with pytest.raises(FatalError, match="no key of ana"):
        approve(office, record(), "ana", "change-manager", key="ben")


def test_recorded_parts_that_are_not_the_plans_are_found(office: Office) -> None:
    one = approve(office, approve(office, record(), "ana", "service-owner"), "ben", "change-manager")
    other = one.plans["lab"].model_copy(update={"parts": plan(part=2).parts})
    forged = one.model_copy(update={"plans": {"lab": other}})
    assert "parts that it records" in verdict(office, forged).why


def test_an_emergency_is_declared_by_role_and_owes_a_retrospective(office: Office) -> None:
    one = record(kind="emergency")
    assert verdict(office, one).why == "an emergency is declared by on-call, by signature"
    one = approve(office, one, "eva", "on-call")
    found = verdict(office, one)
    assert found.valid
    assert "owed afterwards: service-owner, change-manager" in found.why
    assert authorisation.owed(one, RULES, NOW) == ["retrospective of an emergency"]
    assert authorisation.owed(one, RULES, NOW + timedelta(days=8)) == ["late: retrospective of an emergency"]
    done = one.model_copy(update={"assessment": Assessment(due=NOW, found="It was right.")})
    assert authorisation.owed(done, RULES, NOW) == []


def test_a_standard_change_stays_within_its_pattern(office: Office) -> None:
    topic = Noun(kind="topic", name="alerts", verb="changed", file="inventories/lab/group_vars/all/topics.yml")
    one = record(kind="standard", pattern="topic-figures")
    assert verdict(office, one, nouns=(topic,)).why == "authorised beforehand as topic-figures"
    host = Noun(kind="host", name="x01.ncsa", verb="added", file="inventories/lab/hosts.yml")
    assert "it changes host" in verdict(office, one, nouns=(topic, host)).why
    replaced = plan("replace")
    found = verdict(office, record(replaced, kind="standard", pattern="topic-figures"), replaced, nouns=(topic,))
    assert "it does replace; its risk is high, at most moderate" in found.why
    assert not verdict(office, record(kind="standard", pattern="anything")).valid


# -- files ---------------------------------------------------------------------------------------------------------------


def test_a_record_is_written_and_read(office: Office, tmp_path: Path) -> None:
    records = Records(tmp_path)
    assert records.next_id(NOW) == "2026-0001"
    one = approve(office, record(), "ana", "change-manager")
    path = records.write(one)
    assert path == tmp_path / "changes/2026/0001-more-partitions.yml"
    assert records.read(path) == one
    assert (records.find("2026-0001"), records.find("more-partitions")) == (one, one)
    assert records.next_id(NOW) == "2026-0002"
    with pytest.raises(UsageError, match="2026-0007"):
        records.find("2026-0007")


@pytest.mark.parametrize(
    ("name", "edit", "why"),
    [
        ("0001-another.yml", ("", ""), "name more-partitions"),
        ("1-a.yml", ("", ""), "changes/YYYY/NNNN-name.yml"),
        ("0001-more-partitions.yml", ("kind: normal", "kind: urgent"), "kind"),
        ("0001-more-partitions.yml", ("request:", "wish:"), "wish"),
    ],
)
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, name: str, edit: tuple[str, str], why: str) -> None:
    records = Records(tmp_path)
    path = records.write(record())
    text = path.read_text().replace(*edit) if edit[0] else path.read_text()
    path.unlink()
    (path.parent / name).write_text(text)
    with pytest.raises(FatalError, match=why):
        records.all()


def test_all_records_of_this_tree_are_sound() -> None:
    Records(REPOSITORY).all()
    People.parse((REPOSITORY / "changes/people.yml").read_text(), "changes/people.yml")
