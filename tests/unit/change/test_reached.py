"""What an environment says itself stands beside the plan: drift first, equal differences once; no answer is an error, never another comparison."""  # fmt: skip

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from dpp.adapters.progress import Reporter
from dpp.adapters.pulumi.events import Reader, Result, ignore
from dpp.model.errors import FatalError, RetriableError, UsageError
from dpp.model.folders import REPOSITORY, Folders
from dpp.operations.change.compare import State
from dpp.operations.change.dossier import html, markdown
from dpp.operations.change.findings import Dossier, Drift, Live, Plan, Preview, Step, TextDifference
from dpp.operations.change.forge.received import checked
from dpp.operations.change.live import LivePreviewer, differing, tasks_by_host
from dpp.operations.change.plan import digest_of
from dpp.operations.change.reached import Asked, Reached, Standing, drift_of, touched_plan, with_live
from dpp.operations.change.sides import Side, Sides
from unit.change.states import inputs, state
from unit.change.test_page import Page
from unit.change.test_rules import dossier
from unit.change.test_sides import commit, git

EVENTS = Path(__file__).parent / "data/refreshed.jsonl"
"""What the engine told of a preview with refresh, of a stack one of whose hosts somebody had changed by hand (some of the lines)."""
NOON = datetime(2026, 11, 30, 4, 20, 59, tzinfo=UTC)
STACK = "lab.ncsa-itc"
STEP = Step(verb="update", kind="dpp:hosts:Convergence", name="ncsa-services", changes=("digests: svc01.ncsa",))


def a_plan(*steps: Step, environment: str = "lab") -> Plan:
    parts = {STACK: digest_of("steps")}
    previews = (Preview(stack=STACK, steps=steps, source="the engine"),) if steps else ()
    return Plan(environment=environment, applied=True, previews=previews, parts=parts, digest=digest_of({environment: parts}))  # fmt: skip


def a_live(**more: Any) -> Live:
    previews = (Preview(stack=STACK, steps=(STEP,), source="the engine, compared with the stack as it was applied last"),)  # fmt: skip
    checked = (TextDifference(kind="host file", name="/etc/app.conf", places=tuple(f"n{number:02d}.ncsa" for number in range(9)), diff="@@\n-a\n+b"),)  # fmt: skip
    return Live.model_validate({"asked": "2026-11-30T04:20Z", "previews": previews, "hosts": ("svc01.ncsa",), "checked": checked} | more)  # fmt: skip


DRIFT: dict[str, Any] = {
    "drift": (Drift(stack=STACK, steps=(STEP.model_copy(update={"changes": ("svc01.ncsa: base_system : Write the configuration",)}),)),),
    "drifted": (TextDifference(kind="host file", name="/etc/sysctl.d/60-dpp.conf", places=("svc01.ncsa",), diff="@@\n a\n-# stray"),),
}  # fmt: skip
PLAIN = dossier(a_plan(STEP), a_plan(STEP, environment="production"))


# -- the page ------------------------------------------------------------------------------------------------------------


def test_no_digest_depends_on_it_and_it_is_dated() -> None:
    found = with_live(PLAIN, "lab", a_live(**DRIFT))
    assert (found.digest, [one.digest for one in found.plans], [one.parts for one in found.plans]) == (
        PLAIN.digest, [one.digest for one in PLAIN.plans], [one.parts for one in PLAIN.plans],
    )  # fmt: skip
    assert found.compared_with == "live, 2026-11-30T04:20Z: lab as it stands, beside BASE as declared (bbbbbbbbbbbb); production with BASE as declared (bbbbbbbbbbbb) alone"  # fmt: skip
    assert "Compared with: live, 2026-11-30T04:20Z: lab as it stands" in markdown(found)
    assert Dossier.model_validate_json(found.model_dump_json()) == found


def test_drift_comes_first() -> None:
    found = with_live(PLAIN, "lab", a_live(**DRIFT))
    page = markdown(found)
    order = ("| **DRIFT**: 1 resource not as the base declares on svc01.ncsa", "| **risk** |", "> [!CAUTION]", "/etc/sysctl.d/60-dpp.conf", "/etc/app.conf", "### What is done")  # fmt: skip
    places = [page.index(words) for words in order]
    assert places == sorted(places)
    assert "> - **lab.ncsa-itc**: update Convergence ncsa-services would bring it back: svc01.ncsa: base_system : Write the configuration\n" in page  # fmt: skip
    assert page.count("/etc/app.conf") == 1
    assert "9 places: n00.ncsa" in page
    assert [*json.loads(found.model_dump_json())["plans"][0]["live"]][:3] == ["asked", "drift", "drifted"]

    said = Page(html(found))
    assert said.all("p")[0] == {"class": "drift loses"}
    first = said.said("section")
    assert first.index("Drift: 1 resource not as the base declares on svc01.ncsa, live 2026-11-30T04:20Z") < first.index("Risk")  # fmt: skip
    assert said.said("summary")[0] == "Drift"
    assert said.said("h3")[0] == "As lab stands"


def test_a_stack_that_was_cut_short_is_drift_too() -> None:
    page = markdown(with_live(PLAIN, "lab", a_live(drift=(Drift(stack=STACK, found="an operation on it was cut short"),))))  # fmt: skip
    assert "**DRIFT**: lab.ncsa-itc not applied to the end, live" in page
    assert "> - **lab.ncsa-itc**: an operation on it was cut short\n" in page


def test_where_nothing_drifted_it_says_so_and_only_what_is_other_is_listed_again() -> None:
    page = markdown(with_live(PLAIN, "lab", a_live()))
    assert "DRIFT" not in page
    assert "as the base declares, live 2026-11-30T04:20Z" in page
    assert "1 step, the same as below" in page
    other = a_live(previews=(Preview(stack=STACK, steps=(STEP, STEP.model_copy(update={"verb": "delete", "name": "gone"})), source="the engine"),), unasked={"n99.ncsa": "it does not stand yet"})  # fmt: skip
    page = markdown(with_live(PLAIN, "lab", other))
    assert "2 steps, other than below" in page
    assert page.index("| **delete** | Convergence | gone |") < page.index("### What is done")
    assert "- n99.ncsa is not asked: it does not stand yet" in page


def test_words_of_hosts_are_nothing_but_words() -> None:
    odd = DRIFT | {"drifted": (TextDifference(kind="host file", name="/etc/<script>@ana", places=("n",), diff="+````\n+<b>"),)}  # fmt: skip
    found = with_live(PLAIN, "lab", a_live(**odd))
    assert "<script>" not in markdown(found)
    assert "<script>" not in html(found)
    assert "\n`````diff\n" in markdown(found)


def test_a_forge_believes_no_such_page(tmp_path: Path) -> None:
    found = with_live(PLAIN, "lab", a_live())
    with pytest.raises(FatalError, match="compared live"):
        checked(found.model_copy(update={"base": _commit(tmp_path)}), found.head, tmp_path)


def _commit(root: Path) -> str:
    git(root, "init", "--quiet", "--initial-branch=main")
    return commit(root, kept="1")


# -- what the engine told ------------------------------------------------------------------------------------------------


def recorded() -> Result:
    result = Result("preview", STACK)
    reader = Reader(result, ignore, lambda: 0.0)
    for line in EVENTS.read_text().splitlines():
        reader.read(json.loads(line))
    return result


def test_hosts_and_tasks_are_read_from_what_the_engine_tells() -> None:
    found = differing(recorded())
    tasks = [tasks_by_host(one) for one in found]
    assert {"svc01.ncsa": "base_system : Write the configuration; base_system : Run the units"} in tasks
    drift = drift_of(Standing(STACK, tuple(found)))
    assert [(one.verb, one.name, one.changes) for one in drift.steps] == [
        ("update", "ncsa-services", ("svc01.ncsa: base_system : Write the configuration; base_system : Run the units",)),
    ]  # fmt: skip


# -- who does not answer -------------------------------------------------------------------------------------------------


class Here:
    """An environment whose states are in a folder of one's own, and what is asked of it."""

    def __init__(self) -> None:
        side = Side("b" * 40, REPOSITORY)
        self.sides, self.folders = Sides(side, Side("h" * 40, REPOSITORY), (), ()), Folders("tried")
        self.engine = LivePreviewer("lab", self.folders, self.sides.base, self.sides.head)
        self.backend = self.engine.stacks(side).backend

    def applied(self, stack: str, **latest: Any) -> None:
        path = self.backend.folder / ".pulumi/stacks" / self.backend.name / f"{stack}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"checkpoint": {"latest": {"resources": []} | latest}}))

    def held(self, stack: str, pid: int) -> None:
        self.backend.locks(stack).mkdir(parents=True)
        lock: Mapping[str, Any] = {"username": "ana", "hostname": socket.gethostname(), "pid": pid, "timestamp": datetime.now(UTC).isoformat()}  # fmt: skip
        (self.backend.locks(stack) / "1.json").write_text(json.dumps(lock))

    def asked(self, base: State, head: State, now: datetime = NOON) -> Live:
        return Reached(Asked("lab", self.folders, self.sides, base, head), self.engine, Reporter(quiet=True)).asked(a_plan(STEP), now)  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return Here()


def test_an_environment_of_which_nothing_stands_here_is_not_compared_with_another(here: Here, tmp_path: Path) -> None:
    with pytest.raises(FatalError) as caught:
        here.asked(state(), state())
    assert str(caught.value).startswith(f"environment lab: no stack of it was applied from here ({tmp_path}/dpp/tried/pulumi has none)")  # fmt: skip
    assert not here.backend.folder.exists(), "asking makes nothing"


def test_it_is_not_asked_while_somebody_changes_it(here: Here) -> None:
    here.applied(STACK)
    here.held(STACK, os.getpid())
    with pytest.raises(RetriableError, match=rf"stack {STACK}: ana@\S+ \(process {os.getpid()}\) .* is at work on it"):
        here.asked(state(), state())


@pytest.mark.parametrize(
    ("latest", "why"),
    [({"pending_operations": [{"type": "updating"}]}, "an operation on it was cut short"), (None, "it was never applied")],
)  # fmt: skip
def test_a_stack_that_is_not_whole_says_so_and_is_asked_no_more(latest: dict[str, Any] | None, why: str, here: Here) -> None:  # fmt: skip
    here.applied("lab.wan")
    if latest:
        here.applied(STACK, **latest)
    head = state()
    inputs(head, STACK, "ncsa-services")["digests"]["svc01.ncsa"] = "b"
    found = here.asked(state(), head, NOON.astimezone(timezone(timedelta(hours=-3))))
    assert (found.drift, found.previews) == ((Drift(stack=STACK, found=why),), ())
    assert (found.unasked, found.hosts) == ({STACK: why, "svc01.ncsa": why}, ()), "nor are its hosts"
    assert found.asked == "2026-11-30T04:20Z"


def test_hosts_and_stacks_that_the_change_brings_are_not_asked(here: Here) -> None:
    here.applied("lab.wan")
    base, head = state(), state()
    del base["resources"][STACK], base["groups"]["svc01.ncsa"], base["groups"]["st01.ncsa"]
    assert inputs(head, STACK, "ncsa-services")["digests"].keys() == {"svc01.ncsa", "st01.ncsa"}
    found = here.asked(base, head)
    assert found.unasked == dict.fromkeys((STACK, "st01.ncsa", "svc01.ncsa"), "it does not stand yet")
    assert (found.drift, found.hosts, found.checked) == ((), (), ())


def test_only_an_environment_of_which_a_stack_is_touched_can_be_asked() -> None:
    assert touched_plan(PLAIN, "lab").environment == "lab"
    with pytest.raises(UsageError, match="--live somewhere: no stack of it is touched by the change; expected one of lab, production"):  # fmt: skip
        touched_plan(PLAIN, "somewhere")
    with pytest.raises(UsageError, match="expected one of none"):
        touched_plan(dossier(a_plan()), "lab")
