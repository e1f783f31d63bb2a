"""Every exposure has exactly one worker that waits for it, however workers are spread over processes."""

from __future__ import annotations

import pytest

from workloads.common.errors import NonRetriableError
from workloads.common.settings import Camera, science_raft
from workloads.common.slots import share, slots

CAMERA = Camera(detectors=science_raft(), visits_in_flight=2)


def test_each_detector_has_a_slot_per_visit_in_flight() -> None:
    found = slots(CAMERA)

    assert [slot.partition for slot in found] == list(range(18))
    assert len({(slot.detector.name, slot.lane) for slot in found}) == 18
    assert len({slot.name for slot in found}) == 18
    assert [slot.name for slot in slots(Camera())] == [detector.name for detector in science_raft()]


def test_shards_share_without_gap_or_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDS", "4")
    taken = []
    for shard in range(4):
        monkeypatch.setenv("SHARD", str(shard))
        taken += share(CAMERA)

    assert sorted(slot.partition for slot in taken) == list(range(18))


def test_one_process_takes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHARD", raising=False)
    monkeypatch.delenv("SHARDS", raising=False)

    assert share(CAMERA) == slots(CAMERA)


@pytest.mark.parametrize(("shard", "shards"), [("4", "4"), ("-1", "4"), ("", "4"), ("0", "0"), ("one", "4")])
def test_a_shard_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, shard: str, shards: str) -> None:
    monkeypatch.setenv("SHARD", shard)
    monkeypatch.setenv("SHARDS", shards)

    with pytest.raises(NonRetriableError, match=f"SHARD '{shard}' of SHARDS '{shards}'"):
        share(CAMERA)
