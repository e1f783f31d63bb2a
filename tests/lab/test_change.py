"""A change of the lab from branch to record: looked at, refused, applied in its window, gone back from by itself, killed and continued.

Its repository is a copy of this tree, whose lab asks for authorised changes. The clock is given to the library; all else is
what people type, run by the code of the base and of the change.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpp.model.folders import REPOSITORY
from dpp.model.permits import TOKEN, refusal
from dpp.operations.change.dossier import markdown
from dpp.operations.change.findings import Dossier
from dpp.operations.change.glass import traces
from dpp.operations.change.journal import Journal
from dpp.operations.change.listing import listed
from dpp.operations.change.plan import plan as planning
from dpp.operations.change.sides import own_command
from lab.observatory import Observatory
from stacks.changing import NIGHT, NOON, TOPICS, Changing

pytestmark = pytest.mark.slow
HOST, UNITS, STACKS = "svc01.ncsa", ("chilean-itc", "ncsa-itc"), ("lab.chilean-itc", "lab.ncsa-itc")
REASON = "A drill of the night shift."
FILE, STRAY = "/etc/sysctl.d/60-dpp.conf", "# stray"
HEALTH = ("src/dpp/operations/health.py", "        if service in _BY_HTTP:", '        if service == "event-streaming":\n            return "it was told not to work"\n        if service in _BY_HTTP:')  # fmt: skip
"""A change whose own check finds that it does not work."""
DECLARED = (TOPICS, "forwarded: {partitions: 1}", "forwarded: {partitions: 1, retention_hours: 168}")
"""What holds anyway, so that changes have a figure to change."""
KILLED = """
import os, signal, sys
from pathlib import Path
from dpp.operations.change.apply import Order, apply
from dpp.operations.change.who import Who
from stacks.changing import NOON, Changing

def tell(line):
    print(line, flush=True)
    if "ncsa-services" in line and "updating" in line:
        os.kill(os.getpid(), signal.SIGKILL)

changing = Changing(Path(sys.argv[1]))
apply(Order(changing.workshop, sys.argv[2], "lab", Who("ana", "ops01"), lambda: NOON, tell))
"""


def kept(hours: int, more: int) -> tuple[str, str, str]:
    """Return the edit by which a topic of both sites is kept longer, which a broker takes without a restart, and takes back."""
    old = "forwarded: {partitions: 1, retention_hours: %d}"
    return TOPICS, old % hours, old % more


def hours(observatory: Observatory) -> int:
    """Return for how long the archive's broker keeps that topic."""
    said = observatory.topics(HOST)
    found = re.search(r"Topic: \S*forwarded\s.*?retention\.ms=(\d+)", said)
    assert found, said
    return int(found[1]) // 3_600_000


def tidy(observatory: Observatory) -> None:
    """Put back what was changed by hand; what reads that file began before it changed, and so has to read it again."""
    observatory.on(HOST, f'sed -i "/^{STRAY}$/d" {FILE} && systemctl restart systemd-sysctl')


@pytest.fixture(scope="module")
def changing(observatory: Observatory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changing]:
    """Return a repository whose main stands in the lab, and asks for authorised changes."""
    os.environ.pop(TOKEN, None)
    only = [f"--only={unit}" for unit in UNITS]
    observatory.dpp("up", "lab", "--yes", "--refresh", *only)
    for stack in STACKS:  # else every door stays shut, and this is why
        observatory.dpp("stack", "preview", stack, "--refresh", "--expect-no-changes")
    found = Changing(tmp_path_factory.mktemp("changing"))
    found.begin(DECLARED)
    try:
        yield found
    finally:
        observatory.dpp("up", "lab", "--yes", *only)


def dpp(changing: Changing, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `dpp` of the repository's checkout."""
    root = changing.reviewed.root
    path = os.pathsep.join([str(root / "src"), str(root / "workloads/src")])
    command = [sys.executable, "-P", "-c", "from dpp.cli import main; raise SystemExit(main())", *words]
    variables = os.environ | {"PYTHONPATH": path, "DPP_PYTHON": sys.executable}
    return subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, check=False)


def test_the_page_of_what_stands_names_drift_first_and_then_what_the_change_does(observatory: Observatory, changing: Changing) -> None:  # fmt: skip
    before = hours(observatory)
    changing.propose("looked-at", kept(before, before + 1))
    observatory.on(HOST, f'echo "{STRAY}" >> {FILE}')
    try:
        done = dpp(changing, "change", "plan", "main..looked-at", "--live", "lab", "--json")
    finally:
        tidy(observatory)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    dossier = Dossier.model_validate_json(done.stdout)
    [plan] = dossier.plans
    live = plan.live
    assert live
    assert dossier.compared_with.startswith(f"live, {live.asked}: lab as it stands")

    [drift] = live.drift
    [step] = drift.steps
    assert (drift.stack, drift.found, step.verb, step.name) == ("lab.ncsa-itc", "", "update", "ncsa-services")
    [told] = step.changes
    assert told.startswith(f"{HOST}: base_system : Write the configuration"), told
    files = {one.name: (one.places, one.diff.splitlines()[-1]) for one in live.drifted if one.kind == "host file"}
    assert files == {FILE: ((HOST,), f"-{STRAY}")}
    assert {place for one in live.drifted for place in one.places} == {HOST}

    assert [one.stack for one in live.previews] == list(STACKS)
    assert [one.steps for one in live.previews] == [one.steps for one in plan.previews], "as declared, so stands"
    assert (live.hosts, live.unasked) == ((HOST, "svc01.summit"), {})
    [checked] = live.checked
    assert (checked.name.partition(" ")[0], checked.places) == ("kafka_broker", (HOST, "svc01.summit"))
    milliseconds = [one * 3_600_000 for one in (before, before + 1)]
    assert re.fullmatch(r"@@\n\+topic \S*forwarded: retention\.ms {} became {}".format(*milliseconds), checked.diff)

    page = markdown(dossier)
    assert page.index("**DRIFT**") < page.index(FILE) < page.index("became") < page.index("### What is done")
    digests = {one.environment: one.digest for one in planning(changing.workshop, "main..looked-at").plans}
    assert {"lab": plan.digest} == digests, "what stands is no part of the plan"
    assert hours(observatory) == before


def test_a_change_is_refused_then_applied_in_its_window_and_recorded(observatory: Observatory, changing: Changing) -> None:  # fmt: skip
    before = hours(observatory)
    changing.propose("longer", kept(before, before + 1))
    record = changing.record("longer", "ana", "ben")
    assert set(record.plans) == {"lab"}
    done = dpp(changing, "up", "lab", "--yes", f"--only={UNITS[0]}")
    assert done.returncode == 1
    assert "asks for an authorised change, and none is being applied to lab" in done.stderr

    unsigned = record.model_copy(update={"approvals": record.approvals[:1]})
    changing.records.write(unsigned)
    observatory.on(HOST, f'echo "{STRAY}" >> {FILE}')
    try:
        said = changing.apply("longer", NIGHT).refusals
    finally:
        tidy(observatory)
    expected = (
        "it is not authorised: it lacks change-manager",
        "its window is working-day",
        "it touches summit, whose telescope observes until",
        "lab.ncsa-itc is not what the base declares: update Convergence ncsa-services",
        "the plan as lab has it is not the recorded one: lab.ncsa-itc differs",
    )
    assert [words for words, one in zip(expected, said, strict=True) if not one.startswith(words)] == [], said

    ana, ben = record.approvals
    forged = record.model_copy(update={"approvals": (ana, ben.model_copy(update={"signature": ana.signature}))})
    changing.records.write(forged)
    assert changing.apply("longer").refusals == ("it is not authorised: it lacks change-manager",)
    assert hours(observatory) == before

    changing.records.write(record)
    report = changing.apply("longer")
    assert report.result == "applied", (report, changing.said[-40:])
    assert hours(observatory) == before + 1
    recorded = changing.records.find("longer")
    assert recorded.outcomes["lab"].digest == record.plans["lab"].digest
    assert recorded.assessment
    assert refusal("lab", observatory.folders).startswith("asks for an authorised change, and none")
    changing.merge("longer")


def test_a_change_that_fails_its_check_goes_back_by_itself(observatory: Observatory, changing: Changing) -> None:
    before = hours(observatory)
    changing.propose("broken", kept(before, before + 1), HEALTH)
    changing.record("broken", "ana", "ben")
    report = changing.apply("broken")
    assert report.result == "gone back from", (report, changing.said[-40:])
    assert "service event-streaming does not work: it was told not to work" in report.why
    assert hours(observatory) == before
    assert changing.records.find("broken").outcomes["lab"].why == report.why


def test_a_change_that_was_killed_half_way_is_continued(observatory: Observatory, changing: Changing) -> None:
    before = hours(observatory)
    changing.propose("killed", kept(before, before + 1))
    record = changing.record("killed", "ana", "ben")
    path = os.pathsep.join(str(REPOSITORY / one) for one in ("src", "tests", "workloads/src"))
    command = [sys.executable, "-c", KILLED, str(changing.top), "killed"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stdout[-4000:] + done.stderr[-4000:]
    attempt = Journal(observatory.folders, record.id).attempt()
    assert attempt
    assert (attempt.phase, attempt.applied) == ("applying", {"lab.chilean-itc"})
    [row] = [one for one in listed(changing.reviewed.root, NOON) if one.change.endswith("-killed")]
    assert row.alarm
    assert row.result.startswith("HALF APPLIED to lab by ana")
    changing.said.clear()
    report = changing.apply("killed")
    assert report.result == "applied", (report, changing.said[-40:])
    assert hours(observatory) == before + 1
    assert "lab.chilean-itc: applying the change" not in changing.said, "what was done is not done twice"
    changing.merge("killed")


def broken(changing: Changing, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command that no change allows."""
    return dpp(changing, "change", "break-glass", "lab", "--reason", REASON, "--", *command)


def test_the_glass_can_be_broken_and_everybody_sees_it(observatory: Observatory, changing: Changing) -> None:
    changing.reviewed.git("checkout", "--quiet", "main")
    done = broken(changing, *own_command("up", "lab", "--yes", f"--only={UNITS[1]}"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no changes" in done.stdout
    trace = traces(observatory.folders)[-1]
    assert (trace.reason, trace.how) == (REASON, "it ended with exit code 0")
    assert trace.command[-4:] == ("up", "lab", "--yes", f"--only={UNITS[1]}")
    said = dpp(changing, "change", "list", "--json").stdout
    assert '"BROKEN GLASS"' in said
    assert trace.id in said


def test_playbooks_are_refused_without_a_permit_but_by_breaking_the_glass(observatory: Observatory, changing: Changing, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "--inventory=inventories/lab", "playbooks/kafka_broker.yml", f"--limit={HOST}"]  # fmt: skip
    variables = os.environ | {"DPP_SSH_CONFIG": str(observatory.folders.ssh_config), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": "ansible.cfg"}  # fmt: skip
    root = changing.reviewed.root
    done = subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "asks for an authorised change, and none is being applied to lab" in done.stdout
    for name in ("DPP_SSH_CONFIG", "ANSIBLE_NOCOLOR", "ANSIBLE_CONFIG"):
        monkeypatch.setenv(name, variables[name])
    done = broken(changing, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    trace = traces(observatory.folders)[-1]
    assert (trace.command, trace.how) == (tuple(command), "it ended with exit code 0")
