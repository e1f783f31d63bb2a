"""The ledger's keeper and the figures of a night, from small made-up records."""

from __future__ import annotations

import json

import pytest

from workloads.broker.groups import GROUPS
from workloads.common.names import ExposureName
from workloads.common.visit import EndReadout, NextVisit, NextVisitCanceled, join_colons
from workloads.data_backbone.arrivals import parse_notification
from workloads.data_backbone.keeper import Keeper
from workloads.report import build, figures
from workloads.report.facts import Facts
from workloads.report.settle import Settling, settle

OBS = "MC_S_20261122_000001"
VISIT = 2026112200001


class Recorder:
    def __init__(self):
        self.stamps = []

    def stamp(self, step, subject, *, reason="", **_):
        self.stamps.append((str(step), subject.obs_id, subject.detector, subject.group, reason))


def readout(group="g1", sensors="R22_S00,R22_S01", end=1000.0):
    return EndReadout(
        imageName=OBS, imageDate="20261122", imageNumber=1, requestedExposureTime=30.0, timestampAcquisitionStart=end - 32,
        timestampEndOfReadout=end, additionalKeys=join_colons(["groupId", "sensors"]), additionalValues=join_colons([group, sensors]),
    ).model_dump()  # fmt: skip


def announced(group="g1", start=968.0):
    return NextVisit(
        scriptSalIndex=1,
        groupId=group,
        position=[1.0, 2.0],
        startTime=start,
        duration=32.0,
        private_sndStamp=start - 20,
    ).model_dump()


@pytest.fixture
def keeper():
    return Keeper(Recorder())


def steps(keeper, step):
    return [stamp for stamp in keeper._ledger.stamps if stamp[0] == step]


def copied(site, *, everywhere=False):
    return {"obsId": OBS, "detector": "R22_S00", "site": site, "size": 10, "everywhere": everywhere, "time": 1010.0}


def test_only_science_sensors_are_expected_where_images_are_processed(keeper):
    keeper.end_readout(readout(sensors="R22_S00,R00_SG0,R00_SW1"))
    assert [stamp[2] for stamp in steps(keeper, "expected")] == ["R22_S00"]


def test_archived_means_all_sites(keeper):
    keeper.next_visit(announced())
    keeper.end_readout(readout())
    keeper.forwarded(copied("base"))
    assert steps(keeper, "archived") == []
    keeper.forwarded(copied("ncsa", everywhere=True))
    assert [stamp[1:4] for stamp in steps(keeper, "archived")] == [(OBS, "R22_S00", "g1")]


def test_what_a_restart_forgot_is_archived_all_the_same(keeper):
    """The forwarder's journal says that all sites have it; only the group is not known any more."""
    keeper.forwarded(copied("ncsa", everywhere=True))
    assert [stamp[1:4] for stamp in steps(keeper, "archived")] == [(OBS, "R22_S00", "")]


def test_late_images_and_visits_without_image_are_named_once(keeper):
    keeper.next_visit(announced())
    keeper.next_visit(announced("g2"))
    keeper.end_readout(readout())
    keeper.arrived(OBS, "R22_S00")
    keeper.check(now=1020.0)
    assert steps(keeper, "late") == []
    for _ in range(2):
        keeper.check(now=2000.0)
    late = {(stamp[2], stamp[3]): stamp[4] for stamp in steps(keeper, "late")}
    assert set(late) == {("R22_S01", "g1"), ("", "g2")}
    assert late["", "g2"] == "announced, but no image was read out"


def test_cancelled_visits_are_not_late(keeper):
    keeper.next_visit(announced())
    keeper.cancelled(NextVisitCanceled(scriptSalIndex=1, groupId="g1").model_dump())
    keeper.check(now=9999.0)
    assert steps(keeper, "late") == []
    assert len(steps(keeper, "cancelled")) == 1


def test_image_without_announcement_and_missing_detector(keeper):
    keeper.end_readout(readout())
    assert {stamp[4] for stamp in steps(keeper, "expected")} == {"image without an announced visit"}
    content = {
        "obsid": OBS,
        "raft": "R22",
        "sensor": "S01",
        "statusCode": 1,
        "description": "the camera has no such image",
        "groupId": "g1",
    }
    keeper.retrieved(content)
    assert steps(keeper, "lost")[0][2:] == ("R22_S01", "g1", "the camera has no such image")


def test_notifications():
    def message(name, key, bucket="raw"):
        return json.dumps(
            {"Records": [{"eventName": name, "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}]}
        ).encode()

    assert parse_notification(message("s3:ObjectCreated:Put", "LSSTCam/a%2Fb.fits"), "raw") == ["LSSTCam/a/b.fits"]
    assert parse_notification(message("s3:ObjectRemoved:Delete", "LSSTCam/a.fits"), "raw") == []
    assert parse_notification(message("s3:ObjectCreated:Put", "LSSTCam/a.json"), "raw") == []
    assert parse_notification(message("s3:ObjectCreated:Put", "quarantine/LSSTCam/a.fits"), "raw") == []
    assert parse_notification(b'{"Event":"s3:TestEvent"}', "raw") == []
    with pytest.raises(Exception, match="not understood"):
        parse_notification(b"not json", "raw")


def truth(x, snr, kind=2, masked=False):
    return {"obsId": OBS, "detector": "R22_S00", "id": 1, "x": x, "y": 50.0, "snr": snr, "kind": kind, "masked": masked}


def alert(number, x, received=1030.0):
    return {
        "diaSourceId": number,
        "visit": VISIT,
        "detector": 90,
        "x": x,
        "y": 50.0,
        "received": received,
        "bytes": 10,
        "sha256": "",
        "snr": 9.0,
    }


def stamp(step, time, **figures):
    return {
        "obsId": OBS,
        "detector": "R22_S00",
        "groupId": "g1",
        "step": step,
        "time": time,
        "reason": "",
        "figures": figures,
    }


def facts(**more):
    digest = {"summit": "a", "base": "a", "ncsa": "a"}
    content = {
        "night": {"night": "n", "seed": 1, "sky": "synthetic", "visits": 1, "interval": 45.0, "detectors": ["R22_S00"], "detectorNumbers": {"R22_S00": 90}},
        "visits": [{"visit": 0, "group": "g1", "announced": 950.0, "field": "f", "cancelled": False}],
        "readouts": [{"obsId": OBS, "group": "g1", "endOfReadout": 1000.0, "detectors": ["R22_S00"]}],
        "exposures": [{"obsId": OBS, "detector": "R22_S00", "group": "g1", "visit": 0, "sha256": "p"}],
        "truth": [truth(10.0, 20.0), truth(100.0, 9.0), truth(200.0, 5.0), truth(300.0, 50.0, kind=3), truth(400.0, 30.0, masked=True)],
        "ledger": [stamp("arrived", 1004.0), stamp("processed", 1020.0, alerts=3, pixels_s=1.5), stamp("alerted", 1021.0), stamp("archived", 1006.0)],
        "alerts": [alert(1, 10.4), alert(2, 300.2), alert(3, 600.0)],
        "stores": [{"obsId": OBS, "detector": "R22_S00", "sites": digest, "errors": {}, "pixels": dict.fromkeys(digest, True)}],
    }  # fmt: skip
    return Facts(**(content | more))


def test_transients_are_matched_within_a_pixel_and_false_ones_counted():
    found = figures.transients(facts())
    assert (found["injected"], found["recovered"], found["false"]) == (2, 1, 1)
    assert found["missed"] == [f"{OBS}_R22_S00 (100.0, 50.0) 9.0 sigma"]


@pytest.mark.parametrize("controller", "OCSP")
def test_whatever_triggered_an_exposure_its_alerts_are_counted(controller: str) -> None:
    obs_id, base = OBS.replace("_S_", f"_{controller}_"), facts()
    names = ("readouts", "exposures", "truth", "ledger", "stores")
    own = facts(**{name: [row | {"obsId": obs_id} for row in getattr(base, name)] for name in names})
    found, whole = figures.transients(own), figures.exposures(own)
    assert (found["injected"], found["recovered"], found["false"]) == (2, 1, 1)
    assert (whole["unanswered"], whole["lost"], figures.alerts(own)["missing"]) == (0, 0, 0)
    assert figures.latency(own)["count"] == 3


def test_false_alerts_that_repeat_are_told_from_those_that_do_not():
    first = ExposureName.from_obs_id(OBS)
    other = ExposureName(first.day_obs, first.seq_num + 1)
    base = facts()
    found = figures.transients(
        facts(
            readouts=[*base.readouts, base.readouts[0] | {"obsId": other.obs_id}],
            exposures=[*base.exposures, base.exposures[0] | {"obsId": other.obs_id, "visit": 1}],
            alerts=[
                alert(1, 600.0) | {"diaObjectId": 1},
                alert(2, 700.0) | {"diaObjectId": 2},
                alert(3, 600.0) | {"diaObjectId": 1, "visit": other.exposure_id},
            ],
        )
    )
    assert (found["false"], found["false_repeating"], found["false_once_per_image"]) == (3, 2, 0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"errors": {"base": "no such object"}}, "base: no such object"),
        ({"sites": {"summit": "a", "base": "b", "ncsa": "a"}}, "digests differ"),
        ({"pixels": {"summit": True, "base": True, "ncsa": False}}, "other pixels than the camera read out at ncsa"),
    ],
)
def test_a_loss_at_any_site_is_counted_with_its_reason(change, said):
    base = facts().stores[0]
    found = figures.exposures(facts(stores=[base | change]))
    assert found["lost"] == 1
    assert said in found["losses"][0]


def test_what_was_not_looked_for_is_lost():
    assert figures.exposures(facts(stores=[]))["lost"] == 1


def test_missing_and_doubled_alerts_are_counted():
    assert figures.alerts(facts())["missing"] == 0
    assert figures.alerts(facts(alerts=[alert(1, 10.0), alert(2, 20.0)]))["missing"] == 1
    assert figures.alerts(facts(alerts=[alert(1, 10.0)] * 2 + [alert(2, 1.0), alert(3, 2.0)]))["duplicates"] == 1


def test_what_a_broker_did_not_receive_is_counted():
    whole = [alert(1, 10.0) | {"sha256": "a"}, alert(2, 20.0) | {"sha256": "b"}]
    kept = [{"group": group, "sha256": digest} for group in GROUPS for digest in "ab"]
    assert figures.alerts(facts(alerts=whole, receipts=kept))["not_at_brokers"] == 0
    assert figures.alerts(facts(alerts=whole, receipts=kept[:-1]))["not_at_brokers"] == 1
    assert figures.alerts(facts(alerts=whole))["not_at_brokers"] == 2 * len(GROUPS)


def test_an_exposure_without_an_answer_is_counted():
    ledger = facts().ledger
    assert figures.exposures(facts())["unanswered"] == 0
    assert figures.exposures(facts(ledger=[row for row in ledger if row["step"] != "alerted"]))["unanswered"] == 1
    given_up = figures.exposures(facts(ledger=[stamp("failed", 1010.0)]))
    assert (given_up["unanswered"], given_up["given_up"]) == (0, 1)


def test_latency_counts_from_the_end_of_readout():
    found = figures.latency(facts(alerts=[alert(1, 1.0, 1010.0), alert(2, 1.0, 1070.0)]))
    assert (found["max_s"], found["within_60_s"]) == (70.0, 0.5)


@pytest.mark.parametrize(
    ("seconds", "growth"),
    [
        ([55.0, 10.0, 10.0, 10.0, 10.0, 10.0], 0.0),
        ([5.0, 10.0, 10.0, 10.0, 10.0, 10.0], 0.0),
        ([10.0, 10.0, 10.0, 55.0, 10.0, 10.0], 0.0),
        ([55.0, 10.0, 12.0, 14.0, 16.0, 18.0], 2.0),
        ([10.0, 10.0, 50.0], 0.0),
    ],
    ids=["a cold first visit", "a fast first visit", "one slow visit", "growth", "too few to tell"],
)
def test_growth_of_latency_is_no_single_visits(seconds, growth):
    name = ExposureName.from_obs_id(OBS)
    visits = [ExposureName(name.day_obs, number) for number in range(1, len(seconds) + 1)]
    ends = {visit: 1000.0 + 45 * visit.seq_num for visit in visits}
    found = figures.latency(
        facts(
            readouts=[{"obsId": visit.obs_id, "group": "g1", "endOfReadout": ends[visit]} for visit in visits],
            alerts=[
                alert(visit.seq_num, 1.0, ends[visit] + late) | {"visit": visit.exposure_id}
                for visit, late in zip(visits, seconds, strict=True)
            ],
        )
    )
    assert found["slope_s_per_visit"] == pytest.approx(growth)


def test_report_is_built_validates_and_judges(tmp_path):
    from importlib import resources

    import jsonschema

    made = facts()
    (tmp_path / "night.json").write_text(json.dumps(made.night))
    for name in ("visits", "readouts", "exposures", "truth", "ledger", "alerts", "stores"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in getattr(made, name)))
    report = build.build(tmp_path)
    jsonschema.validate(
        json.loads((tmp_path / "report.json").read_text()),
        json.loads(resources.files("workloads.report").joinpath("report.schema.json").read_text()),
    )
    assert report["passed"] is False
    assert {one["title"]: one["met"] for one in report["requirements"]}["exposures lost"] is True
    clocked = {one["title"] for one in report["requirements"] if one["judged_by"] == "clock"}
    assert clocked == {"alerts within 60 s of the end of readout", "growth of latency, seconds per visit"}
    page = (tmp_path / "report.html").read_text()
    assert "Night n: not all requirements met" in page
    assert page.count("<td>clock</td>") == len(clocked)
    assert f"{OBS}_R22_S00 (100.0, 50.0) 9.0 sigma" in page


def test_an_exposure_settles_when_it_is_archived_and_answered_or_its_loss_has_a_name(tmp_path, capsys):
    stamps = {
        "R22_S00": ["archived", "alerted"],
        "R22_S01": ["quarantined"],
        "R22_S02": ["lost"],
        "R22_S10": ["archived", "failed"],
        "R22_S11": ["archived", "processed"],
        "R22_S12": ["alerted"],
    }
    exposures = [{"obsId": OBS, "detector": detector} for detector in stamps]
    ledger = [one | {"step": step, "figures": {}} for one in exposures for step in stamps[one["detector"]]]
    for name, rows in (("exposures", exposures), ("ledger", ledger)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert Settling(tmp_path).look() == (4, 6)
    with (tmp_path / "ledger.jsonl").open("a") as growing:
        growing.write(json.dumps({"obsId": OBS, "detector": "R22_S12", "step": "archived", "figures": {}}))
        growing.flush()
        assert Settling(tmp_path).look() == (4, 6)  # half a line is none yet
        growing.write("\n")
    assert settle(tmp_path, patience=0.0) == 0
    assert json.loads(capsys.readouterr().out) == {"settled": 5, "of": 6, "coming": 0}


def test_a_night_is_not_over_before_its_alerts_are_there(tmp_path):
    image = {"obsId": OBS, "detector": "R22_S00"}
    stamps = [{"step": "archived", "figures": {}}, {"step": "processed", "figures": {"alerts": 3.0}}]
    (tmp_path / "exposures.jsonl").write_text(json.dumps(image) + "\n")
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(image | stamp) + "\n" for stamp in stamps))
    settling = Settling(tmp_path)
    assert (settling.look(), settling.coming) == ((0, 1), 3)
    with (tmp_path / "ledger.jsonl").open("a") as ledger, (tmp_path / "alerts.jsonl").open("a") as alerts:
        ledger.write(json.dumps(image | {"step": "alerted", "figures": {}}) + "\n")
        alerts.write('{"diaSourceId": 1}\n{"error": "does not decode"}\n')
        ledger.flush()
        alerts.flush()
        assert (settling.look(), settling.coming) == ((1, 1), 1)
        alerts.write('{"diaSourceId": 3}\n')
    assert (settling.look(), settling.coming) == ((1, 1), 0)
