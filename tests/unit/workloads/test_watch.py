"""Alert distribution's count of a visit's alerts, from messages that are already decoded."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from workloads.alert_distribution import watch as module
from workloads.alert_distribution.watch import ALERTS, Watch
from workloads.common.ledger import TOPIC, Step

OBS, VISIT = "MC_S_20261122_000001", 2026112200001


class Recorder:
    """A ledger that keeps its stamps."""

    def __init__(self) -> None:
        self.stamps: list[tuple[str, str, str, str]] = []

    def stamp(self, step: Step, subject: Any, *, reason: str = "", **_: Any) -> None:
        self.stamps.append((str(step), subject.obs_id, subject.detector, reason))


@pytest.fixture
def watch() -> Watch:
    return Watch(SimpleNamespace(codec=SimpleNamespace(decode=lambda value: value)), Recorder(), {90: "R22_S00"})


def alert() -> Any:
    record = {"diaSource": {"visit": VISIT, "detector": 90}}
    return SimpleNamespace(role=ALERTS, partition=0, offset=0, value=_Record(record))


def processed(alerts: int, obs_id: str = OBS) -> Any:
    figures = {"alerts": float(alerts), "latency_s": 9.0}
    record = {
        "step": "processed",
        "obsId": obs_id,
        "detector": "R22_S00",
        "groupId": "g",
        "time": 1.0,
        "figures": figures,
    }
    return SimpleNamespace(role=TOPIC, partition=0, offset=0, value=_Record(record))


class _Record(dict[str, Any]):
    """A record in place of its bytes."""


def test_a_detector_is_alerted_when_all_its_alerts_are_in_the_stream(watch: Watch) -> None:
    watch.take(alert())
    watch.take(processed(2))
    assert not watch.idle
    watch.take(alert())
    assert watch.idle
    assert watch._ledger.stamps == [("alerted", OBS, "R22_S00", "")]


def test_alerts_that_do_not_all_come_are_named_once(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    watch.take(processed(2))
    watch.take(alert())
    watch.name_short()
    assert not watch.idle
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + module.SHORT_SECONDS + 1.0)
    for _ in range(2):
        watch.name_short()
    assert watch.idle
    ((step, obs_id, detector, reason),) = watch._ledger.stamps
    assert (step, obs_id, detector) == ("late", OBS, "R22_S00")
    assert reason.startswith("1 of 2 of its alerts are in the stream")


@pytest.mark.parametrize("controller", ["O", "C", "S", "P"])
def test_whatever_triggered_an_exposure_its_alerts_are_its_own(watch: Watch, controller: str) -> None:
    obs_id = OBS.replace("_S_", f"_{controller}_")
    watch.take(alert())
    watch.take(processed(1, obs_id))
    assert watch.idle
    assert watch._ledger.stamps == [("alerted", obs_id, "R22_S00", "")]


def test_a_stamp_of_another_camera_is_no_reason_to_stop(watch: Watch) -> None:
    watch.take(processed(1, "AT_O_20261122_000001"))
    assert watch.idle


def test_alerts_without_a_word_from_the_ledger_are_named_by_their_exposure(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch.take(alert())
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + module.SHORT_SECONDS + 1.0)
    watch.name_short()
    assert [stamp[:3] for stamp in watch._ledger.stamps] == [("late", str(VISIT), "R22_S00")]
