"""Changes are applied, refused, gone back from and continued: real programs, the real engine, real trees; every object is a file.

They take minutes and belong to a proof. What is refused at which time, and where a killed application goes on, is proven
without an engine as well, in ``tests/unit/change``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dpp.build.tools import tool
from dpp.model import permits
from dpp.model.errors import RetriableError
from dpp.model.folders import REPOSITORY
from dpp.operations.change.apply import abort
from dpp.operations.change.compare import State
from dpp.operations.change.findings import Drift, Live, Plan
from dpp.operations.change.glass import traces
from dpp.operations.change.journal import Journal
from dpp.operations.change.listing import listed
from dpp.operations.change.live import LivePreviewer
from dpp.operations.change.plan import plan
from dpp.operations.change.reached import beside
from stacks.changing import NIGHT, NOON, TOPICS
from stacks.standing import STACKS, Standing, permit

pytestmark = pytest.mark.slow
MORE = (TOPICS, "next-visit: {partitions: 1}", "next-visit: {partitions: 2}")
OTHER = (TOPICS, "readouts: {partitions: 1}", "readouts: {partitions: 2}")
SERVICES = ["summit-services", "ncsa-services"]
UNITS = ("src/dpp/model/units.py", '    "wan": (),', '    "extra": (),\n    "wan": (),')
PROGRAM = "stacks/units/extra.py"
KILLED = """
import os, sys
from pathlib import Path
from stacks.standing import Standing
standing = Standing(Path(sys.argv[1]))
(standing.top / "objects/kill").write_text(f"ncsa-services {os.getpid()}")
standing.apply(sys.argv[2])
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Standing:
    """Return what stands as main declares it, with a change that two have approved."""
    missing = [name for name in ("kubernetes", "pulumi") if not tool(name).built]
    assert not missing, f"tools are not built: dpp tools build {' '.join(missing)}"
    standing = Standing.make(tmp_path_factory.mktemp("standing"))
    standing.propose("more", MORE)
    standing.record("more", "ana", "ben")
    return standing


@pytest.fixture
def standing(first: Standing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Standing]:
    """Return what stands, for one test alone, and its record as it was before."""
    found = first.copy(tmp_path)
    for name, value in found.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(permits.TOKEN, raising=False)
    path = found.records.path(found.records.find("more"))
    text = path.read_text()
    yield found
    path.write_text(text)


def program(kind: str) -> str:
    """Return a unit that has one object on a cluster."""
    return f'''"""One object."""

from dpp.model.environment import Environment
from dpp.provider import kinds
from resources import Manifests

OBJECT = {{"apiVersion": "v1", "kind": "{kind}", "metadata": {{"name": "extra", "namespace": "workloads"}}}}


def provision(environment: Environment) -> None:
    """Provision it."""
    Manifests("ncsa-extra", kinds.Manifests(environment=environment.name, cluster="ncsa", service="extra", objects={{"{kind} workloads/extra": OBJECT}}))
'''


def planned(standing: Standing, between: str) -> tuple[Plan, State, State, LivePreviewer]:
    """Return a plan by declaration, what both sides declare, and who asks the environment."""
    dossier = plan(standing.workshop, between)
    [found] = [one for one in dossier.plans if one.environment == "lab"]
    with standing.workshop.applied("2026-9999", dossier.base, dossier.head) as sides:
        states = [standing.workshop.state(side, "lab") or {} for side in (sides.base, sides.head)]
        return found, states[0], states[1], LivePreviewer("lab", standing.folders, sides.base, sides.head)


# -- the live plan -------------------------------------------------------------------------------------------------------


def test_what_did_not_drift_has_the_plan_that_was_declared(standing: Standing) -> None:
    """Identities of machines and digests of images are others than any declaration says, and do not count."""
    found, base, head, live = planned(standing, "main..more")
    assert {one.stack for one in found.previews} == set(STACKS)
    asked: list[str] = []
    real = live.plan(found, base, head, asked.append)
    assert (real.different, sorted(asked)) == ({}, sorted(STACKS))
    assert (real.plan.parts, real.plan.digest) == (found.parts, found.digest)
    assert "machine svc01.ncsa" not in str(standing.objects()), "an identity is drawn by lot"


def test_what_somebody_changed_by_hand_is_another_plan_and_says_what(standing: Standing) -> None:
    found, base, head, live = planned(standing, "main..more")
    standing.edit_object("svc01.ncsa", gateway="10.83.0.99")
    real = live.plan(found, base, head, lambda _: None)
    assert set(real.different) == {"lab.ncsa-itc"}
    assert real.different["lab.ncsa-itc"].startswith("update Machine svc01.ncsa (gateway)")
    assert {part for part in found.parts if real.plan.parts[part] != found.parts[part]} == {"lab.ncsa-itc"}
    [path] = (standing.top / "objects").glob("*svc01.summit.json")
    path.unlink()
    again = live.plan(found, base, head, lambda _: None)
    assert "create Machine svc01.summit" in again.different["lab.chilean-itc"]


def test_there_is_no_page_beside_what_stands_where_a_host_does_not_answer(standing: Standing) -> None:
    dossier, before = plan(standing.workshop, "main..more"), standing.deeds()
    standing.edit_object("ncsa-services", digests={"svc01.ncsa": "drifted: base_system : Write the configuration"})
    with pytest.raises(RetriableError, match=r"^environment lab, host svc01\.ncsa: cannot be reached: "):
        beside(standing.workshop, dossier, "lab", NOON)  # the host that drifted is asked first
    assert standing.deeds() == before


def test_a_page_beside_what_stands_says_what_was_never_applied_and_makes_no_stack(standing: Standing) -> None:
    standing.propose("looked-at", ("k8s/broker/deployment.yaml", "replicas: 1", "replicas: 2"))
    dossier = plan(standing.workshop, "main..looked-at")
    page = beside(standing.workshop, dossier, "lab", NOON)
    live = {one.environment: one.live for one in page.plans}
    assert {name for name, found in live.items() if found} == {"lab"}
    assert live["lab"] == Live(
        asked="2026-11-30T15:00Z", drift=(Drift(stack="lab.workloads", found="it was never applied"),),
        unasked={"lab.workloads": "it was never applied"},
    )  # fmt: skip
    assert (page.digest, [one.digest for one in page.plans]) == (dossier.digest, [one.digest for one in dossier.plans])
    assert {path.stem for path in (standing.folders.state / "pulumi").rglob("stacks/*/*.json")} == set(STACKS)


def test_what_workloads_know_of_their_environment_does_not_count(standing: Standing) -> None:
    """Their images have digests of the registry, their pods digests of real secrets."""
    standing.propose("looked-at", ("k8s/broker/deployment.yaml", "replicas: 1", "replicas: 2"))
    found, base, head, live = planned(standing, "main..looked-at")
    assert [one.stack for one in found.previews] == ["lab.workloads"]
    with permits.held(permit(), standing.folders):
        done = live.stacks(live._base).up("lab.workloads")
    assert done.ok, done.errors
    real = live.plan(found, base, head, lambda _: None)
    assert real.different == {}
    assert real.plan.digest == found.digest


# -- the door ------------------------------------------------------------------------------------------------------------


def test_it_is_applied_in_its_window_recorded_and_nothing_is_left(standing: Standing) -> None:
    before, deeds = standing.objects(), len(standing.deeds())
    report = standing.apply("more")
    assert (report.result, report.refusals) == ("applied", ()), report
    assert standing.deeds()[deeds:] == SERVICES, "in the declared order, and nothing else"
    after = standing.objects()
    assert {name.split("-", 2)[2].removesuffix(".json") for name in after if after[name] != before[name]} == set(
        SERVICES
    )
    record = standing.records.find("more")
    assert (record.result, record.outcomes["lab"].person, record.outcomes["lab"].digest) == (
        "applied",
        "ana",
        record.plans["lab"].digest,
    )
    assert record.assessment
    attempt = Journal(standing.folders, record.id).attempt()
    assert attempt
    assert attempt.outcome == record.outcomes["lab"]
    again = standing.apply("more")
    assert (again.result, len(standing.deeds())) == ("refused", deeds + 2)
    assert again.refusals[0].startswith("it was applied on 2026-11-30 15:00 UTC")


def test_all_that_keeps_it_out_is_told(standing: Standing) -> None:
    record = standing.records.find("more")
    standing.records.write(record.model_copy(update={"approvals": record.approvals[:1]}))
    standing.edit_object("ncsa-services", layer="ncsa-serving")
    report, deeds = standing.apply("more", NIGHT), standing.deeds()
    assert report.result == "refused"
    words = (
        "it is not authorised: it lacks change-manager",
        "its window is working-day",
        "it touches summit, whose telescope observes until 2026-11-30 08:",
        "lab.ncsa-itc is not what the base declares: ",
        "the plan as lab has it is not the recorded one: lab.ncsa-itc differs",
    )
    assert [word for word, said in zip(words, report.refusals, strict=True) if not said.startswith(word)] == []
    assert set(report.sites) >= {"summit", "ncsa"}
    assert standing.deeds() == deeds
    assert Journal(standing.folders, record.id).entries() == []


def test_a_wrong_signature_opens_nothing(standing: Standing) -> None:
    record = standing.records.find("more")
    ana, ben = record.approvals
    forged = ben.model_copy(update={"signature": ana.signature})
    standing.records.write(record.model_copy(update={"approvals": (ana, forged)}))
    assert standing.apply("more").refusals == ("it is not authorised: it lacks change-manager",)


def test_somebody_elses_change_came_first(standing: Standing) -> None:
    standing.propose("other", OTHER)
    _, _, _, live = planned(standing, "main..other")
    with permits.held(permit(), standing.folders):
        assert live.stacks(live._head).up("lab.ncsa-itc").ok
    said = standing.apply("more").refusals
    assert [one.partition(":")[0] for one in said] == ["lab.ncsa-itc is not what the base declares", "the plan as lab has it is not the recorded one"]  # fmt: skip


# -- going back ----------------------------------------------------------------------------------------------------------


def test_what_fails_its_check_afterwards_goes_back_by_itself(standing: Standing) -> None:
    before, deeds = standing.objects(), len(standing.deeds())
    standing.broken = {"head event-streaming": "it reads nothing back"}
    report = standing.apply("more")
    assert report.result == "gone back from"
    assert report.why == "after lab.chilean-itc: service event-streaming does not work: it reads nothing back"
    assert standing.objects() == before
    assert standing.deeds()[deeds:] == ["summit-services", "summit-services"], "only what was touched"
    record = standing.records.find("more")
    assert (record.result, record.outcomes["lab"].why) == ("gone back from", report.why)


def test_what_cannot_go_back_says_so_and_lets_nobody_in_until_it_has(standing: Standing) -> None:
    before = standing.objects()
    (standing.top / "objects/fails").write_text("ncsa-services")
    report = standing.apply("more")
    assert report.result == "stuck"
    assert "it was told to fail" in report.why
    assert "dpp change abort" in report.remedy
    assert any(line.startswith("CANNOT GO BACK: ") for line in standing.said)
    [row] = [one for one in listed(standing.reviewed.root, NOON) if one.change.endswith("-more")]
    assert row.alarm
    assert "cannot go back" in row.result
    (standing.top / "objects/fails").unlink()
    assert abort(standing.order("more"), "mended").result == "gone back from"
    assert standing.objects() == before


# -- killed --------------------------------------------------------------------------------------------------------------


def killed(standing: Standing) -> None:
    """Apply in a process that is killed while the second stack's service is changed."""
    path = os.pathsep.join(str(REPOSITORY / one) for one in ("src", "tests", "workloads/src"))
    variables = os.environ | standing.variables() | {"PYTHONPATH": path}
    command = [sys.executable, "-c", KILLED, str(standing.top), "more"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    assert (standing.top / "objects/killed").exists()


@pytest.mark.parametrize(
    ("verb", "result"),
    [(Standing.apply, "applied"), (lambda standing, change: abort(standing.order(change), "we stop"), "aborted")],
    ids=["continued", "gone back from"],
)
def test_killed_half_way(standing: Standing, verb: Callable[..., Any], result: str) -> None:
    before, deeds = standing.objects(), len(standing.deeds())
    killed(standing)
    [row] = [one for one in listed(standing.reviewed.root, NOON) if one.change.endswith("-more")]
    assert row.result.startswith("HALF APPLIED to lab by ana since")
    assert verb(standing, "more").result == result
    done = standing.deeds()[deeds:]
    if result == "applied":
        assert done == [*SERVICES, "ncsa-services"], "what was done is not done twice"
        assert {name for name, inputs in standing.objects().items() if inputs != before[name]}
    else:
        assert standing.objects() == before
    assert standing.records.find("more").result == result


def test_one_at_a_time(standing: Standing) -> None:
    with permits.held(permit(), standing.folders), pytest.raises(RetriableError, match="is being applied"):
        standing.apply("more")


# -- commands ------------------------------------------------------------------------------------------------------------


def test_nothing_is_applied_without_a_change_but_by_breaking_the_glass(standing: Standing) -> None:
    deeds = standing.deeds()
    for words in (("up", "lab", "--yes"), ("stack", "up", STACKS[0], "--yes"), ("stack", "refresh", STACKS[0]), ("stack", "destroy", STACKS[0], "--yes")):  # fmt: skip
        done = standing.dpp(*words)
        assert done.returncode == 1
        assert "environment lab: asks for an authorised change, and none is being applied to lab" in done.stderr
    assert standing.deeds() == deeds
    assert [one.reason for one in traces(standing.folders)] == ["First light."]
    said = standing.dpp("change", "list")
    assert "BROKEN GLASS" in said.stdout
    assert traces(standing.folders)[0].id in said.stdout.replace("\n", "")


def test_going_back_takes_away_what_the_base_does_not_know(standing: Standing) -> None:
    """The change's own program does so; what holds data stays, and whoever saved it takes the stack away by hand."""
    before = standing.objects()
    standing.broken = {"head event-streaming": "it reads nothing back"}
    standing.propose("wider", MORE, UNITS, (PROGRAM, "", program("ConfigMap")))
    standing.record("wider", "ana", "ben")
    report = standing.apply("wider")
    assert report.result == "gone back from", (report, standing.said[-20:])
    assert "lab.extra: taking away what the change added" in standing.said
    assert "ncsa-extra" in standing.deeds(), "it had been made"
    assert standing.objects() == before

    standing.propose("data", MORE, UNITS, (PROGRAM, "", program("PersistentVolumeClaim")))
    standing.record("data", "ana", "ben")
    stuck = standing.apply("data")
    assert stuck.result == "stuck"
    assert "data would go with it: PersistentVolumeClaim workloads/extra of ncsa-extra" in stuck.why
    assert "dpp change break-glass lab" in stuck.why
    assert standing.objects() != before
    done = standing.break_glass("Nothing of it is wanted.", "stack", "destroy", "lab.extra", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert abort(standing.order("data"), "taken away").result == "gone back from"
    assert standing.objects() == before


def test_a_change_does_not_judge_itself(standing: Standing) -> None:
    """Its own code lets everything in; the base's code is asked, from whichever checkout it is applied."""
    door = "src/dpp/operations/change/door.py"
    standing.propose("open-door", MORE, (door, "return tuple(dict.fromkeys(found))", "return ()"))
    standing.record("open-door")
    done = standing.dpp("change", "apply", "open-door", "--environment", "lab")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "it is not authorised: it lacks" in done.stdout
    assert standing.records.find("open-door").result == "open"
