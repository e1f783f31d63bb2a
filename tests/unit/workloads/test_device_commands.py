"""What a device does with the commands of its topic: none from before its start, none twice (DMS-REQ-0297)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from kafka_in_memory import Broker, Clock, Site
from workloads.archiver.device import Archiver, ArchiverConfiguration
from workloads.common import csc
from workloads.common.config import ConfigurationFolder
from workloads.common.consume import Loop, ToTopic, avro
from workloads.common.csc import COMMAND_SECONDS, Commands
from workloads.common.device import Ack, Device, SummaryState
from workloads.common.errors import AwayError
from workloads.common.serve import Health

TOPIC = "archiver-commands"
BEGUN = 5_000.0


class Values(BaseModel):
    pause: float = 1.0


class Sample(Device):
    """A device that only walks through its states."""

    def __init__(self, folder: ConfigurationFolder) -> None:
        super().__init__("archiver", self._take, folder)
        self.acks: list[tuple[int, str]] = []
        self.away = False

    def _take(self, event: str, content: Mapping[str, object]) -> None:
        if event != "ack":
            return
        if self.away and content["ack"] == Ack.COMPLETE:
            self.away = False
            raise AwayError("Kafka: away")
        self.acks.append((int(str(content["ack"])), str(content["result"])))

    def handle_summary_state(self) -> None:
        return


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    broker = Broker(Clock())
    broker.patch(monkeypatch)
    broker.clock.now = BEGUN
    monkeypatch.setattr(csc, "tai_now", broker.clock)
    return Site(tmp_path, broker, "archiver", "summit")


def device(tmp_path: Path) -> Sample:
    return Sample(ConfigurationFolder(tmp_path, "summit", Values))


def obeying(at: Site, made: Device) -> Loop:
    receiver = at.bus.receiver(TOPIC, TOPIC, start="earliest")
    aside = ToTopic(at.bus, receiver, at.bus.sender("set-aside"))
    return Loop(receiver, avro(at.bus, TOPIC), Commands(made).take, aside, clock=at.broker.clock)


def send(at: Site, name: str, sent: float) -> None:
    at.publish(TOPIC, at.record(TOPIC, command=name, private_sndStamp=sent))


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (BEGUN - 3600.0, "sent 3600.0 s before this device began"),
        (BEGUN - 0.1, "sent 0.1 s before this device began"),
        (0.0, "before this device began"),
        (math.nan, "before this device began"),
    ],
)
def test_a_command_from_before_the_start_is_refused_and_answered(
    at: Site, tmp_path: Path, sent: float, said: str
) -> None:
    send(at, "start", sent)
    send(at, "enable", sent)
    made = device(tmp_path)
    loop = obeying(at, made)
    loop.turn()
    loop.turn()
    assert made.state is SummaryState.STANDBY
    assert [ack for ack, _ in made.acks] == [Ack.FAILED, Ack.FAILED]
    assert all(said in result and "refused" in result for _, result in made.acks)
    assert at.broker.place(TOPIC, at.names[TOPIC]) == (2, "")


def test_a_command_that_waited_too_long_is_refused(at: Site, tmp_path: Path) -> None:
    made = device(tmp_path)
    loop = obeying(at, made)
    send(at, "start", BEGUN)
    at.broker.clock.now += COMMAND_SECONDS + 1.0
    loop.turn()
    assert made.state is SummaryState.STANDBY
    assert "sent 61.0 s ago, expected at most 60 s" in made.acks[0][1]


def test_a_command_since_the_start_is_carried_out(at: Site, tmp_path: Path) -> None:
    made = device(tmp_path)
    loop = obeying(at, made)
    at.broker.clock.now += 1.0
    for name in ("start", "enable"):
        send(at, name, at.broker.clock.now)
    loop.turn()
    loop.turn()
    assert made.state is SummaryState.ENABLED
    assert [ack for ack, _ in made.acks] == [Ack.ACK, Ack.COMPLETE] * 2


def test_a_command_whose_outcome_kafka_did_not_take_is_not_carried_out_again(at: Site, tmp_path: Path) -> None:
    made = device(tmp_path)
    loop = obeying(at, made)
    made.away = True
    send(at, "start", BEGUN)
    for _ in range(10):
        loop.turn()
    assert made.state is SummaryState.DISABLED
    assert made.acks[-1][0] == Ack.FAILED
    assert at.broker.place(TOPIC, at.names[TOPIC]) == (1, "")


def test_odd_commands_are_set_aside_and_the_device_goes_on(at: Site, tmp_path: Path) -> None:
    made = device(tmp_path)
    loop = obeying(at, made)
    for value in (b"hello", at.record("archiver-events"), b""):
        at.publish(TOPIC, value)
    send(at, "start", BEGUN)
    for _ in range(5):
        loop.turn()
    assert made.state is SummaryState.DISABLED
    assert len([one for one in at.broker.partitions[at.names["set-aside"], 0] if one]) == 3


@pytest.mark.parametrize("error", [None, AwayError("Kafka: away")])
def test_the_heartbeat_is_a_loop_like_others_whether_kafka_takes_it_or_not(error: AwayError | None) -> None:
    left, health = iter([False, False, True]), Health()

    def emit(*_: Any) -> None:
        if error:
            raise error

    csc._beat(SimpleNamespace(emit=emit), SimpleNamespace(wait=lambda _: next(left)), health)  # type: ignore[arg-type]
    assert list(health._beats) == ["heartbeat"]


# -- readouts -------------------------------------------------------------------------------------------------------------


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
    made = Archiver(lambda *_: None, folder, Journal(tmp_path / "journal"), camera, None)  # type: ignore[arg-type]
    receiver = at.bus.receiver("archiver", "readouts", start="earliest")
    aside = ToTopic(at.bus, receiver, at.bus.sender("set-aside"))
    return made, camera, Loop(receiver, avro(at.bus, "readouts"), made.take_over, aside, clock=at.broker.clock)


def readout(at: Site, number: int, **fields: Any) -> bytes:
    content = {
        "imageName": f"MC_O_20261122_{number:06}", "imageSource": "MC", "imageController": "O", "imageDate": "20261122",
        "imageNumber": number, "imageIndex": 1, "imagesInSequence": 1, "requestedExposureTime": 30.0,
        "timestampAcquisitionStart": 1.0, "timestampEndOfReadout": 2.0, "additionalKeys": "", "additionalValues": "",
    } | fields  # fmt: skip
    definition = at.codec._declared["readouts"].definition
    names = {one["name"] for one in definition["fields"]}
    sal = {name: value for name, value in at.codec.decode(TOPIC, at.record(TOPIC)).items() if name in names}
    return at.codec.encode("readouts", {name: (sal | content)[name] for name in names if name in sal | content})


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
