"""The ledger's database: each stamp once whatever is repeated or broken off, one partition a night, any span in one query."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from integration.miniature import Miniature, bare
from workloads.common.errors import NonRetriableError
from workloads.common.settings import Settings
from workloads.visit_ledger.questions import Questions
from workloads.visit_ledger.tables import Stamp, Stamps

TOPIC = "own-0"


@pytest.fixture(scope="module")
def miniature() -> Iterator[Miniature]:
    with bare("ledger", "versitygw") as made:
        made.start_database()
        yield made


@pytest.fixture
def settings(miniature: Miniature) -> Settings:
    return miniature.told("visit-ledger", "ncsa")


@pytest.fixture
def stamps(miniature: Miniature, settings: Settings) -> Stamps:
    made = Stamps(settings)
    clear = "WITH stamps AS (DELETE FROM stamps), progress AS (DELETE FROM progress) SELECT 1"
    miniature.sql("visit-ledger", "ledger", clear)
    return made


def stamp(offset: int, step: str, obs_id: str = "MC_O_20261122_000001", **more: Any) -> Stamp:
    record = {
        "obsId": obs_id, "groupId": "2026-11-22T20:00:00.000#1", "detector": "R22_S11", "step": step, "time": 1.795e9 + offset,
        "service": "test", "site": "ncsa", "reason": "", "figures": {"alerts": 3.0},
    }  # fmt: skip
    return Stamp.of(TOPIC, offset, record | more)


def count(miniature: Miniature) -> int:
    return int(miniature.sql("visit-ledger", "ledger", "SELECT count(*) FROM stamps")[0][0])


def test_what_comes_again_is_there_once(miniature: Miniature, stamps: Stamps) -> None:
    batch = [stamp(offset, "arrived") for offset in range(5)]
    assert stamps.add(batch) == 5
    assert stamps.add([*batch[3:], stamp(7, "ingested")]) == 1  # offsets of a topic have gaps where transactions end
    assert stamps.add(batch) == 0
    assert count(miniature) == 6
    assert stamps.mark(TOPIC) == 8


def test_a_topic_that_was_made_anew_begins_again(miniature: Miniature, stamps: Stamps) -> None:
    stamps.add([stamp(offset, "arrived") for offset in range(5)])
    other = [Stamp(**{**stamp(0, "lost").__dict__, "topic": "other-0"})]
    assert stamps.add(other) == 1
    assert (stamps.mark(TOPIC), stamps.mark("other-0"), stamps.mark("none-0")) == (5, 1, 0)
    assert count(miniature) == 6


@pytest.mark.parametrize("time", [float("inf"), float("-inf"), float("nan"), 1e308])
def test_a_stamp_without_a_time_is_none(time: float) -> None:
    with pytest.raises(NonRetriableError, match="expected TAI seconds"):
        stamp(0, "arrived", obs_id="", time=time)


def test_what_a_database_cannot_hold_is_left_out(miniature: Miniature, stamps: Stamps) -> None:
    figures = {"alerts": 3.0, "ratio": float("nan"), "rate": float("inf"), "\0": 1.0}
    stamps.add([stamp(0, "failed", reason="a\0b", figures=figures)])
    query = "SELECT reason, figures FROM stamps"
    assert miniature.sql("visit-ledger", "ledger", query) == [("ab", {"alerts": 3.0, "": 1.0})]


def test_a_batch_with_one_bad_row_leaves_nothing_of_itself(miniature: Miniature, stamps: Stamps) -> None:
    with pytest.raises(Exception, match="invalid input syntax for type json"):
        stamps.add([stamp(0, "arrived"), Stamp(**{**stamp(1, "arrived").__dict__, "figures": "{"})])
    assert (count(miniature), stamps.mark(TOPIC)) == (0, 0)


def test_stamps_lie_in_the_partition_of_their_exposure_whenever_they_were_written(
    miniature: Miniature, stamps: Stamps
) -> None:
    late = stamp(1, "lost", "MC_O_20261120_000003", time=1.8e9)
    stamps.add([stamp(0, "arrived"), late, stamp(2, "announced", obs_id="", detector="")])
    tables = miniature.sql(
        "visit-ledger", "ledger", "SELECT tableoid::regclass::text, step FROM stamps ORDER BY kafka_offset"
    )
    assert tables == [("stamps_20261122", "arrived"), ("stamps_20261120", "lost"), ("stamps_20261117", "announced")]


def test_any_span_is_one_query(stamps: Stamps, miniature: Miniature) -> None:
    fates = {
        "MC_O_20261122_000001": ("expected", "arrived", "ingested", "processed", "alerted", "archived"),
        "MC_O_20261122_000002": ("expected", "lost"),
        "MC_O_20261123_000001": ("expected", "arrived", "quarantined"),
        "MC_O_20261123_000002": ("expected", "arrived", "failed"),
        "MC_O_20261123_000003": ("expected",),
    }
    steps = [(obs_id, step) for obs_id, own in fates.items() for step in own]
    stamps.add([stamp(offset, step, obs_id, reason="why" if step == "failed" else "") for offset, (obs_id, step) in enumerate(steps)])  # fmt: skip
    questions = Questions(miniature.told("operator", "ncsa"))
    first, second, both = questions.nights(20261101, 20261130)
    assert (first["night"], first["images"], first["lost"], first["loss_rate"]) == (20261122, 2, 1, 0.5)
    assert (second["night"], second["quarantined"], second["failed"], second["unanswered"]) == (20261123, 1, 1, 1)
    assert (both["night"], both["images"], both["loss_rate"]) == (None, 5, 0.2)
    (nothing,) = questions.nights(20261124, 20261130)
    assert nothing.pop("night") is None
    assert set(nothing.values()) == {0}, "no night is no dash"
    owed = {row["obs_id"]: row["reasons"] for row in questions.owed(20261122, 20261123)}
    assert owed == dict.fromkeys(list(fates)[1:]) | {"MC_O_20261123_000002": "why"}
    assert [row["step"] for row in questions.exposure("MC_O_20261122_000001")] == list(fates["MC_O_20261122_000001"])
    with pytest.raises(NonRetriableError, match="not in the ledger"):
        questions.exposure("MC_O_20261122_000009")
