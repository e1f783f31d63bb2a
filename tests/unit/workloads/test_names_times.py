"""Names of images and the two clocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.common import times
from workloads.common.errors import NonRetriableError
from workloads.common.names import LAST_SEQ_NUM, ExposureName, Kind, RawName, classify, dia_source_id, sensors_in
from workloads.common.times import day_obs, from_iso, iso, mjd, tai_to_utc, utc_to_tai
from workloads.common.visit import EndReadout, join_colons, split_colons


def test_raw_name_round_trip():
    name = RawName(ExposureName(20250423, 34, "O"), "R31_S10")
    assert name.key == "LSSTCam/20250423/MC_O_20250423_000034/MC_O_20250423_000034_R31_S10.fits"
    assert RawName.from_key(name.key) == name
    assert name.exposure.exposure_id == 2025042300034
    assert name.exposure.expected_sensors_key.endswith("/MC_O_20250423_000034_expectedSensors.json")


@pytest.mark.parametrize(
    "key",
    [
        "LSSTCam/20250423/MC_O_20250423_000034/MC_O_20250423_000035_R31_S10.fits",
        "LSSTCam/20250424/MC_O_20250423_000034/MC_O_20250423_000034_R31_S10.fits",
        "LSSTCam/20250423/MC_O_20250423_000034/MC_O_20250423_000034_expectedSensors.json",
        "LSSTCam/20250423/MC_O_20250423_000034/MC_O_20250423_000034_R00_SG0_guider.fits",
        "LSSTCam/20250423/TS_C_20250423_000034/TS_C_20250423_000034_R31_S10.fits",
        "LSSTCam/20250423/MC_O_20250423_000034/MC_O_20250423_000034_R31_S10 (1).fits",
        "elsewhere.fits",
    ],
)
def test_names_that_contradict_themselves_are_refused(key):
    with pytest.raises(NonRetriableError, match="not the name of a raw image"):
        RawName.from_key(key)


@pytest.mark.parametrize(
    ("rest", "kind", "raw"),
    [
        ("R22_S11.fits", Kind.SCIENCE, True),
        ("R00_SW0.fits", Kind.WAVEFRONT, True),
        ("R04_SG1.fits", Kind.GUIDER, True),
        ("R00_SG0_guider.fits", Kind.GUIDER, False),
        ("R22_S11_guider.fits", Kind.GUIDER, False),
        ("R00_SG0_guider.fits.fz", Kind.GUIDER, False),
        ("R22_S11.json", Kind.BESIDE, False),
        ("R00_SG0_guider.json", Kind.BESIDE, False),
        ("expectedSensors.json", Kind.BESIDE, False),
        ("R22_S11.fits.fz", Kind.OTHER_FORM, False),
        ("R22_S11 (1).fits", Kind.UNKNOWN, False),
        ("R22_S11.fits.part", Kind.UNKNOWN, False),
        ("R22_S11_copy.fits", Kind.UNKNOWN, False),
        ("R22_SX1.fits", Kind.UNKNOWN, False),
        ("r22_s11.fits", Kind.UNKNOWN, False),
        ("R22_S1\N{SUPERSCRIPT TWO}.fits", Kind.UNKNOWN, False),
    ],
)
def test_every_file_of_an_exposure_is_known_by_its_name(rest, kind, raw):
    for controller in "OCS":
        name = ExposureName(20261122, 1, controller)
        named = classify(f"{name.prefix}{name.obs_id}_{rest}")
        assert (named.kind, named.raw is not None) == (kind, raw)
        assert named.ingested is (kind is Kind.SCIENCE)
        if named.raw:
            assert named.raw.key == f"{name.prefix}{name.obs_id}_{rest}"


def test_files_of_other_cameras_and_texts_that_are_no_key_have_a_kind():
    other = "LSSTCam/20261122/TS_C_20261122_000001/TS_C_20261122_000001_R22_S11.fits"
    assert classify(other).kind is Kind.OTHER_CAMERA
    assert classify(other.replace("TS", "AT")).kind is Kind.OTHER_CAMERA
    for key in ("", "/", "LSSTCam", "LSSTCam/20261122/", "quarantine/x.fits", "LSSTCam/20261122/notes.txt"):
        assert classify(key).kind is Kind.UNKNOWN


@given(st.text())
def test_every_text_is_the_name_of_something(text):
    assert isinstance(classify(text).kind, Kind)


def test_exposure_numbers_of_two_days_never_meet():
    last, first = ExposureName(20261122, LAST_SEQ_NUM, "O"), ExposureName(20261123, 0, "O")
    assert last.exposure_id < first.exposure_id
    for refused in (
        lambda: ExposureName(20261122, 100001),
        lambda: ExposureName.from_obs_id("MC_O_20261122_100001"),
        lambda: ExposureName(20261122, -1),
    ):
        with pytest.raises(NonRetriableError, match="expected at most 99999"):
            refused()
    key = "LSSTCam/20261122/MC_O_20261122_100001/MC_O_20261122_100001_R22_S11.fits"
    assert classify(key).kind is Kind.UNKNOWN


@pytest.mark.parametrize("number", [100_000, 100_001, 123_456, 999_999])
def test_a_number_of_six_digits_is_refused_and_the_limit_named(number: int) -> None:
    obs_id = f"MC_O_20261122_{number}"
    for refused in (
        lambda: ExposureName(20261122, number, "O"),
        lambda: ExposureName.from_obs_id(obs_id),
        lambda: readout("", "").model_copy(update={"imageName": obs_id}).exposure,
    ):
        with pytest.raises(NonRetriableError, match=f"sequence number {number} of 20261122: expected at most 99999"):
            refused()
    assert classify(f"LSSTCam/20261122/{obs_id}/{obs_id}_R22_S11.fits").kind is Kind.UNKNOWN


@pytest.mark.parametrize(
    "obs_id",
    [
        "MC_O_20261122",
        "MC_O_20261122_1",
        "MC_O_2026112_000001",
        "MC_O_20261122_00000\N{SUPERSCRIPT ONE}",
        "AT_O_20261122_000001",
        "",
    ],
)
def test_what_is_no_observation_id_is_refused(obs_id):
    with pytest.raises(NonRetriableError, match="not an observation id"):
        ExposureName.from_obs_id(obs_id)


def test_sensors_are_found_whatever_stands_between_them():
    assert sensors_in("R22_S11,R22_S12") == ["R22_S11", "R22_S12"]
    assert sensors_in(" R22_S11 ; R00_SG0|R00_SW1,R22_S11,") == ["R22_S11", "R00_SG0", "R00_SW1"]
    assert sensors_in("R22_S111 XR22_S11 R2_S11") == []


def test_day_obs_is_the_date_in_utc_minus_12():
    noon = from_iso("2026-11-22T12:00:00.000")
    assert day_obs(utc_to_tai(noon - 1)) == 20261121
    assert day_obs(utc_to_tai(noon)) == 20261122


def test_tai_is_37_seconds_ahead():
    utc = from_iso("2026-01-01T00:00:00.000")
    assert utc_to_tai(utc) - utc == 37
    assert tai_to_utc(utc_to_tai(utc)) == utc
    assert iso(utc_to_tai(utc)) == "2026-01-01T00:00:37.000"
    assert mjd(0.0) == 40587.0
    with pytest.raises(ValueError, match="before 2017"):
        utc_to_tai(0.0)


@pytest.mark.parametrize("first", [1451606400.0, 0.0, -1e9])
def test_a_clock_that_is_not_set_is_waited_for_and_said_once(monkeypatch, caplog, first):
    pauses = []
    monkeypatch.setattr(times.time, "time", lambda: first + len(pauses) if len(pauses) < 3 else 1.8e9)
    monkeypatch.setattr(times.time, "sleep", pauses.append)
    assert times.tai_now() == 1.8e9 + 37
    assert len(pauses) == 3
    (record,) = [record for record in caplog.records if record.name == times.__name__]
    assert "waiting for this host's clock: it says " in record.getMessage()


@given(st.lists(st.text(min_size=1).filter(lambda text: not text.endswith("\\")), min_size=1))
def test_colon_lists_round_trip(parts):
    assert split_colons(join_colons(parts)) == parts


def test_source_ids_are_distinct_and_fit():
    first = dia_source_id(2026112200034, 90, 0)
    assert first == dia_source_id(2026112200034, 90, 0)
    assert (
        len(
            {
                first,
                dia_source_id(2026112200034, 90, 1),
                dia_source_id(2026112200034, 91, 0),
                dia_source_id(2026112200035, 90, 0),
            }
        )
        == 4
    )
    assert dia_source_id(2999123199999, 255, 2**13 - 1) < 2**63
    for number, detector in ((2**13, 90), (9000, 90), (-1, 90), (0, 256)):
        with pytest.raises(NonRetriableError, match="at most 8192 sources"):
            dia_source_id(2026112200034, detector, number)


def readout(keys, values):
    return EndReadout(
        imageName="MC_O_20261122_000001", imageDate="20261122", imageNumber=1, requestedExposureTime=30.0,
        timestampAcquisitionStart=0.0, timestampEndOfReadout=32.0, additionalKeys=keys, additionalValues=values,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "values", "group"),
    [
        ("groupId:sensors", r"2026-11-22T03\:04\:05.1#1:R22_S11", "2026-11-22T03:04:05.1#1"),
        ("groupId:sensors", "2026-11-22T03:04:05.1#1:R22_S11", "2026-11-22T03:04:05.1#1"),
        ("sensors:groupId:filter", "R22_S11:2026-11-22T03:04:05:r_57", "2026-11-22T03:04:05"),
        ("groupId:sensors", "2026-11-22T03:04#2:R22_S11", "2026-11-22T03:04#2"),
        ("groupId:sensors", r"BT_2026\:7:R22_S11", "BT_2026:7"),
    ],
)
def test_groups_are_read_whether_their_colons_are_escaped_or_not(keys, values, group):
    event = readout(keys, values)
    assert (event.group, event.sensors, event.unpaired) == (group, ["R22_S11"], "")


@pytest.mark.parametrize(
    ("keys", "values"),
    [("groupId:sensors", "a:b:c:R22_S11"), ("groupId", ""), ("groupId:sensors:filter", "R22_S11"), ("", "R22_S11")],
)
def test_what_cannot_be_paired_is_named_and_costs_no_pixels(keys, values):
    event = readout(keys, values)
    assert (event.additional, event.group) == ({}, "")
    assert event.sensors == (["R22_S11"] if "R22" in values else [])
    assert "additionalKeys" in event.unpaired


@pytest.mark.parametrize("added", [{"exposureTimeActual": 30.01}, {"private_host": 7}, {"additionalUnits": None}])
def test_fields_of_a_later_release_are_passed_over(added):
    known = {
        "imageName": "MC_O_20261122_000001", "imageDate": "20261122", "imageNumber": 1, "requestedExposureTime": 30.0,
        "timestampAcquisitionStart": 1.8e9, "timestampEndOfReadout": 1.8e9 + 32,
    }  # fmt: skip
    assert EndReadout.model_validate(known | added) == EndReadout.model_validate(known)
