"""Sources and objects: one of each in a pair, means on the sphere and in each band, nothing that shrinks."""

from __future__ import annotations

from dataclasses import replace

import astropy.time
import numpy as np
import pandas as pd
import pytest
import sqlalchemy
from lsst.dax.apdb import ApdbSql
from lsst.dax.apdb.sql import ApdbSqlConfig
from lsst.sphgeom import Angle, Circle, LonLat, UnitVector3d

from workloads.common.errors import NonRetriableError, RetriableError
from workloads.prompt_processing.apdb import AlertDatabase

ARCSEC = 1.0 / 3600


@pytest.fixture
def database(tmp_path):
    """Return the stock alert database on a file."""
    url = f"sqlite:///{tmp_path / 'apdb.db'}"
    ApdbSql.init_database(url, dia_object_index="last_object_table")
    made = AlertDatabase.__new__(AlertDatabase)
    made._engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    made._apdb = ApdbSql(ApdbSqlConfig(db_url=url, dia_object_index="last_object_table"))
    return made


class Night:
    """Visits of one detector, one after the other."""

    def __init__(self, database):
        self.database, self.visit = database, 0

    def associate(self, places, fluxes=None, band="r", mjd=None):
        self.visit += 1
        mjd = 61000.0 + self.visit if mjd is None else mjd
        sources = _sources(self.visit, places, fluxes or [100.0] * len(places), band, mjd)
        ra, dec = places[0] if places else (0.0, 0.0)
        region = Circle(UnitVector3d(LonLat.fromDegrees(ra % 360.0, dec)), Angle.fromDegrees(0.1))
        time = astropy.time.Time(mjd, format="mjd", scale="tai")
        return self.database.associate(sources, region, time)

    def take(self, *arguments, **options):
        rows = self.associate(*arguments, **options)
        self.database.store(rows)
        return rows


def _sources(visit, places, fluxes, band, mjd):
    count = len(places)
    zeros = dict.fromkeys(("ixx", "iyy", "ixy", "trailNdata", "dipoleNdata"), 0)
    ones = dict.fromkeys(
        (
            "raErr",
            "decErr",
            "x",
            "y",
            "xErr",
            "yErr",
            "apFlux",
            "apFluxErr",
            "psfFluxErr",
            "psfChi2",
            "snr",
            "exposureTime",
        ),
        1.0,
    )
    flags = [f"pixelFlags_{name}" for name in ("bad", "cr", "interpolated", "saturated")]
    more = dict.fromkeys(("scienceFlux", "scienceFluxErr", "templateFlux"), 1.0) | dict.fromkeys(
        ("isNegative", "isDipole", *flags), False
    )
    own = {
        "diaSourceId": 1000 * visit + np.arange(count), "visit": visit, "detector": 90, "band": band, "psfNdata": 9, "bboxSize": 3,
        "ra": np.array([ra % 360.0 for ra, _ in places]), "dec": np.array([dec for _, dec in places]), "psfFlux": np.array(fluxes, float),
        "midpointMjdTai": mjd, "timeProcessedMjdTai": mjd,
    }  # fmt: skip
    return pd.DataFrame(own | zeros | ones | more, index=range(count))


@pytest.fixture
def night(database):
    return Night(database)


@pytest.mark.parametrize(
    ("first", "second", "mean"),
    [
        ((359.9999, 0.0), (0.0001, 0.0), (0.0, 0.0)),
        ((359.99995, 10.0), (0.00005, 10.0), (0.0, 10.0)),
        ((0.00005, -45.0), (359.99995, -45.0), (0.0, -45.0)),
        ((180.0, 0.00005), (180.0, -0.00005), (180.0, 0.0)),
        ((10.0, 89.9999), (190.0, 89.9999), (None, 90.0)),
    ],
)
def test_an_object_stays_where_it_is_whatever_the_edge_of_its_coordinates(night, first, second, mean):
    (number,) = night.take([first]).objects["diaObjectId"]
    for place in (second, first, second):
        rows = night.take([place])
        assert rows.objects["diaObjectId"].tolist() == [number], "each visit finds it again"
    rows = night.take(
        [
            first,
        ]
    )
    ra, dec = rows.objects["ra"][0], rows.objects["dec"][0]
    assert 0.0 <= ra < 360.0
    assert dec == pytest.approx(mean[1], abs=1e-4)
    if mean[0] is not None:
        assert (ra - mean[0] + 180.0) % 360.0 - 180.0 == pytest.approx(0.0, abs=5e-5)


def test_each_band_has_its_own_fluxes(night):
    place = [(54.0, -35.0)]
    for flux in (100.0, 200.0):
        night.take(place, [flux], "r")
    rows = night.take(place, [1000.0], "g")
    (row,) = rows.objects.to_dict("records")
    assert (row["r_psfFluxMean"], row["r_psfFluxSigma"], row["r_psfFluxNdata"]) == (150.0, 50.0, 2)
    assert (row["g_psfFluxMean"], row["g_psfFluxNdata"]) == (1000.0, 1)
    assert row["i_psfFluxNdata"] == 0
    assert np.isnan(row["i_psfFluxMean"])
    assert row["nDiaSources"] == 3
    (row,) = night.take(place, [300.0], "r").objects.to_dict("records")
    assert (row["r_psfFluxMean"], row["g_psfFluxMean"]) == (200.0, 1000.0)


@pytest.mark.parametrize(("first", "second"), [("r", "g"), ("g", "r"), ("u", "y"), ("z", "i")])
def test_a_second_band_erases_nothing_of_the_first(night: Night, first: str, second: str) -> None:
    place = [(54.0, -35.0)]
    night.take(place, [100.0], first)
    (row,) = night.take(place, [1000.0], second).objects.to_dict("records")
    assert (row[f"{first}_psfFluxMean"], row[f"{first}_psfFluxNdata"]) == (100.0, 1)
    assert (row[f"{second}_psfFluxMean"], row[f"{second}_psfFluxNdata"]) == (1000.0, 1)


def test_a_flux_that_is_no_number_is_in_no_mean(night):
    place = [(54.0, -35.0)]
    night.take(place, [100.0])
    (row,) = night.take(place, [float("nan")]).objects.to_dict("records")
    assert (row["r_psfFluxMean"], row["r_psfFluxNdata"], row["nDiaSources"]) == (100.0, 1, 2)


def test_two_sources_near_one_object_are_two_objects(night):
    ra, dec = 54.0, -35.0
    (number,) = night.take([(ra, dec)]).objects["diaObjectId"]
    near, far = (ra, dec + 0.2 * ARCSEC), (ra, dec - 0.6 * ARCSEC)
    rows = night.take([far, near])
    assert rows.sources["diaObjectId"].tolist() == [2000, number], "the nearest has it"
    assert rows.objects["diaObjectId"].is_unique
    again = night.take([near, far])
    assert again.sources["diaObjectId"].tolist() == [number, 2000]


def test_of_two_objects_near_one_source_the_nearest_has_it_and_ties_have_an_order(night):
    ra, dec = 54.0, -35.0
    night.take([(ra, dec), (ra, dec + 0.9 * ARCSEC)])
    assert night.take([(ra, dec + 0.3 * ARCSEC)]).sources["diaObjectId"].tolist() == [1000]
    crowd = [(ra + 0.1, dec)] * 3
    first, again = night.associate(crowd), night.associate(crowd)
    assert first.sources["diaObjectId"].is_unique
    assert again.sources["diaObjectId"].is_unique


def test_a_chain_of_sources_and_objects_is_paired_one_to_one(night):
    ra, dec = 54.0, -35.0
    night.take([(ra, dec + step * ARCSEC) for step in (0.0, 1.2, 2.4)])
    rows = night.take([(ra, dec + step * ARCSEC) for step in (0.5, 1.3, 2.2, 2.6)])
    ids = rows.sources["diaObjectId"].tolist()
    assert ids[:2] == [1000, 1001]
    assert sorted(ids[2:]) == [1002, 2002] or sorted(ids[2:]) == [1002, 2003]


def test_counts_and_first_dates_do_not_shrink_when_sources_are_older_than_the_database_gives(night):
    place = [(54.0, -35.0)]
    for number, flux in enumerate((100.0, 200.0, 300.0)):
        night.take(place, [flux], "r", mjd=60000.0 + number)
    (row,) = night.take(place, [400.0], "r", mjd=61000.0).objects.to_dict("records")  # a year reaches to 60635
    assert (row["nDiaSources"], row["firstDiaSourceMjdTai"], row["lastDiaSourceMjdTai"]) == (4, 60000.0, 61000.0)
    assert row["r_psfFluxNdata"] == 4
    assert row["r_psfFluxMean"] == pytest.approx(250.0)
    assert row["r_psfFluxSigma"] == pytest.approx(np.std([100.0, 200.0, 300.0, 400.0]))
    (row,) = night.take(place, [1.0], "y", mjd=61001.0).objects.to_dict("records")
    assert (row["nDiaSources"], row["r_psfFluxNdata"], row["y_psfFluxNdata"]) == (5, 4, 1)
    assert row["r_psfFluxMean"] == pytest.approx(250.0)
    assert (row["ra"], row["dec"]) == pytest.approx((54.0, -35.0), abs=1e-9)


def test_a_visit_without_sources_is_no_error(night):
    rows = night.associate([])
    assert rows.objects.empty
    assert rows.sources.empty


def test_visits_that_met_are_associated_anew_and_nothing_is_lost(night):
    place = [(54.0, -35.0)]
    night.take(place)
    first, second = night.associate(place), night.associate(place)
    night.database.store(first)
    # Another worker's rows came first: its visit had the same time, or left the object twice.
    with pytest.raises(RetriableError, match="to be associated anew"):
        night.database.store(first)
    night.database.store(second)
    (row,) = night.take(place).objects.to_dict("records")
    assert row["nDiaSources"] == 4


@pytest.mark.parametrize("days", [(3, 1, 2), (4, 3, 2, 1), (1, 4, 2, 3)])
def test_of_a_backlog_in_any_order_nothing_is_lost(night: Night, days: tuple[int, ...]) -> None:
    place = [(54.0, -35.0)]
    for day in days:
        night.take(place, [100.0 * day], mjd=61000.0 + day)
    (row,) = night.take(place, [100.0], mjd=61010.0).objects.to_dict("records")
    assert (row["nDiaSources"], row["r_psfFluxNdata"]) == (len(days) + 1, len(days) + 1)
    assert (row["firstDiaSourceMjdTai"], row["lastDiaSourceMjdTai"]) == (61001.0, 61010.0)


@pytest.mark.parametrize("days", [(0, 1, 0), (0, 1, 1), (0, 0, 0, 0), (1, 0, 0, 1)])
def test_images_of_one_instant_lose_nothing(night: Night, days: tuple[int, ...]) -> None:
    place = [(54.0, -35.0)]
    for day in days:
        night.take(place, mjd=61000.0 + day)
    (row,) = night.take(place, mjd=61010.0).objects.to_dict("records")
    assert row["nDiaSources"] == len(days) + 1


def test_rows_that_are_wrong_are_refused(night):
    rows = night.associate([(54.0, -35.0)])
    wrong = replace(rows, objects=rows.objects.assign(nDiaSources=None))
    with pytest.raises(NonRetriableError, match="alert database refused its rows: NOT NULL"):
        night.database.store(wrong)
