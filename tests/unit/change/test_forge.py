"""What is written to a forge: one comment, our labels, for the pull request that a run was about, and believed from it little."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dpp import cli
from dpp.adapters.forge import Forge
from dpp.cli import change_forge
from dpp.model.errors import FatalError, RetriableError, UsageError
from dpp.model.folders import REPOSITORY as HERE
from dpp.operations.change.findings import Affected, Dossier, Noun, Plan, Preview, Step, TextDifference
from dpp.operations.change.forge import comment, labels
from dpp.operations.change.forge.declared import Declared
from dpp.operations.change.plan import digest_of, with_digest
from dpp.operations.change.rules import Rules
from unit.change import forges
from unit.change.forge_server import TOKEN, WRITER
from unit.change.forges import Served

HEAD = "a" * 40
RULES = Rules.parse((HERE / "changes/rules.yml").read_text(), "changes/rules.yml")
DECLARED = Declared.read(HERE)
PAGE = "https://forge.example/runs/42"
SERVICE = """\
title: A Service
chapter: internal
owner: data-curation
tier: critical
status: planned
description: Something that others stand on, in as many words as a description is asked to have.
objectives: [{requirement: house, text: It is there.}]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with forges.served() as found:
        yield found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkout of main, as far as judging needs it."""
    root = tmp_path_factory.mktemp("main")
    shutil.copytree(HERE / "changes", root / "changes")
    (root / "services").mkdir()
    for name in ("data-backbone", "schema-registry", "monitoring"):
        (root / f"services/{name}.yml").write_text(SERVICE)
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    for words in (("init", "--quiet"), ("add", "--all"), (*who, "commit", "--quiet", "--message=Begin")):
        subprocess.run(["git", *words], cwd=root, check=True)
    return root


@pytest.fixture
def base(checkout: Path) -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def dossier(
    base: str, *, head: str = HEAD, services: tuple[str, ...] = ("data-backbone",), diff: str = "+a"
) -> Dossier:
    nouns = (Noun(kind="manifest", name="data-backbone", verb="changed", file="k8s/data-backbone/deployment.yaml"),)
    plan = Plan(
        environment="production",
        applied=False,
        previews=(Preview(stack="production.workloads", steps=(Step(verb="update", kind="dpp:clusters:Manifests", name="ncsa"),), source="the engine"),),
        differences=(TextDifference(kind="manifest", name="Deployment", places=("cluster ncsa",), diff=diff),),
        services=tuple(
            Affected(name=name, title="A", tier="operational", owner="nobody", direct=True, because="x") for name in services
        ),
    )  # fmt: skip
    made = with_digest(plan, {"production.workloads": [["update"]]})
    judged = made.model_copy(update={"judgement": RULES.judge(made, nouns)})
    return Dossier(
        base=base, head=head, compared_with="BASE", judged_by="itself", files=1, nouns=nouns, plans=(judged,), proofs=(),
        authors=("a@example.org",), digest=digest_of({"production": judged.digest}),
    )  # fmt: skip


@dataclass
class Desk:
    """A runner's desk: the commands as a workflow calls them, and the forge that they speak to."""

    server: Served
    folder: Path
    patch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]
    said: str = field(default="")

    def run(self, *words: str) -> int:
        self.patch.setattr(sys, "argv", ["dpp", "change", *words])
        code = cli.main()
        heard = self.capture.readouterr()
        self.said = heard.out + heard.err
        return code

    def event(self, **more: Any) -> None:
        file = forges.write_event(self.folder, forges.event(**{"head": HEAD, **more}))
        self.patch.setenv("GITHUB_EVENT_PATH", str(file))

    def leave(self, text: str, **files: bytes) -> None:
        self.server.put(artifacts=[forges.artifact({"dossier.json": text.encode(), **files})])

    def receive(self) -> int:
        return self.run("receive", "--folder", str(self.folder / "pages"))

    def publish(self) -> int:
        return self.run("publish", "--folder", str(self.folder / "pages"), "--page", PAGE)


@pytest.fixture
def desk(
    server: Served,
    checkout: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Desk:
    empty: dict[str, Any] = {"comments": [], "labels": [], "labels_of": {}, "artifacts": [], "said": [], "answers": []}
    server.put(pulls=[forges.pull(HEAD)], files={}, **empty)
    monkeypatch.setattr(change_forge, "REPOSITORY", checkout)
    for name, value in server.variables().items():
        monkeypatch.setenv(name, value)
    found = Desk(server, tmp_path, monkeypatch, capsys)
    found.event()
    return found


# -- the way of a dossier ------------------------------------------------------------------------------------------------


def test_one_comment_is_written_and_rewritten(desk: Desk, base: str) -> None:
    desk.leave(dossier(base).model_dump_json())
    assert (desk.receive(), desk.publish()) == (0, 0), desk.said
    [first] = desk.server.comments()
    assert first.startswith(comment.MARK)
    assert "| **services touched** | data-backbone (critical, data-curation) |" in first
    assert PAGE in first
    assert (desk.folder / "pages/dossier.html").read_text().startswith("<!DOCTYPE html>")

    desk.leave(dossier(base, services=("schema-registry",)).model_dump_json())
    assert (desk.receive(), desk.publish()) == (0, 0), desk.said
    [second] = desk.server.comments()
    assert "schema-registry" in second
    assert "data-backbone (" not in second

    desk.server.put(said=[])
    assert desk.publish() == 0
    assert [words for words in desk.server.state["said"] if not words.startswith("GET ")] == [], (
        "nothing was to be said"
    )


def test_a_comment_of_somebody_else_is_not_ours(desk: Desk, base: str) -> None:
    ours = [{"id": number, "issue": 7, "body": body, "user": {"login": who}, "html_url": "x"} for number, (who, body) in enumerate([
        ("somebody", f"{comment.MARK}\nRisk none, trust me."),
        *((WRITER, f"Something else {number}.") for number in range(150)),
    ], 1)]  # fmt: skip
    desk.server.put(comments=ours)
    desk.leave(dossier(base).model_dump_json())
    assert (desk.receive(), desk.publish(), desk.publish()) == (0, 0, 0), desk.said
    bodies = desk.server.comments()
    assert len(bodies) == 152
    assert bodies[0].endswith("trust me.")
    assert bodies[-1].startswith(comment.MARK)


def test_labels_are_ours_alone(desk: Desk, base: str) -> None:
    desk.server.put(
        labels=[{"name": "Service: data-backbone", "color": "ffffff", "description": None}],
        labels_of={"7": ["bug", "risk: high", "service: monitoring"]},
    )
    desk.leave(dossier(base).model_dump_json())
    assert (desk.receive(), desk.publish()) == (0, 0), desk.said
    state = desk.server.state
    assert sorted(state["labels_of"]["7"]) == ["bug", "risk: moderate", "service: data-backbone"]
    made = {label["name"]: label["color"] for label in state["labels"]}
    assert made == {
        "service: data-backbone": DECLARED.labels.service,
        "risk: moderate": DECLARED.labels.risk["moderate"],
    }


def test_a_label_that_another_job_made_meanwhile_is_taken(desk: Desk, base: str) -> None:
    again = {"about": "POST .*/labels", "status": 422, "message": "Validation Failed: already_exists"}
    desk.server.put(answers=[again])
    desk.leave(dossier(base).model_dump_json())
    assert (desk.receive(), desk.publish()) == (0, 0), desk.said
    assert "risk: moderate" in desk.server.state["labels_of"]["7"]


def test_a_run_that_failed_leaves_a_comment_that_says_so_and_no_label(desk: Desk, base: str) -> None:
    desk.leave(dossier(base).model_dump_json())
    assert (desk.receive(), desk.publish()) == (0, 0), desk.said
    desk.event(conclusion="failure")
    assert (desk.receive(), desk.publish()) == (0, 0), desk.said
    [only] = desk.server.comments()
    assert "There is no dossier" in only
    assert "https://forge.example/runs/41" in only
    assert desk.server.state["labels_of"]["7"] == []


@pytest.mark.parametrize(
    "pulls",
    [
        [],
        [forges.pull("c" * 40)],
        [forges.pull(HEAD, fork="other/dpp-ops")],
        [forges.pull(HEAD, fork="somebody/another")],
        [forges.pull(HEAD, branch="another")],
        [forges.pull(HEAD, base="release")],
        [forges.pull(HEAD) | {"state": "closed"}],
    ],
    ids=[
        "none",
        "moved on",
        "another fork",
        "another of the same owner",
        "another branch",
        "into another branch",
        "closed",
    ],
)
def test_only_the_pull_request_at_the_commit_of_the_run_is_written_to(desk: Desk, base: str, pulls: list[Any]) -> None:
    desk.leave(dossier(base).model_dump_json())
    desk.server.put(pulls=pulls)
    assert (desk.receive(), desk.publish()) == (0, 0), desk.said
    assert "nothing to say" in desk.said
    assert [words for words in desk.server.state["said"] if not words.startswith("GET ")] == []


def test_a_change_of_what_judges_is_named(desk: Desk, base: str) -> None:
    files = [{"filename": f"docs/{number}.md"} for number in range(120)]
    moved = {"filename": "elsewhere.py", "previous_filename": "src/dpp/operations/change/plan.py"}
    desk.server.put(files={"7": [*files, moved]})
    desk.leave(dossier(base).model_dump_json())
    assert (desk.receive(), desk.publish()) == (0, 0), desk.said
    [only] = desk.server.comments()
    assert "**Do not rely on this page alone:**" in only
    assert "src/dpp/operations/change/plan.py" in only


# -- what is believed ----------------------------------------------------------------------------------------------------


def test_risk_tier_and_owner_are_judged_here(desk: Desk, base: str) -> None:
    made = dossier(base)
    told = made.plans[0].judgement
    assert told is not None
    meek = told.model_copy(update={"risk": "none", "approvals": {}, "way_back": ("Trust me.",)})
    plan = made.plans[0].model_copy(update={"judgement": meek})
    desk.leave(made.model_copy(update={"plans": (plan,), "judged_by": "me"}).model_dump_json())
    assert desk.receive() == 0, desk.said
    kept = Dossier.model_validate_json((desk.folder / "pages/dossier.json").read_text())
    judgement = kept.plans[0].judgement
    assert judgement is not None
    assert judgement.risk == "moderate"
    assert judgement.approvals == {"service-owner": 1, "change-manager": 1}
    assert (kept.plans[0].services[0].tier, kept.plans[0].services[0].owner) == ("critical", "data-curation")
    assert kept.judged_by == f"changes/rules.yml of {base[:12]}"


def _other(**changes: Any) -> Any:
    return lambda made: made.model_copy(update=changes).model_dump_json()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (lambda _: "{", "a dossier as change-plan.schema.json says"),
        (lambda made: json.dumps(json.loads(made.model_dump_json()) | {"pull_request": 9}), "pull_request"),
        (_other(head="c" * 40), "which the run was about"),
        (_other(base="HEAD"), "compared with 'HEAD'; expected a commit of this branch"),
        (_other(base="c" * 40), "expected a commit of this branch"),
        (_other(digest="c" * 64), "expected that of its plans"),
        (
            lambda made: _other(plans=(made.plans[0].model_copy(update={"parts": {}}),))(made),
            "expected that of its parts",
        ),
    ],
    ids=["no JSON", "unknown key", "another commit", "no commit", "unknown commit", "digest", "parts"],
)
def test_what_is_no_dossier_of_that_commit_is_refused(desk: Desk, base: str, text: Any, said: str) -> None:
    desk.leave(dossier(base).model_dump_json())
    assert desk.receive() == 0
    desk.leave(text(dossier(base)))
    assert desk.receive() == 1
    assert said in desk.said
    assert desk.publish() == 0
    assert "There is no dossier" in desk.server.comments()[0], "that of an earlier run is not shown in its place"


def test_archives_are_read_with_care(desk: Desk, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.server.put(artifacts=[forges.artifact({"../../evil": b"x", "page.html": b"<script>"})])
    assert desk.receive() == 1
    assert "expected an archive with dossier.json" in desk.said
    desk.server.put(artifacts=[forges.artifact({"dossier.json": b"x"}) | {"content": "bm90aGluZw=="}])
    assert desk.receive() == 1
    assert "expected an archive with dossier.json" in desk.said
    desk.leave(dossier(base).model_dump_json())
    for name, words in (("_FILE_BYTES", "expected at most 64"), ("_ARCHIVE_BYTES", "more than 64 bytes")):
        with monkeypatch.context() as limited:
            limited.setattr(f"dpp.operations.change.forge.received.{name}", 64)
            assert desk.receive() == 1
            assert words in desk.said
    desk.server.put(artifacts=[forges.artifact({"dossier.json": b"{}"}) | {"expired": True}])
    assert desk.receive() == 1
    assert "0 artifacts dossier; expected one" in desk.said


def test_words_of_a_dossier_are_words(desk: Desk, base: str) -> None:
    evil = "</details> [look](https://evil.example) @lsst-dm/all <img src=x> | `x` #1\n# Approved"
    made = dossier(base, diff="+`````\n+# Approved\n+</details>", services=("data-backbone", evil))
    desk.leave(made.model_dump_json())
    assert (desk.receive(), desk.publish()) == (0, 0), desk.said
    [only] = desk.server.comments()
    assert "<img" not in only
    assert "](https://evil" not in only
    assert "@lsst-dm" not in only
    assert "\n# Approved" not in only
    assert "\n``````diff\n" in only, "a fence is longer than any in it"
    assert "service: data-backbone" in desk.server.state["labels_of"]["7"]
    assert not any("evil" in name for name in desk.server.state["labels_of"]["7"])
    assert "<img" not in (desk.folder / "pages/dossier.html").read_text()


def test_a_page_longer_than_a_forge_takes_is_cut(desk: Desk, base: str) -> None:
    made = dossier(base)
    line = "+" + 90 * "x"
    many = tuple(
        TextDifference(kind="manifest", name=f"Deployment {number}", places=("cluster ncsa",), diff="\n".join([line] * 100))
        for number in range(20)
    )  # fmt: skip
    plan = made.plans[0].model_copy(update={"differences": many})
    desk.leave(made.model_copy(update={"plans": (plan,)}).model_dump_json())
    assert (desk.receive(), desk.publish()) == (0, 0), desk.said
    [only] = desk.server.comments()
    assert 60_000 < len(only) <= comment.LIMIT
    assert "**This page is cut here:**" in only
    assert only.count("<details>") == only.count("</details>")
    assert "Deployment 19" in (desk.folder / "pages/dossier.html").read_text()


# -- the interface -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (500, {}, RetriableError),
        (429, {}, RetriableError),
        (403, {"Retry-After": "60"}, RetriableError),
        (403, {"X-RateLimit-Remaining": "0"}, RetriableError),
        (403, {}, FatalError),
        (404, {}, FatalError),
    ],
)
def test_whether_to_try_again_is_told(server: Served, status: int, headers: dict[str, str], error: type) -> None:
    server.put(answers=[{"about": "GET .*/labels", "status": status, "message": "No.", "headers": headers}])
    with pytest.raises(error, match=f"{status} No") as caught:
        Forge(server.url, forges.REPOSITORY, TOKEN).labels()
    assert type(caught.value) is error


def test_a_forge_that_is_away_may_be_asked_again() -> None:
    with forges.served() as gone:
        url = gone.url
    with pytest.raises(RetriableError, match="expected an answer"):
        Forge(url, forges.REPOSITORY, TOKEN).labels()


def test_a_token_is_not_sent_in_the_clear(desk: Desk) -> None:
    with pytest.raises(UsageError, match="https"):
        Forge("http://forge.example", forges.REPOSITORY, TOKEN)
    desk.patch.delenv("GITHUB_TOKEN")
    assert desk.receive() == 2
    assert "GITHUB_TOKEN: not set" in desk.said


def test_a_wrong_token_is_said(server: Served) -> None:
    with pytest.raises(FatalError, match="401 Bad credentials"):
        Forge(server.url, forges.REPOSITORY, "another").labels()


def test_an_event_of_something_else_is_refused(desk: Desk) -> None:
    forges.write_event(desk.folder, {"action": "opened", "issue": {}})
    assert desk.receive() == 2
    assert "expected that a run of a workflow has ended" in desk.said
    pushed = forges.event(HEAD)
    pushed["workflow_run"]["event"] = "push"
    forges.write_event(desk.folder, pushed)
    assert desk.receive() == 2
    assert "a run for 'push'" in desk.said


def test_every_risk_has_its_colour() -> None:
    assert set(DECLARED.labels.risk) == set(RULES.risks)
    assert labels.wanted(None, DECLARED.labels, {}) == ()
