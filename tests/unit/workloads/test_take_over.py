"""A readout is taken over when all of its pixels are journalled: until then the camera is asked again, over its own interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kafka_in_memory import Broker, Clock, Site
from sal_told import Told
from unit.workloads.test_archiver_readouts import Stored, readout
from unit.workloads.test_odd_headers import LAYOUT, PIXELS
from workloads.archiver.__main__ import _PATIENCE_SECONDS, owing, readouts_of
from workloads.archiver.device import Archiver, ArchiverConfiguration
from workloads.archiver.images import CameraClient, object_key
from workloads.archiver.journal import Journal
from workloads.camera.daq import ImageBuffer, serve
from workloads.camera.frames import Frame
from workloads.common.aside import Aside, Asides
from workloads.common.config import ConfigurationFolder
from workloads.common.consume import Loop, ToTopic, avro
from workloads.common.names import ExposureName
from workloads.sal.states import SummaryState

ONE, TWO = "R22_S10", "R22_S11"


class Memory(ImageBuffer):
    """A camera's memory that gives wrong bytes of some detectors, and may hang up before it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: set[str] = set()
        self.hangs_up = False
        self.asked = 0

    def describe(self, obs_id: str) -> dict[str, Any]:
        self.asked += 1
        if self.hangs_up:
            raise ConnectionAbortedError
        return super().describe(obs_id)

    def data(self, obs_id: str, detector: str) -> tuple[bytes, str] | None:
        found = super().data(obs_id, detector)
        return (found[0][:-1] + b"!", found[1]) if found and detector in self.broken else found


class Summit:
    """An archiver, its camera, and the observatory's readouts."""

    def __init__(self, at: Site, folder: Path) -> None:
        self.at, self.memory, self.beats = at, Memory(), 0
        self.told: Any = Told("MTArchiver")
        self.server = serve(self.memory, 0)
        self.port = self.server.server_address[1]
        self.journal, self.store = Journal(folder / "journal"), Stored()
        self.device = Archiver(
            self.told,  # type: ignore[arg-type]
            ConfigurationFolder(folder, "summit", ArchiverConfiguration),
            self.journal,
            CameraClient(f"http://127.0.0.1:{self.port}"),
            self.store,  # type: ignore[arg-type]
            beat=self._beat,
        )
        self.device._configuration = ArchiverConfiguration(retry_seconds=0.0, fetch_attempts=2, parallel_detectors=1)
        self.start()

    def start(self) -> None:
        """Begin, as a new process."""
        at, receiver = self.at, readouts_of(self.at.bus)
        aside = owing(self.device, ToTopic(at.bus, receiver, at.bus.sender("set-aside")))
        self.loop = Loop(
            receiver, avro(at.bus, "readouts"), self.device.take_over, aside, patience=_PATIENCE_SECONDS, clock=at.broker.clock
        )  # fmt: skip

    def enter(self, state: SummaryState) -> None:
        self.device._enter(self.device.state, state)
        self.device.handle_summary_state()

    def _beat(self) -> None:
        self.beats += 1

    @property
    def events(self) -> list[tuple[str, str, int]]:
        """Number, detector and status of each that was reported."""
        told = self.told.of("imageRetrievalForArchiving")
        return [(one["obsid"][-1], f"{one['raft']}_{one['sensor']}", one["statusCode"]) for one in told]

    def read_out(self, number: int, *detectors: str, named: str = f"{ONE},{TWO}") -> None:
        for detector in detectors:
            frame = Frame(detector, PIXELS, LAYOUT, {"DETNUM": (94, "")})
            self.memory.store(f"MC_O_20261122_{number:06}", frame)
        more = {"additionalKeys": "groupId:sensors", "additionalValues": f"g{number}:{named}"}
        self.at.publish("readouts", readout(self.at, number, **more))

    def run(self, seconds: float, *, hold: Callable[[], bool] = lambda: False) -> None:
        end = self.at.broker.clock.now + seconds
        while self.at.broker.clock.now < end:
            self.loop.turn(hold=hold())

    @property
    def committed(self) -> int:
        place = self.at.broker.place("archiver", self.at.names["readouts"])
        return place[0] if place else 0

    def holds(self, number: int, detector: str) -> bool:
        return self.journal.holds(object_key(ExposureName(20261122, number, "O"), detector))

    def left(self) -> list[str]:
        return [name.rpartition("00000")[2] for name in self.memory.wait_empty(0.0)]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Site]:
    broker = Broker(Clock())
    broker.patch(monkeypatch)
    return lambda principal: Site(tmp_path, broker, principal, "summit")


@pytest.fixture
def summit(site: Callable[[str], Site], tmp_path: Path) -> Iterator[Summit]:
    made = Summit(site("archiver"), tmp_path)
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def listed(site: Callable[[str], Site]) -> Callable[[], list[Aside]]:
    return lambda: Asides(site("health").bus, "health-1").open()


def test_a_readout_is_committed_when_all_of_its_pixels_are_journalled(summit: Summit, listed: Any) -> None:
    summit.memory.broken.add(TWO)
    summit.read_out(1, ONE, TWO)
    summit.run(_PATIENCE_SECONDS / 2)
    assert (summit.committed, summit.holds(1, ONE), summit.holds(1, TWO)) == (0, True, False)
    assert summit.left() == [f"1_{TWO}"], "the camera keeps what is safe nowhere else"
    assert summit.events == [("1", ONE, 0)], "told once, however often the readout is tried; nothing is lost"
    summit.memory.broken.clear()
    summit.run(60.0)
    assert (summit.committed, summit.holds(1, TWO), summit.left(), listed()) == (1, True, [], [])
    assert summit.events == [("1", ONE, 0), ("1", TWO, 0)]


@pytest.mark.parametrize("listens", [True, False])
def test_a_camera_that_goes_away_is_asked_again_for_as_long_as_that_takes(
    summit: Summit, listed: Any, listens: bool
) -> None:
    summit.memory.broken.add(TWO)
    summit.read_out(1, ONE, TWO)
    summit.run(5.0)
    summit.memory.broken.clear()
    summit.memory.hangs_up, there = True, summit.device._camera
    if not listens:
        summit.device._camera = CameraClient("http://127.0.0.1:9")
    summit.run(5 * _PATIENCE_SECONDS)
    assert (summit.committed, summit.holds(1, TWO), listed()) == (0, False, [])
    summit.memory.hangs_up, summit.device._camera = False, there
    summit.run(60.0)
    assert (summit.committed, summit.holds(1, TWO), summit.left()) == (1, True, [])


def test_what_the_camera_never_hands_out_is_owed_and_those_behind_it_have_their_turn(
    summit: Summit, listed: Any
) -> None:
    summit.memory.broken.add(TWO)
    summit.read_out(1, ONE, TWO)
    summit.read_out(2, ONE, named=ONE)
    summit.run(2 * _PATIENCE_SECONDS)
    assert summit.committed == 2
    assert summit.events[1:] == [("1", TWO, 2), ("2", ONE, 0)], "what is set aside is named"
    (aside,) = listed()
    assert f"MC_O_20261122_000001_{TWO}: pixels arrived with digest" in aside.reason
    assert summit.left() == [f"1_{TWO}"]
    summit.memory.broken.clear()
    health = Asides(Site(summit.journal._pending.parents[1], summit.at.broker, "health", "summit").bus, "health-1")
    health.give_back([aside])
    summit.run(60.0)
    assert (summit.holds(1, TWO), summit.left(), listed()) == (True, [], [])


@pytest.mark.parametrize("there", [[ONE], []])
def test_what_the_camera_has_no_longer_is_lost_and_asked_for_no_more(
    summit: Summit, listed: Any, there: list[str]
) -> None:
    summit.read_out(1, *there)
    summit.run(10.0)
    assert summit.committed == 1
    assert sorted(summit.events) == sorted(("1", detector, 0 if detector in there else 1) for detector in (ONE, TWO))
    assert listed() == []


def test_what_was_read_out_before_the_first_start_of_all_is_fetched(summit: Summit, listed: Any) -> None:
    summit.at.broker.partitions[summit.at.names["readouts"], 0].clear()
    for number in (1, 2):
        summit.read_out(number, ONE, TWO)
    summit.start()
    summit.run(10.0)
    assert (summit.committed, summit.left(), listed()) == (2, [], [])
    assert summit.events == [(str(number), detector, 0) for number in (1, 2) for detector in (ONE, TWO)]


def test_nights_of_old_cost_one_question_each_and_are_no_loss(summit: Summit) -> None:
    for number in range(1, 4):
        exposure = ExposureName(20261122, number, "O")
        summit.store.keys |= {exposure.expected_sensors_key, *(object_key(exposure, one) for one in (ONE, TWO))}
        summit.read_out(number)
    summit.read_out(4, ONE, TWO)
    summit.run(10.0)
    assert summit.committed == 4
    assert summit.events == [("4", ONE, 0), ("4", TWO, 0)], "what the store has is not lost, whatever the camera has"
    assert summit.memory.asked == 3 + 2
    assert {entry.obs_id[-1] for entry, _ in summit.journal.pending()} == {"4"}


def test_a_group_whose_place_is_lost_takes_over_what_it_missed_and_loses_nothing_twice(
    summit: Summit, listed: Any
) -> None:
    summit.read_out(1, ONE, TWO)
    summit.run(5.0)
    summit.store.keys |= {entry.key for entry, _ in summit.journal.pending() if entry.detector != TWO}
    summit.read_out(2, ONE, TWO)
    summit.at.broker.offsets.clear()
    summit.start()
    summit.run(10.0)
    assert summit.holds(2, TWO)
    assert (summit.committed, summit.left(), listed()) == (2, [], [])
    assert {status for *_, status in summit.events} == {0}


@pytest.mark.parametrize("away", [True, False])
def test_of_an_image_that_is_gone_what_nobody_has_is_told_once_and_for_one_question(
    summit: Summit, listed: Any, away: bool
) -> None:
    exposure = ExposureName(20261122, 1, "O")
    summit.store.keys |= {exposure.expected_sensors_key, object_key(exposure, ONE)}
    summit.store.away = away
    summit.read_out(1)
    summit.run(10.0)
    lost = [("1", ONE, 1), ("1", TWO, 1)] if away else [("1", TWO, 1)]
    assert (summit.committed, sorted(summit.events), listed()) == (1, lost, [])
    assert summit.memory.asked == (2 if away else 1)


@pytest.mark.parametrize("state", [SummaryState.FAULT, SummaryState.DISABLED, SummaryState.STANDBY])
def test_what_was_read_out_meanwhile_is_taken_over_after_recovery(summit: Summit, state: SummaryState) -> None:
    def holds() -> bool:
        return not summit.device.takes_over

    summit.enter(SummaryState.ENABLED)
    summit.read_out(1, ONE, TWO)
    summit.run(5.0, hold=holds)
    summit.enter(state)
    summit.read_out(2, ONE, TWO)
    summit.run(600.0, hold=holds)
    assert (summit.committed, summit.holds(2, ONE)) == (1, False)
    summit.enter(SummaryState.ENABLED)
    summit.run(5.0, hold=holds)
    assert (summit.committed, summit.holds(2, ONE), summit.left()) == (2, True, [])


@pytest.mark.parametrize("group", ["2026-11-22T03:04:05.1#1", "2026-11-22T03:04#2", "a:b:c", ":"])
def test_colons_in_a_group_cost_no_pixels_and_the_next_readout_is_taken_over(
    summit: Summit, listed: Any, group: str
) -> None:
    for detector in (ONE, TWO):
        summit.memory.store("MC_O_20261122_000001", Frame(detector, PIXELS, LAYOUT, {"DETNUM": (94, "")}))
    more = {"additionalKeys": "groupId:sensors", "additionalValues": f"{group}:{ONE},{TWO}"}
    summit.at.publish("readouts", readout(summit.at, 1, **more))
    summit.read_out(2, ONE, TWO)
    summit.run(10.0)
    assert (summit.committed, summit.left(), listed()) == (2, [], [])
    assert sorted(summit.events) == [(number, detector, 0) for number in "12" for detector in (ONE, TWO)]


def test_a_take_over_says_with_each_detector_that_it_goes_on(summit: Summit) -> None:
    summit.read_out(1, ONE, TWO)
    summit.run(2.0)
    assert summit.beats == 2


@pytest.mark.parametrize("name", ["R22 S11", "../../x", "R22/S11?a#b", "\N{GREEK SMALL LETTER ETA}", "x" * 300])
def test_whatever_the_camera_calls_a_sensor_its_file_has_a_name(name: str) -> None:
    key = object_key(ExposureName(20261122, 1, "O"), name)
    assert key.count("/") == 3
    assert key.isascii()
    assert len(key.rpartition("/")[2]) < 200
    assert object_key(ExposureName(20261122, 1, "O"), TWO).endswith(f"_{TWO}.fits")
