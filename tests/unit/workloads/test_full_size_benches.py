"""Benches of full size run in their smallest, and what documents and production say of them follows from what they found."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import model, results
from bench.__main__ import FULL
from bench.harness import Values, against
from bench.model import Model
from dpp.model.environment import Environment


@pytest.mark.parametrize("name", FULL)
def test_every_bench_runs_in_its_smallest_size(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = importlib.import_module(f"bench.{name}").run(quick=True, threads=2)
    if not verdicts:
        pytest.skip(json.loads(capsys.readouterr().out.splitlines()[-1])["skipped"])
    assert {one.bench for one in verdicts} == {name}
    kept = results.read().get(name, {})
    assert {one.notes["what"] for one in verdicts if "what" in one.notes} <= set(kept["figures"]), "record it anew"
    assert all(one.ratio > 0 for one in verdicts)


def test_figures_are_kept_with_the_machine_and_what_is_to_be_taken_again(tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    verdict = against("report", "a night, s", Values(150.0), 300.0, alerts=10)
    results.keep("report", [verdict], "full", 0.1, file)
    results.keep("worker", [], "full", 0.1, file)
    results.keep("ingest", [verdict], "smoke", 0.1, file)
    kept = results.read(file)
    assert list(kept) == ["ingest", "report"]
    assert kept["report"]["figures"]["a night, s"]["median"] == 150.0
    assert kept["report"]["machine"] == results.machine()
    assert results.doubts(kept["report"]) == ""
    assert results.doubts(kept["ingest"]) == "smoke size"
    assert results.doubts({"size": "full", "load": 9.0, "machine": "a processor, 2 cores, 8 GiB"}) == "load 9"


@pytest.fixture(scope="module")
def made() -> Model:
    return Model(results.read(), Environment.load("production"))


def test_the_page_says_what_the_model_says(made: Model) -> None:
    assert model.PAGE.read_text() == model.written(model.PAGE, made.page()), "python -m tests.bench.model --write"


def test_production_declares_what_the_model_needs(made: Model) -> None:
    lacking = [
        f"{one.name}: {one.declared:g}, needed {one.needed:g} ({one.how})" for one in made.needs() if not one.met
    ]
    assert lacking == []


def test_production_has_one_partition_for_each_slot_and_no_more(made: Model) -> None:
    (ingested,) = [one for one in made.needs() if one.name == "partitions of ingested"]
    assert ingested.needed == ingested.declared


def test_the_sum_is_of_its_stages_and_a_lost_node_adds_what_it_costs(made: Model) -> None:
    stages, totals = made.stages(), made.totals()
    usual, most = totals["any visit"]
    assert usual == pytest.approx(sum(one.median for one in stages))
    assert all(0 < one.median <= one.most for one in stages)
    lost = totals["a node is lost at the end of the worker's part"]
    assert lost[1] > most + model.ASSUMED["missed"].value
    assert totals["the visit after"][1] < lost[1]


def test_a_figure_that_was_not_measured_is_asked_for() -> None:
    production: Any = SimpleNamespace()
    with pytest.raises(SystemExit, match="not measured; run"):
        assert Model({}, production).file_bytes
