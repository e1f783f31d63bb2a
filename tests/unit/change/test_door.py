"""What keeps a change out, each reason by its own text, and all of them together."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dpp.adapters.progress import Reporter
from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY
from dpp.model.units import UNITS
from dpp.operations.change import authorisation
from dpp.operations.change.door import Asked, Door, Judged, Known, require_code_of
from dpp.operations.change.findings import Dossier, Plan, Preview, Step
from dpp.operations.change.judges import Judges
from dpp.operations.change.live import Found
from dpp.operations.change.people import People, Person
from dpp.operations.change.plan import with_digest
from dpp.operations.change.records import Planned, Record
from dpp.operations.change.rules import Rules
from dpp.operations.change.sides import Side, Sides, Workshop
from dpp.operations.change.times import Times
from unit.change.states import State, noun, row, state

RULES = Rules.parse((REPOSITORY / "changes/rules.yml").read_text(), "changes/rules.yml")
NOON, NIGHT = datetime(2026, 11, 30, 15, tzinfo=UTC), datetime(2026, 11, 30, 4, tzinfo=UTC)
PACHON = {
    "latitude_degrees": -30.244639,
    "longitude_degrees": -70.749417,
    "height_metres": 2663,
    "sun_below_degrees": -12,
}
FREEZE = """---
freezes:
  - {name: first-light, from: 2026-11-30T00:00:00Z, to: 2026-12-01T00:00:00Z, reason: Commissioners take images., EMERGENCIES}
"""


def declared() -> State:
    """Return an environment whose summit has a telescope and a router."""
    found = state()
    found["nouns"] = [
        noun("site", "summit", {"observing": PACHON}, "sites.yml"),
        noun("site", "base", {"observing": None}, "sites.yml"),
        noun("host", "rt01.summit", {"site": "summit"}, "hosts.yml"),
        noun("host", "rt01.base", {"site": "base"}, "hosts.yml"),
    ]
    found["resources"]["lab.wan"] = [
        row("dpp:network:DeviceConfiguration", name, host=name, configuration="")
        for name in ("rt01.summit", "rt01.base")
    ]
    return found


def plan(router: str = "rt01.summit", errors: tuple[str, ...] = (), part: int = 1) -> Plan:
    steps = () if errors else (Step(verb="update", kind="dpp:network:DeviceConfiguration", name=router),)
    preview = Preview(stack="lab.wan", steps=steps, errors=errors, source="the engine")
    found = Plan(environment="lab", applied=True, previews=(preview,))
    return with_digest(found.model_copy(update={"judgement": RULES.judge(found, ())}), {"lab.wan": [part]})


@dataclass
class Standing:
    """An environment that is as declared, or not."""

    different: dict[str, str] = field(default_factory=dict)
    part: int = 1
    asked: tuple[str, ...] = ()

    def plan(self, plan: Plan, base: State, head: State, tell: Callable[[str], None]) -> Found:
        del base, head, tell
        self.asked = tuple(one.stack for one in plan.previews)
        return Found(with_digest(plan, {"lab.wan": [self.part]}), self.different)


@dataclass
class Office:
    """A checkout with main, a change on a branch, persons with keys, and a door."""

    root: Path
    sides: Sides
    keys: Path
    people: People
    standing: Standing = field(default_factory=Standing)

    def record(self, of: Plan | None = None, **more: Any) -> Record:
        made = of or plan()
        assert made.judgement
        planned = Planned(
            digest=made.digest, parts=made.parts, risk="high", approvals=made.judgement.approvals, window="daytime"
        )
        return Record(
            id="2026-0001", name="routes", request="ticket 7", reason="Another way to the summit.", authors=("writer@example.org",),
            base=self.sides.base.name, head=self.sides.head.name, created=NOON, recorded=NOON, plans={"lab": planned}, **more,
        )  # fmt: skip

    def approved(self, of: Plan | None = None, by: tuple[tuple[str, str], ...] = (("ana", "service-owner"), ("ben", "change-manager"), ("eva", "network-engineer")), **more: Any) -> Record:  # fmt: skip
        found = self.record(of, **more)
        for person, role in by:
            found = authorisation.approve(
                found, "lab", person, role, self.keys / person, self.people, of or plan(), NIGHT
            )
        return found

    def refusals(self, record: Record, now: datetime = NOON, of: Plan | None = None, **known: Any) -> tuple[str, ...]:
        door = Door(
            Workshop(self.root, self.root.parent / "workshop"), self.standing, lambda: now, Reporter(quiet=True)
        )
        made = of or plan()
        dossier = Dossier(
            base=self.sides.base.name, head=self.sides.head.name, compared_with="BASE", judged_by="BASE", files=1, nouns=(),
            plans=(made,), proofs=(), authors=("writer@example.org",), digest="d" * 64,
        )  # fmt: skip
        given = {
            "dossier": dossier,
            "plan": made,
            "base": declared(),
            "head": declared(),
            "judges": Judges(known.pop("people", self.people), known.pop("rules", RULES)),
        }
        return door.refusals(Asked(record, "lab", self.sides), Known(**given | known))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, People]:
    folder, people = tmp_path_factory.mktemp("keys"), {}
    for name, roles in (
        ("ana", ("service-owner",)),
        ("ben", ("change-manager",)),
        ("eva", ("network-engineer", "on-call")),
    ):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        key = " ".join((folder / f"{name}.pub").read_text().split()[:2])
        people[name] = Person(name=name, email=(f"{name}@example.org",), roles=roles, keys=(key,))
    roles = ("service-owner", "change-manager", "network-engineer", "on-call")
    return folder, People(roles=dict.fromkeys(roles, "a role"), people=people)


@pytest.fixture
def office(tmp_path: Path, keys: tuple[Path, People]) -> Office:
    root = tmp_path / "checkout"
    (root / "changes").mkdir(parents=True)

    def git(*words: str) -> str:
        identity = ("-c", "user.name=Author", "-c", "user.email=writer@example.org", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", *identity, *words], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    git("commit", "--quiet", "--allow-empty", "--message=Begin")
    base = git("rev-parse", "HEAD")
    git("checkout", "--quiet", "-b", "branch")
    git("commit", "--quiet", "--allow-empty", "--message=Change")
    sides = Sides(Side(base, root), Side(git("rev-parse", "HEAD"), root), (), ())
    return Office(root, sides, *keys)


def test_what_is_approved_in_its_window_and_stands_as_declared_is_let_in(office: Office) -> None:
    assert office.refusals(office.approved()) == ()
    assert office.standing.asked == ("lab.wan",)


def test_nobody_has_approved(office: Office) -> None:
    said = "it is not authorised: it lacks change-manager, network-engineer, service-owner"
    assert office.refusals(office.record()) == (said,)


def test_somebody_who_signed_another_plan(office: Office) -> None:
    record = office.approved()
    other = [one.model_copy(update={"digest": "0" * 64}) for one in record.approvals]
    assert "lacks change-manager" in office.refusals(record.model_copy(update={"approvals": tuple(other)}))[0]


def test_an_author_is_known_by_the_commits_whatever_the_record_says(office: Office) -> None:
    """A record that hides who wrote the change gives its author no voice."""
    hidden = office.approved().model_copy(update={"authors": ("somebody.else@example.org",)})
    writer = office.people.people["ana"].model_copy(update={"email": ("writer@example.org",)})
    people = office.people.model_copy(update={"people": office.people.people | {"ana": writer}})
    assert office.refusals(hidden, people=people) == ("it is not authorised: it lacks service-owner",)


def test_the_record_is_of_another_plan(office: Office) -> None:
    said = office.refusals(office.approved(), of=plan(part=2))
    assert "it is not authorised: the plan has drifted since it was recorded: lab.wan differs" in said


def test_at_night(office: Office) -> None:
    window, telescope = office.refusals(office.approved(), NIGHT)
    assert window.startswith("its window is daytime, between morning and evening twilight at the summit, never while the telescope observes: at 2026-11-30 04:00 UTC that is closed; it opens at 2026-11-30 08:")  # fmt: skip
    assert telescope.startswith("it touches summit, whose telescope observes until 2026-11-30 08:")


def test_a_telescope_is_left_alone_whatever_the_window(office: Office) -> None:
    made = plan()
    assert made.judgement
    wide = made.model_copy(update={"judgement": made.judgement.model_copy(update={"window": "any-time"})})
    [said] = office.refusals(office.approved(wide), NIGHT, wide)
    assert said.startswith("it touches summit, whose telescope observes")
    elsewhere = plan("rt01.base")
    assert elsewhere.judgement
    base = elsewhere.model_copy(update={"judgement": elsewhere.judgement.model_copy(update={"window": "any-time"})})
    assert office.refusals(office.approved(base), NIGHT, base) == ()


@pytest.mark.parametrize("place", ["base", "main"])
def test_a_freeze_of_the_base_or_of_main_as_it_is_now(office: Office, place: str) -> None:
    record, path = office.approved(), office.root / "changes/freezes.yml"
    path.write_text(FREEZE.replace(", EMERGENCIES", ""))
    if place == "main":
        commands: tuple[list[str], ...] = (["checkout", "-q", "main"], ["add", "."], ["-c", "user.name=A", "-c", "user.email=a@b.org", "commit", "-qm", "Freeze"], ["checkout", "-q", "branch"])  # fmt: skip
        for words in commands:
            subprocess.run(["git", *words], cwd=office.root, check=True)
        assert not path.exists()
    assert office.refusals(record) == (
        "freeze first-light lasts until 2026-12-01 00:00 UTC: Commissioners take images.",
    )


def test_somebody_changed_something_by_hand(office: Office) -> None:
    office.standing = Standing({"lab.wan": "update DeviceConfiguration rt01.summit (configuration)"}, part=2)
    assert office.refusals(office.approved()) == (
        "lab.wan is not what the base declares: update DeviceConfiguration rt01.summit (configuration)",
        "the plan as lab has it is not the recorded one: lab.wan differs",
    )


def test_a_base_that_nobody_agreed_to(office: Office) -> None:
    head = office.sides.head
    office.sides = Sides(head, head, (), ())
    [said] = office.refusals(office.approved())
    assert (
        said == f"its base {head.name[:12]} is not in the history of main: nobody has agreed to its persons and rules"
    )


def test_what_cannot_be_previewed_or_is_for_previews_only(office: Office) -> None:
    broken = plan(errors=("KeyError: site",))
    assert "lab.wan cannot be applied: KeyError: site" in office.refusals(office.record(broken), of=broken)
    only = declared() | {"apply": False}
    assert "environment lab is for previews only: dpp_provisioning of inventories/lab says why" in office.refusals(office.approved(), base=only)  # fmt: skip


def test_all_reasons_are_told_together(office: Office) -> None:
    (office.root / "changes/freezes.yml").write_text(FREEZE.replace(", EMERGENCIES", ""))
    office.standing = Standing({"lab.wan": "it was never applied"}, part=2)
    said = office.refusals(office.record(), NIGHT)
    words = ("not authorised", "its window is", "telescope observes", "freeze first-light", "not what the base declares", "not the recorded one")  # fmt: skip
    assert [word for word, one in zip(words, said, strict=True) if word not in one] == []


# -- kinds ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("emergencies", "stops"), [("emergencies: pass", False), ("emergencies: wait", True)])
def test_an_emergency_is_at_once_by_role(office: Office, emergencies: str, stops: bool) -> None:
    (office.root / "changes/freezes.yml").write_text(FREEZE.replace("EMERGENCIES", emergencies))
    undeclared = office.refusals(office.record(kind="emergency"), NIGHT)
    assert "it is not authorised: an emergency is declared by on-call, by signature" in undeclared
    found = office.refusals(office.approved(by=(("eva", "on-call"),), kind="emergency"), NIGHT)
    assert [one.partition(" lasts")[0] for one in found] == ["freeze first-light"] * stops


def test_what_holds_an_emergency_up_is_declared(office: Office) -> None:
    record = office.approved(by=(("eva", "on-call"),), kind="emergency")
    strict = RULES.model_copy(update={"emergency_passes": ("window",)})
    [said] = office.refusals(record, NIGHT, rules=strict)
    assert said.startswith("it touches summit, whose telescope observes")


def test_an_emergency_is_of_what_stands_too(office: Office) -> None:
    office.standing = Standing(part=2)
    record = office.approved(by=(("eva", "on-call"),), kind="emergency")
    assert office.refusals(record, NIGHT) == ("the plan as lab has it is not the recorded one: lab.wan differs",)


def test_a_standard_change_needs_nobody_but_its_window(office: Office) -> None:
    pattern = RULES.standard["topic-figures"].model_copy(update={"risk": "high"})
    rules = RULES.model_copy(update={"standard": {"routes": pattern}})
    record = office.record(kind="standard", pattern="routes")
    assert office.refusals(record, rules=rules) == ()
    assert len(office.refusals(record, NIGHT, rules=rules)) == 2


def test_other_code_than_the_bases_judges_nothing(tmp_path: Path) -> None:
    require_code_of(REPOSITORY)
    (tmp_path / "src/dpp").mkdir(parents=True)
    with pytest.raises(FatalError, match="not that of the change's base"):
        require_code_of(tmp_path)


def test_what_was_begun_is_not_asked_again(office: Office) -> None:
    door = Door(
        Workshop(office.root, office.root.parent / "w"),
        office.standing,
        lambda: NOON + timedelta(0),
        Reporter(quiet=True),
    )
    made = plan()
    dossier = Dossier(
        base="b", head="h", compared_with="", judged_by="", files=1, nouns=(), plans=(made,), proofs=(), authors=(), digest="d" * 64,
    )  # fmt: skip
    known = Known(dossier, made, declared(), declared(), Judges(office.people, RULES))
    assert door.refusals(Asked(office.approved(), "lab", office.sides, ("lab.wan",)), known) == ()
    assert office.standing.asked == ()


def test_stacks_are_applied_in_the_order_of_units_not_of_their_names() -> None:
    steps = (Step(verb="update", kind="dpp:links:Link", name="a"),)
    names = ("lab.chilean-itc", "lab.commissioning-cluster", "lab.summit-storage", "lab.wan")
    made = plan().model_copy(
        update={"previews": tuple(Preview(stack=one, steps=steps, source="the engine") for one in names)}
    )
    times = Times("lab", "normal", RULES, "", {}, tuple, lambda: NOON)
    order = tuple(f"lab.{unit}" for unit in UNITS)
    found = Judged((), made, frozenset(), {}, times, {}, order=order)
    assert found.stacks == ("lab.wan", "lab.chilean-itc", "lab.summit-storage", "lab.commissioning-cluster")
