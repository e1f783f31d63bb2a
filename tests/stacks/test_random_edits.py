"""A hundred random edits, ten to a change: what the dossier says is what the engine does, contracts say, an API server answers.

They take minutes and belong to a proof. Each change has its seed, which is its name here: ``-k seed-1403`` makes one again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dpp.build.tools import tool
from dpp.model.environment import Environment
from dpp.model.principals import Principals
from dpp.operations.change.findings import Plan
from k8s.deployed import Server
from k8s.serving import serving
from stacks import agreement
from stacks.edits import ADDRESSES, TOPICS, drawn
from stacks.trials import STACKS, Refused, Stand, Trial

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * 3600)]
"""A test alone makes all changes that it is about, in minutes each on a busy machine; this only ends what hangs."""
FIRST, CHANGES, EDITS = 1401, 10, 10
SEEDS = range(FIRST, FIRST + CHANGES)
CLUSTERS = ("summit", "commissioning", "ncsa")
_COLOUR = re.compile(r"<\{%[^%]*%\}>")
_GROUND = ("Namespace ", "PriorityClass ")
"""What must be there before all else: its controller is not here to wait for."""
seeded = pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")


def test_tools_are_there() -> None:
    """A proof that skips everything proves nothing."""
    assert [name for name in ("kubernetes", "etcd", "pulumi") if not tool(name).built] == []


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Stand:
    """Return an environment that stands, of which every object is a file."""
    return Stand.make(tmp_path_factory.mktemp("stand"))


@pytest.fixture
def trial(stand: Stand, seed: int) -> Trial:
    return stand.trial(seed, EDITS)


@seeded
def test_the_engine_does_what_the_dossier_says(trial: Trial) -> None:
    assert trial.plan.errors == ()
    assert agreement.with_engine(trial.plan, trial.done) == []
    assert agreement.with_effects(trial.plan, trial.done) == []


@seeded
def test_rights_are_those_that_contracts_list(trial: Trial) -> None:
    present = Principals.load(Environment.load("lab")).present
    assert agreement.with_contracts(trial.plan, trial.base, trial.head, present) == []
    assert agreement.with_policies(trial.plan, trial.done) == []


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_an_api_server_sees_those_objects_differ(stand: Stand, tmp_path: Path, cluster: str) -> None:
    trials = {seed: stand.trial(seed, EDITS) for seed in SEEDS}
    standing = agreement.objects_of(trials[FIRST].done.before, cluster)
    with _holding(tmp_path, standing) as server:
        found = {seed: agreement.with_server(one.plan, one.done, cluster, server) for seed, one in trials.items()}
    assert {seed: told for seed, told in found.items() if told} == {}


def test_all_kinds_of_nouns_were_edited(stand: Stand) -> None:
    edits = [edit for seed in SEEDS for edit in stand.trial(seed, EDITS).edits]
    assert len(edits) == CHANGES * EDITS
    tops = {edit.file.partition("/")[0] for edit in edits}
    assert tops >= {"inventories", "services", "roles", "k8s", "workloads"}


def test_what_a_dossier_leaves_out_or_adds_is_seen(stand: Stand) -> None:
    """Each comparison fails where a dossier says less or more than is so."""
    trials = [stand.trial(seed, EDITS) for seed in SEEDS]
    trial = next(one for one in trials if one.plan.steps and one.plan.gained)
    preview = next(one for one in trial.plan.previews if one.steps)
    others = tuple(one for one in trial.plan.previews if one is not preview)
    less = trial.plan.model_copy(
        update={"previews": (*others, preview.model_copy(update={"steps": preview.steps[1:]}))}
    )
    assert f"{preview.steps[0].name}" in _said(agreement.with_engine(less, trial.done))
    dreamt = preview.steps[0].model_copy(update={"name": "dreamt"})
    more = trial.plan.model_copy(update={"previews": (*others, preview.model_copy(update={"steps": (dreamt,)}))})
    assert "dreamt" in _said(agreement.with_engine(more, trial.done))
    for effect in trial.plan.effects:
        if effect.verb == "converges":
            rest = tuple(one for one in trial.plan.effects if one is not effect)
            assert agreement.with_effects(trial.plan.model_copy(update={"effects": rest}), trial.done)
    present = Principals.load(Environment.load("lab")).present
    silent = Plan(environment="lab", applied=True)
    rights = agreement.with_contracts(silent, trial.base, trial.head, present)
    assert rights + agreement.with_policies(silent, trial.done)


def test_an_object_that_a_dossier_leaves_out_is_seen(stand: Stand, tmp_path: Path) -> None:
    trials = [stand.trial(seed, EDITS) for seed in SEEDS]
    trial = next(one for one in trials if any(one.places == ("cluster ncsa",) for one in one.plan.differences))
    left_out = next(one for one in trial.plan.differences if one.places == ("cluster ncsa",))
    rest = tuple(one for one in trial.plan.differences if one is not left_out)
    with _holding(tmp_path, agreement.objects_of(trial.done.before, "ncsa")) as server:
        told = agreement.with_server(trial.plan.model_copy(update={"differences": rest}), trial.done, "ncsa", server)
    assert told == [f"objects of ncsa: the dossier does not say {left_out.name}"]


def test_what_the_model_refuses_is_refused_by_both_sides_in_the_same_words(stand: Stand) -> None:
    stand.begin()
    for edit in drawn(FIRST, stand.reviewed.root, EDITS, (ADDRESSES, TOPICS)):
        if why := stand.refusal([edit]):
            stand.refused.append(Refused(edit, why))
    print(
        f"\n{len(stand.refused)} edits were refused:", *(f"{one.edit}: {one.why}" for one in stand.refused), sep="\n  "
    )
    assert stand.refused, "no edit was one that the model refuses: nothing tells that both sides refuse the same"
    by_noun = {one.edit.noun: one for one in stand.refused}
    for refused in by_noun.values():
        edit, problems = refused.edit, [_flat(line) for line in refused.why.splitlines() if "; expected " in line]
        assert problems, refused
        head = stand.commit([edit])
        [plan] = stand.dossier(head).plans
        said = [*plan.errors, *(error for preview in plan.previews for error in preview.errors)]
        assert said, f"the dossier does not refuse {edit}"
        assert not plan.steps, plan.steps
        for words in (_flat(_said(said)), _flat(_of_engine(stand))):
            assert [problem for problem in problems if problem not in words] == [], (edit, words[-3000:])


def _flat(text: str) -> str:
    return " ".join(text.split())


def _of_engine(stand: Stand) -> str:
    """Return all that the engine says of stacks whose programs end with an error."""
    done = [stand.engine(stack, "preview") for stack in STACKS]
    return "\n".join(f"{_told(one.stdout)}{one.stderr}" for one in done if one.returncode)


def _told(stream: str) -> str:
    """Return what the engine's events tell people, without the marks of colours."""
    events = [json.loads(line) for line in stream.splitlines() if line.startswith("{")]
    return _COLOUR.sub(
        "", "".join(event["diagnosticEvent"]["message"] for event in events if "diagnosticEvent" in event)
    )


def _said(lines: list[str]) -> str:
    return "\n".join(lines)


@contextmanager
def _holding(folder: Path, objects: dict[str, Any]) -> Iterator[Server]:
    """Run an API server that has the objects of a cluster, as an apply leaves them."""
    with serving(folder) as server:
        ground = {key: one for key, one in objects.items() if key.startswith(_GROUND)}
        done = server.apply(list(ground.values()))
        assert done.returncode == 0, done.stderr
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": "workloads"},
        }
        assert server.apply(account).returncode == 0
        done = server.apply(list(objects.values()))
        assert done.returncode == 0, done.stderr
        yield server
