"""What the archiver does with readouts: odd ones are set aside, a camera that is away is waited for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kafka_in_memory import Broker, Clock, Site
from sal_told import Told
from workloads.archiver.__main__ import readouts_of
from workloads.archiver.device import BUCKET, Archiver, ArchiverConfiguration
from workloads.common.config import ConfigurationFolder
from workloads.common.consume import Loop, ToTopic, avro
from workloads.common.errors import AwayError
from workloads.common.s3 import Item
from workloads.sal.states import SummaryState


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    broker = Broker(Clock())
    broker.patch(monkeypatch)
    return Site(tmp_path, broker, "archiver", "summit")


class Stored:
    """A store that has what it is told to have, and may be away."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.away = False

    def list(self, bucket: str, prefix: str) -> Iterator[Item]:
        assert bucket == BUCKET
        if self.away:
            raise AwayError("store: away")
        return (Item(key, 1, 0.0) for key in sorted(self.keys) if key.startswith(prefix))


class Camera:
    """A camera that has nothing, and may be away."""

    def __init__(self) -> None:
        self.away = False

    def describe(self, _: str) -> dict[str, Any]:
        if self.away:
            raise AwayError("camera: away")
        return {}


@pytest.fixture
def archiver(at: Site, tmp_path: Path) -> tuple[Archiver, Camera, Loop]:
    from workloads.archiver.journal import Journal

    camera = Camera()
    folder = ConfigurationFolder(tmp_path, "summit", ArchiverConfiguration)
    told: Any = Told("MTArchiver")
    made = Archiver(told, folder, Journal(tmp_path / "journal"), camera, Stored())  # type: ignore[arg-type]
    receiver = readouts_of(at.bus)
    aside = ToTopic(at.bus, receiver, at.bus.sender("set-aside"))
    return made, camera, Loop(receiver, avro(at.bus, "readouts"), made.take_over, aside, clock=at.broker.clock)


def readout(at: Site, number: int, **fields: Any) -> bytes:
    return at.record("readouts", **{"imageName": f"MC_O_20261122_{number:06}"} | fields)


def test_odd_readouts_are_set_aside_and_the_device_stays_enabled(
    at: Site, archiver: tuple[Archiver, Camera, Loop]
) -> None:
    made, _, loop = archiver
    for value in (b"hello", readout(at, 1), readout(at, 2, imageName="no name of an image")):
        at.publish("readouts", value)
    for _ in range(10):
        loop.turn()
    asides = [one for one in at.broker.partitions[at.names["set-aside"], 0] if one]
    reasons = [at.codec.decode("set-aside", one.value)["reason"] for one in asides if one.value]
    assert [reason.split(":")[0] for reason in reasons] == [
        "message of 5 bytes", "MC_O_20261122_000001", "no name of an image"
    ]  # fmt: skip
    assert made.state is not SummaryState.FAULT
    assert at.broker.place("archiver", at.names["readouts"]) == (3, "")


@pytest.mark.parametrize("number", [100_000, 100_001, 999_999])
def test_a_readout_beyond_the_last_number_of_a_day_is_set_aside_with_the_limit(
    at: Site, archiver: tuple[Archiver, Camera, Loop], number: int
) -> None:
    made, _, loop = archiver
    at.publish("readouts", readout(at, number))
    for _ in range(10):
        loop.turn()
    (aside,) = [one for one in at.broker.partitions[at.names["set-aside"], 0] if one]
    assert aside.value is not None
    reason = at.codec.decode("set-aside", aside.value)["reason"]
    assert f"sequence number {number} of 20261122: expected at most 99999" in reason
    assert made.state is not SummaryState.FAULT
    assert at.broker.place("archiver", at.names["readouts"]) == (1, "")


def test_a_camera_that_is_away_is_waited_for(at: Site, archiver: tuple[Archiver, Camera, Loop]) -> None:
    _, camera, loop = archiver
    camera.away = True
    at.publish("readouts", readout(at, 1))
    end = at.broker.clock.now + 7200.0
    while at.broker.clock.now < end:
        loop.turn()
    place = at.broker.place("archiver", at.names["readouts"])
    assert place is not None
    assert place[0] == 0
    assert not [one for one in at.broker.partitions[at.names["set-aside"], 0] if one]
