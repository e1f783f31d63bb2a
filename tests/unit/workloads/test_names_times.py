"""Names of images and the two clocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.common.errors import NonRetriableError
from workloads.common.names import ExposureName, RawName, dia_source_id
from workloads.common.times import day_obs, from_iso, iso, mjd, tai_to_utc, utc_to_tai
from workloads.common.visit import join_colons, split_colons


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
        "elsewhere.fits",
    ],
)
def test_names_that_contradict_themselves_are_refused(key):
    with pytest.raises(NonRetriableError, match="not the name of a raw image"):
        RawName.from_key(key)


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


@given(st.lists(st.text(min_size=1).filter(lambda text: "\0" not in text and not text.endswith("\\")), min_size=1))
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
    with pytest.raises(ValueError, match="at most"):
        dia_source_id(2026112200034, 90, 2**13)
