"""What is not the science exposure of a good night: other files, calibrations without a group, filters, places."""

from __future__ import annotations

import json
import logging
from datetime import date, timedelta
from types import SimpleNamespace

import pytest
from astropy.io.fits import Header

from workloads.archiver.header import primary_cards
from workloads.common import plan
from workloads.common.consume import Delivery
from workloads.common.errors import NonRetriableError
from workloads.common.filters import band_of, bands_of, physical_filter
from workloads.common.names import ExposureName, RawName
from workloads.common.plan import FIELDS, Field, field_at, separation
from workloads.common.times import day_obs, tai_now
from workloads.common.visit import EndReadout
from workloads.data_backbone import backbone as module
from workloads.data_backbone.arrivals import parse_notification
from workloads.data_backbone.backbone import Backbone
from workloads.data_backbone.days import Days
from workloads.data_backbone.instrument import (
    check_header,
    defines_visit,
    exposure_records,
    field_of,
    group_of,
    visit_records,
)
from workloads.data_backbone.keeper import subjects
from workloads.prompt_processing.inputs import Inputs

NAME = RawName(ExposureName(20261122, 1, "O"), "R22_S11")
PLACE = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": FIELDS[0].ra, "CRVAL2": FIELDS[0].dec, "CRPIX1": 64.0, "CRPIX2": 64.0,
    "CD1_1": -5e-5, "CD2_2": 5e-5,
}  # fmt: skip


def header(**changes):
    """Return the header of a raw image as the archiver writes it, with changes; None is a keyword without a value."""
    event = EndReadout(
        imageName=NAME.exposure.obs_id, imageController="O", imageDate="20261122", imageNumber=1, requestedExposureTime=30.0,
        timestampAcquisitionStart=1.795e9, timestampEndOfReadout=1.795e9 + 32,
    )  # fmt: skip
    cards = {key: value for key, (value, _) in primary_cards(event, NAME.detector, {}).items()}
    made = Header()
    for key, value in (cards | {"DETNUM": 94, "DETWID": 128, "DETHEI": 128} | PLACE | changes).items():
        made[key] = value
    return made


# -- calibrations, filters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["BIAS", "DARK", "FLAT", "ENGTEST", "A_TYPE_OF_MANY_MORE_LETTERS"])
@pytest.mark.parametrize("group", [None, "", "  "])
def test_an_exposure_without_a_group_is_a_group_of_its_own(kind, group):
    made = header(IMGTYPE=kind, GROUPID=group, CTYPE1=None, CRVAL1=None)
    check_header(made, NAME)
    assert group_of(made) == "2026112200001"
    records = exposure_records(made)
    assert records["group"]["name"] == records["exposure"]["group"] == "2026112200001"
    assert records["exposure"]["observation_type"] == kind.lower()[:16]
    assert list(records)[-1] == "exposure", "what it refers to is written before it"
    assert not defines_visit(made)


def test_texts_are_as_long_as_the_registry_holds():
    records = exposure_records(header(GROUPID="g" * 100, OBJECT="o" * 100, FILTER="f" * 100))
    assert (len(records["group"]["name"]), len(records["exposure"]["target_name"])) == (64, 64)
    assert records["physical_filter"] == {"instrument": "LSSTCam", "name": "f" * 32, "band": "unknown"}
    assert records["exposure"]["physical_filter"] == "f" * 32


@pytest.mark.parametrize(
    ("name", "band"),
    [
        ("r_57", "r"), ("y_10", "y"), ("g", "g"), ("none", "white"), ("empty", "white"), ("ef_43", "white"),
        ("SDSSi~empty", "i"), ("empty~SDSSg", "g"), ("SDSSr~ND_OD1.0", "r~nd"), ("ND_OD0.5", "white~nd"), ("empty~empty", "white"),
        ("r_57~red", "r"), ("none~blue", "g"), ("r_57~blue", "unknown"), ("rubbish", "unknown"), ("rain", "unknown"), ("", "unknown"),
        (None, "unknown"), (3, "unknown"), (" i_39 ", "i"),
    ],
)  # fmt: skip
def test_the_band_is_the_definitions_and_not_the_first_letter(name, band):
    assert band_of(name) == band
    records = exposure_records(header(FILTER=name if isinstance(name, str) else None))
    assert records["physical_filter"]["band"] == (band if isinstance(name, str) else "unknown")


def test_announcements_may_name_more_than_one_filter():
    assert bands_of("r_57") == ["r"]
    assert bands_of("r_57,i_39, r") == ["r", "i"]
    assert physical_filter(None) == "unknown"


@pytest.mark.parametrize(
    "changes", [{"CTYPE1": None}, {"CRVAL1": None}, {"CD1_1": 0.0}, {"CTYPE1": "GLON-CAR"}, {"CRVAL2": "north"}]
)
def test_a_science_exposure_that_does_not_say_where_it_looked_is_kept_and_is_no_visit(changes):
    made = header(**changes)
    check_header(made, NAME)
    assert not defines_visit(made)
    assert exposure_records(made)["exposure"]["tracking_ra"] is None
    with pytest.raises(NonRetriableError, match="MC_O_20261122_000001"):
        field_of(made)
    assert defines_visit(header())
    assert visit_records(header())["visit"]["physical_filter"] == "unknown"


@pytest.mark.parametrize(
    "changes", [{"EXPTIME": "long"}, {"MJD-BEG": None}, {"DETNUM": "R22"}, {"OBSID": None}, {"MJD-END": True}]
)
def test_what_the_registry_cannot_do_without_is_named(changes):
    with pytest.raises(NonRetriableError, match=next(iter(changes))):
        check_header(header(**changes), NAME)


# -- places ------------------------------------------------------------------------------------------------------------


def test_a_field_is_seen_in_the_announced_band():
    field = FIELDS[0]
    for band in "ugrizy":
        assert field_at(field.ra, field.dec, "", band).band == band
    assert field_at(field.ra, field.dec + 0.06, "", "r") is None
    assert field_at(field.ra + 0.049, field.dec) is not None, "an angle on the sky, not a difference of numbers"
    assert field_at(field.ra + 0.055, field.dec) is not None
    assert field_at(field.ra + 360.0, field.dec) is not None


@pytest.mark.parametrize(
    ("first", "second", "angle"),
    [
        ((359.99, 0.0), (0.01, 0.0), 0.02),
        ((0.0, 90.0), (180.0, 89.99), 0.01),
        ((10.0, -60.0), (10.02, -60.0), 0.01),
        ((0.0, 0.0), (180.0, 0.0), 180.0),
    ],
)
def test_angles_know_no_edge(first, second, angle):
    assert separation(*first, *second) == pytest.approx(angle, abs=1e-6)


@pytest.mark.parametrize(
    ("centre", "seen"), [(359.9999, 0.0001), (0.0001, 359.9999), (0.01, -0.01), (359.99, 360.02), (0.0, 360.0)]
)
def test_a_field_at_the_edge_of_right_ascension_is_found(
    monkeypatch: pytest.MonkeyPatch, centre: float, seen: float
) -> None:
    monkeypatch.setattr(plan, "FIELDS", (Field(9, "edge", centre, 10.0),))
    assert field_at(seen, 10.0) == Field(9, "edge", centre, 10.0)
    assert field_at(seen + 180.0, 10.0) is None
    assert field_at(seen + 0.1, 10.0) is None


@pytest.mark.parametrize(("name", "band"), [("g", "g"), ("g_6", "g"), ("r_57", "r"), ("SDSSi~empty", "i")])
def test_a_raw_is_of_the_band_of_its_own_filter(name: str, band: str) -> None:
    found = field_of(header(FILTER=name))
    assert found is not None
    assert (found.number, found.band) == (FIELDS[0].number, band)


class Templates:
    """A Butler that has templates in some bands."""

    registry = SimpleNamespace(refresh=lambda: None)

    def __init__(self, bands):
        self.bands = bands

    def find_dataset(self, kind, data_id, **_):
        return (
            SimpleNamespace(id=data_id["band"], band=data_id["band"])
            if kind == "template" and data_id["band"] in self.bands
            else None
        )

    def get(self, dataset):
        return f"template in {dataset.band}"


def test_the_template_is_of_the_visits_own_band():
    inputs = Inputs(Templates("rg"), SimpleNamespace(id=94, name="R22_S11"))
    found = [inputs.template(field_at(FIELDS[0].ra, FIELDS[0].dec, "", band)) for band in "rgr"]
    assert found == ["template in r", "template in g", "template in r"]
    with pytest.raises(NonRetriableError, match=r"none in band i; there are in g, r"):
        inputs.template(field_at(FIELDS[0].ra, FIELDS[0].dec, "", "i"))
    with pytest.raises(Exception, match="expected from the Job calibration") as error:
        Inputs(Templates(""), SimpleNamespace(id=94, name="R22_S11")).template(FIELDS[0])
    assert not isinstance(error.value, NonRetriableError), "before the first template, it may still come"


# -- the sweep ---------------------------------------------------------------------------------------------------------


class Bucket:
    """A store that holds files, and counts what it was asked for."""

    def __init__(self, *keys):
        self.keys, self.asked = set(keys), []

    def list(self, _bucket, prefix):
        self.asked.append(prefix)
        return (SimpleNamespace(key=key, modified=0.0) for key in sorted(self.keys) if key.startswith(prefix))

    def folders(self, _bucket, prefix):
        return sorted({f"{prefix}{key.removeprefix(prefix).split('/')[0]}/" for key in self.keys})


def keys(day, *rests, controller="O"):
    name = ExposureName(day, 1, controller)
    return [f"{name.prefix}{name.obs_id}_{rest}" for rest in rests]


def backbone(store):
    made = Backbone.__new__(Backbone)
    made.store, made._detectors, made._before, made._left, made._found = store, {"R22_S11"}, [], {}, []
    made._days = Days(lambda _: set())
    return made


TODAY = day_obs(tai_now())
OTHERS = ["R00_SG0_guider.fits", "R00_SG0.fits", "R00_SW0.fits", "R22_S11 (1).fits", "R22_S11.fits.fz", "R10_S00.fits"]


def test_other_files_are_told_once_and_everything_else_goes_on(caplog):
    other = f"LSSTCam/{TODAY}/TS_C_{TODAY}_000001/TS_C_{TODAY}_000001_R22_S11.fits"
    made = backbone(Bucket(*keys(TODAY, "R22_S11.fits", "R22_S11.json", *OTHERS), other))
    with caplog.at_level(logging.INFO, module.__name__):
        for _ in range(3):
            assert [arrival.name.detector for arrival in made.sweep()] == ["R22_S11"]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(OTHERS) + 1
    assert any("R00_SG0_guider.fits: not ingested: image or stamps of a guider" in text for text in told)
    assert any("R10_S00.fits: not ingested: of a detector that this camera does not have" in text for text in told)
    assert sum(record.levelno >= logging.WARNING for record in caplog.records) == 4


@pytest.mark.parametrize(
    ("camera", "rest"),
    [
        ("MC_S", "R00_SG0_guider.fits"), ("MC_O", "R44_SG1_guider.fits"), ("MC_O", "R22_S11_guider.fits"),
        ("TS_C", "R22_S11.fits"), ("AT_O", "R22_S11.fits"), ("CC_S", "R22_S11_guider.fits"),
        ("MC_O", "R22_S11 (1).fits"), ("MC_O", "R22_S11 (2).fits"), ("MC_O", "R22_S11 - Copy.fits"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_raw_is_left_in_peace_and_the_raw_beside_it_is_found(
    caplog: pytest.LogCaptureFixture, camera: str, rest: str
) -> None:
    folder = f"{camera}_{TODAY}_000001"
    other, raw = f"LSSTCam/{TODAY}/{folder}/{folder}_{rest}", keys(TODAY, "R22_S11.fits")
    made = backbone(Bucket(*raw, other))
    with caplog.at_level(logging.INFO, module.__name__):
        for _ in range(3):
            assert [arrival.key for arrival in made.sweep()] == raw
    assert [record.getMessage().split(": ")[:2] for record in caplog.records] == [[other, "not ingested"]]
    assert made._named(notification(other)) == []
    assert made.subjects("arrivals", [other]) == []


def test_notifications_of_other_files_are_no_arrivals():
    made = backbone(Bucket())
    for rest in (*OTHERS, "notes.txt", "expectedSensors.json"):
        (key,) = keys(TODAY, rest)
        assert made._named(notification(key)) == []
    (key,) = keys(TODAY, "R22_S11.fits")
    assert [one.key for one in made._named(notification(key))] == [key]
    assert [one.obs_id for one in made.subjects("arrivals", [key])] == [f"MC_O_{TODAY}_000001"]


def notification(key):
    body = {
        "Records": [{"eventName": "s3:ObjectCreated:Put", "s3": {"bucket": {"name": "raw"}, "object": {"key": key}}}]
    }
    return Delivery(SimpleNamespace(timestamp=1.8e9), parse_notification(json.dumps(body).encode(), "raw"))


@pytest.mark.parametrize(
    "value", [b"hello", b"[]", b'"text"', b"\xff", b"", b'{"Records": 5}', b'{"Records": [{"s3": {}}]}', b"[" * 100000]
)
def test_what_is_no_notification_is_named(value):
    with pytest.raises(NonRetriableError, match="bucket notification"):
        parse_notification(value, "raw")


def test_a_lost_notification_of_any_age_is_found():
    days = [20250101, 20260719, 20261001]
    store = Bucket(*(key for day in days for key in keys(day, "R22_S11.fits")), "LSSTCam/notes/x", "LSSTCam/readme")
    made = backbone(store)
    found = [arrival.name.exposure.day_obs for _ in range(len(days)) for arrival in made.sweep()]
    assert found == days[::-1], "the newest first"
    made._days = Days(lambda day: {(ExposureName(day, 1).exposure_id, "R22_S11")})
    assert [made.sweep() for _ in range(2 * len(days))] == [[]] * (2 * len(days))
    store.asked.clear()
    made.sweep()
    assert len(store.asked) == 3, "today, yesterday, and one of the days before"


@pytest.mark.parametrize("age", [2, 3, 4, 30, 400])
def test_a_raw_of_some_days_ago_is_found_by_the_next_sweep(age: int) -> None:
    day = int(f"{date.fromisoformat(str(TODAY)) - timedelta(age):%Y%m%d}")
    raw = keys(day, "R22_S11.fits")
    assert [(one.key, one.noticed) for one in backbone(Bucket(*raw)).sweep()] == [(raw[0], "sweep")]


def test_what_a_sweep_finds_is_ingested_some_at_a_time_and_the_loop_lives():
    keys_of_a_lost_night = [
        f"LSSTCam/{TODAY}/MC_O_{TODAY}_{n:06d}/MC_O_{TODAY}_{n:06d}_R22_S11.fits" for n in range(450)
    ]
    made, done = backbone(Bucket(*keys_of_a_lost_night)), []
    made._verify = lambda arrivals, _: [SimpleNamespace(result=lambda arrival=arrival: arrival) for arrival in arrivals]
    made._ingest = lambda files: done.append(len(files))
    made.look()
    made.take_swept(lambda: done.append("beat"))
    assert done == [*["beat", 32] * 14, "beat", 2]


# -- what is set aside -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "record", "owed"),
    [
        ("next-visit", {"groupId": "g1"}, [("", "", "g1")]),
        ("readouts", {"additionalValues": "g1:R22_S10,R22_S11,R00_SG0"}, [(NAME.exposure.obs_id, "R22_S10", "g1"), (NAME.exposure.obs_id, "R22_S11", "g1")]),
        ("readouts", {"additionalKeys": "", "additionalValues": ""}, [(NAME.exposure.obs_id, "", "")]),
        ("readouts", {"requestedExposureTime": "long"}, [(NAME.exposure.obs_id, "", "")]),
        ("readouts", {"imageName": "no name"}, []),
        ("next-visit-cancelled", {"groupId": "g1"}, []),
        ("forwarded", {"obsId": NAME.exposure.obs_id}, []),
    ],
)  # fmt: skip
def test_what_an_event_announces_is_owed_if_it_is_set_aside(role, record, owed):
    whole = {
        "imageName": NAME.exposure.obs_id, "imageDate": "20261122", "imageNumber": 1, "requestedExposureTime": 30.0,
        "timestampAcquisitionStart": 1.0, "timestampEndOfReadout": 2.0, "additionalKeys": "groupId:sensors", "additionalValues": "g1:",
    }  # fmt: skip
    found = subjects(role, (whole if role == "readouts" else {}) | record)
    assert [(one.obs_id, one.detector, one.group) for one in found] == owed
