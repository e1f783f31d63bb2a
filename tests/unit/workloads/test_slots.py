"""Every exposure has exactly one slot, and there are workers enough, however they are spread over processes."""

from __future__ import annotations

import pytest

from workloads.common.errors import NonRetriableError
from workloads.common.settings import Camera, science_raft
from workloads.common.slots import slots, workers

CAMERA = Camera(detectors=science_raft(), visits_in_flight=2, spare_workers=4)


def test_each_detector_has_a_slot_per_visit_in_flight() -> None:
    found = slots(CAMERA)

    assert [slot.partition for slot in found] == list(range(18))
    assert len({(slot.detector.name, slot.lane) for slot in found}) == 18
    assert len({slot.name for slot in found}) == 18
    assert [slot.name for slot in slots(Camera())] == [detector.name for detector in science_raft()]


def test_one_process_has_a_worker_for_each_slot_and_all_spare_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKERS", raising=False)

    assert workers(CAMERA) == 18 + 4


def test_a_pod_of_many_has_as_many_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKERS", "12")

    assert workers(CAMERA) == 12


@pytest.mark.parametrize("number", ["0", "-1", "twelve", "1.5"])
def test_what_is_no_number_of_workers_is_refused(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    monkeypatch.setenv("WORKERS", number)

    with pytest.raises(NonRetriableError, match=f"WORKERS '{number}': expected a number above 0"):
        workers(CAMERA)
