"""Detectors that are off: declared so, or not among what the camera read out. Named once, waited for never."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from astropy.io.fits import Header

from unit.workloads.test_odd_headers import DETECTOR
from unit.workloads.test_odd_headers import Camera as Memory
from unit.workloads.test_odd_headers import event as read_out
from workloads.archiver.images import journal_expected
from workloads.archiver.journal import Journal
from workloads.common.names import ExposureName, RawName
from workloads.common.settings import Camera
from workloads.common.slots import slots
from workloads.common.visit import EndReadout, join_colons
from workloads.data_backbone.arrivals import Arrival
from workloads.data_backbone.backbone import Backbone
from workloads.data_backbone.keeper import Keeper
from workloads.data_backbone.writer import Verified
from workloads.report import figures
from workloads.report.facts import Facts

ALL = [detector.name for detector in Camera().detectors]
DAY = 20261122


class Stamps:
    """A ledger in memory."""

    def __init__(self):
        self.rows = []

    def stamp(self, step, subject, *, reason="", **_):
        self.rows.append((str(step), subject.obs_id, subject.detector, reason))

    def of(self, step):
        return [row[1:] for row in self.rows if row[0] == step]


def readout(number, sensors, day=DAY):
    return EndReadout(
        imageName=ExposureName(day, number).obs_id, imageDate=str(day), imageNumber=number, requestedExposureTime=30.0,
        timestampAcquisitionStart=968.0, timestampEndOfReadout=1000.0 + number,
        additionalKeys=join_colons(["groupId", "sensors"]), additionalValues=join_colons([f"g{number}", ",".join(sensors)]),
    ).model_dump()  # fmt: skip


def missing(number, detector, day=DAY):
    raft, _, sensor = detector.partition("_")
    return {"obsid": ExposureName(day, number).obs_id, "raft": raft, "sensor": sensor, "statusCode": 1,
               "description": "the camera has no such image", "groupId": ""}  # fmt: skip


def night(keeper, sensors, visits=3, day=DAY):
    for number in range(1, visits + 1):
        keeper.end_readout(readout(number, sensors, day))
        for detector in set(sensors) - set(keeper._camera.detectors_off):
            keeper.arrived(ExposureName(day, number).obs_id, detector)
        keeper.check(now=9_000.0 + number)


@pytest.mark.parametrize("named_by_the_camera", [True, False])
def test_a_detector_that_is_declared_off_is_named_once_and_neither_expected_late_nor_lost(named_by_the_camera):
    ledger = Stamps()
    keeper = Keeper(ledger, Camera(detectors_off=["R22_S11"]))
    sensors = [name for name in ALL if named_by_the_camera or name != "R22_S11"]
    night(keeper, sensors)
    keeper.retrieved(missing(1, "R22_S11"))
    assert ledger.of("off") == [("MC_S_20261122_000001", "R22_S11", "declared off")]
    assert len(ledger.of("expected")) == 3 * 8
    assert ledger.of("late") == ledger.of("lost") == []


@pytest.mark.parametrize("off", [ALL[:1], ALL[3:5], ALL[1:]])
def test_any_detectors_may_be_declared_off(off: list[str]) -> None:
    ledger = Stamps()
    night(Keeper(ledger, Camera(detectors_off=off)), ALL)
    assert [(row[1], row[2]) for row in ledger.of("off")] == [(name, "declared off") for name in off]
    assert len(ledger.of("expected")) == 3 * (len(ALL) - len(off))
    assert ledger.of("late") == ledger.of("lost") == []


def test_a_raft_that_the_camera_leaves_out_is_named_once_a_day():
    ledger = Stamps()
    keeper = Keeper(ledger, Camera())
    night(keeper, ALL[:6])
    assert [row[1] for row in ledger.of("off")] == ALL[6:]
    assert {row[2] for row in ledger.of("off")} == {"not among the sensors that the camera read out"}
    assert ledger.of("late") == []
    night(keeper, ALL, day=DAY + 1)
    assert len(ledger.of("off")) == 3, "back again"
    night(keeper, ALL[:8], day=DAY + 2)
    assert ledger.of("off")[3:] == [("MC_S_20261124_000001", ALL[8], "not among the sensors that the camera read out")]


def test_an_event_without_sensors_says_nothing_about_what_is_off():
    ledger = Stamps()
    Keeper(ledger, Camera()).end_readout(readout(1, []))
    assert ledger.of("off") == []


def test_the_archiver_asks_for_nothing_of_a_detector_that_is_off(tmp_path):
    camera = Memory({}, [DETECTOR])
    camera.off = {"R22_S12"}
    named = read_out(additionalValues=f"g1:{DETECTOR},R22_S12,R22_S20")
    journal = Journal(tmp_path)
    assert journal_expected(journal, camera, named) == [DETECTOR, "R22_S20"], (
        "S20 is missing, and nobody said that it is off"
    )
    ((_, content),) = journal.pending()
    assert set(json.loads(content)["expectedSensors"]) == {DETECTOR, "R22_S20"}


@pytest.mark.parametrize(("off", "published"), [([], 1), (["R22_S11"], 0), (["R22_S12"], 1)])
def test_pixels_of_a_detector_that_is_off_are_archived_and_not_processed(off, published):
    sent = []
    made = Backbone.__new__(Backbone)
    camera = Camera(detectors_off=off)
    site = SimpleNamespace(camera=camera, detector=lambda name: next(d for d in camera.detectors if d.name == name))
    made._settings, made.ledger = SimpleNamespace(site=site), Stamps()
    made._partitions = {(slot.detector.name, slot.lane): slot.partition for slot in slots(camera)}
    made.sender, made.bus = None, SimpleNamespace(publish=lambda *_, **__: sent.append(1))
    name = RawName(ExposureName(DAY, 1), "R22_S11")
    header = Header({"EXPID": name.exposure.exposure_id, "IMGTYPE": "OBJECT", "GROUPID": "g1"})
    made._report(Verified(Arrival(name, 1.0, "notification"), header, "ab", 10, 1.0, 2.0))
    assert made.ledger.of("ingested") == [(name.exposure.obs_id, "R22_S11", "")]
    assert len(sent) == published


def test_the_report_names_what_was_off_and_misses_nothing_of_it():
    plan = {"detectors": ALL[:7], "detectorNumbers": {name: number for number, name in enumerate(ALL)}}
    stamp = {"obsId": "o", "detector": ALL[8], "step": "off", "time": 1.0, "reason": "declared off", "figures": {}}
    readout = {"obsId": "o", "group": "g1", "endOfReadout": 1.0}
    found = figures.exposures(Facts(plan, readouts=[readout], ledger=[stamp, stamp]))
    assert found["off"] == [f"{ALL[7]}: not read out by the camera", f"{ALL[8]}: declared off"]
    assert (found["expected"], found["lost"], found["failures"]) == (0, 0, [])
