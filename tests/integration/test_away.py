"""A database or store that goes away, at whatever message of its dialogue, is told from one that refuses: nothing lost or twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import astropy.time
import numpy as np
import pandas as pd
import pytest
import sqlalchemy
import yaml
from lsst.daf.butler import Butler
from lsst.sphgeom import Angle, Circle, LonLat, UnitVector3d

from integration.miniature import Miniature, bare
from integration.relay import Relay
from workloads.archiver.header import primary_cards
from workloads.common.errors import AwayError, NonRetriableError, RetriableError
from workloads.common.names import ExposureName, RawName
from workloads.common.raw import encode_raw
from workloads.common.s3 import Store
from workloads.common.settings import Settings
from workloads.common.visit import EndReadout
from workloads.data_backbone.arrivals import Arrival
from workloads.data_backbone.repository import RAW_RUN, ensure_repository
from workloads.data_backbone.writer import Writer
from workloads.pixels import simulator
from workloads.prompt_processing.apdb import AlertDatabase

SITE, BUCKET, DETECTOR = "ncsa", "raw", 94
REGION = Circle(UnitVector3d(LonLat.fromDegrees(10.05, -19.95)), Angle.fromDegrees(0.2))


@dataclass
class Ways:
    """PostgreSQL and a store behind relays, and the settings of workloads that know only those."""

    database: Relay
    store: Relay
    miniature: Miniature

    def settings(self, principal: str) -> Settings:
        """Return what a principal is told."""
        direct = self.miniature.settings(principal, SITE)
        site = yaml.safe_load(Path(direct["DPP_SITE_FILE"]).read_text())
        for one in site["databases"].values():
            one["port"] = self.database.port
        site["object_stores"][SITE]["endpoint"] = f"http://127.0.0.1:{self.store.port}"
        behind = self.miniature.folder / f"behind-{principal}.yml"
        behind.write_text(yaml.safe_dump(site))
        return Settings(behind, Path(direct["DPP_SECRETS"]), Path(direct["DPP_CA"]))

    @property
    def repository(self) -> str:
        """Where the Butler's files are."""
        return str(self.miniature.folder / "repository")


@pytest.fixture(scope="module")
def ways() -> Iterator[Ways]:
    with bare("away", "versitygw") as miniature:
        miniature.start_database()
        miniature.start_store(SITE, notifies=False)
        with Relay(miniature.database_port) as database, Relay(miniature.store_ports[SITE]) as store:
            yield Ways(database, store, miniature)


def at_every_message(relay: Relay, begin: Callable[[], Callable[[], None]]) -> int:
    """Do pieces of work, each broken off at another message, and again when the way is mended; return how many.

    What changes something is broken off before the server has it and, once more, after that. `begin` returns a new piece of
    work, which may be repeated. One may take fewer messages than the first did, where two of them come at once: it is whole
    then when the last ones are waited for.
    """
    begin()()  # the first learns what later ones remember
    relay.mend()
    begin()()
    messages = relay.messages
    changes = [number for number, data in enumerate(messages, 1) if b"COMMIT" in data or data.startswith(b"PUT ")]
    places = [*((number, False) for number in range(1, len(messages) + 1)), *((number, True) for number in changes)]
    for number, answered in places:
        work = begin()
        relay.break_at(number, answered=answered)
        try:
            work()
        except AwayError:
            assert relay.broken
        else:
            assert not relay.broken, f"message {number} of {len(messages)} was lost, and nobody noticed"
        finally:
            relay.mend()
        work()
    return len(places) + 2


def _sources(visit: int) -> pd.DataFrame:
    numbers = np.arange(3)
    zeros = dict.fromkeys(("ixx", "iyy", "ixy", "trailNdata", "dipoleNdata"), 0)
    ones = dict.fromkeys(
        ("raErr", "decErr", "x", "y", "xErr", "yErr", "apFlux", "apFluxErr", "psfFlux", "psfFluxErr"), 1.0
    )
    more = dict.fromkeys(("psfChi2", "scienceFlux", "scienceFluxErr", "templateFlux", "snr", "exposureTime"), 1.0)
    flags = [f"pixelFlags_{name}" for name in ("bad", "cr", "interpolated", "saturated")]
    no = dict.fromkeys(("isNegative", "isDipole", *flags), False)
    own = {
        "diaSourceId": 1000 * visit + numbers,
        "visit": visit,
        "detector": DETECTOR,
        "band": "r",
        "psfNdata": 9,
        "bboxSize": 3,
    }
    place = {
        "ra": 10 + 0.01 * numbers,
        "dec": -20 + 0.01 * numbers,
        "midpointMjdTai": 61000.0 + visit,
        "timeProcessedMjdTai": 61000.0,
    }
    return pd.DataFrame(own | place | zeros | ones | more | no)


def test_an_alert_database_that_goes_away_has_every_source_once(ways: Ways) -> None:
    database, visits = AlertDatabase(ways.settings("prompt-processing")), iter(range(1, 1000))

    def begin() -> Callable[[], None]:
        visit = next(visits)
        time = astropy.time.Time(61000.0 + visit, format="mjd", scale="tai")

        def work() -> None:
            if not database.has(visit, DETECTOR):
                database.store(database.associate(_sources(visit), REGION, time))

        return work

    done = at_every_message(ways.database, begin)
    assert done > 20
    direct = f"postgresql+psycopg2://postgres@127.0.0.1:{ways.miniature.database_port}/apdb"
    with sqlalchemy.create_engine(direct).connect() as connection:
        found = connection.execute(sqlalchemy.text('SELECT visit, count(*) FROM "DiaSource" GROUP BY visit')).all()
    assert sorted(tuple(row) for row in found) == [(visit, 3) for visit in range(1, done + 1)]


def test_rows_that_the_alert_database_refuses_are_no_reason_to_wait(ways: Ways) -> None:
    database = AlertDatabase(ways.settings("prompt-processing"))
    time = astropy.time.Time(62000.0, format="mjd", scale="tai")
    rows = database.associate(_sources(2000), REGION, time)
    with pytest.raises(NonRetriableError, match="alert database refused its rows: null value in column"):
        database.store(replace(rows, objects=rows.objects.assign(nDiaSources=None)))


def test_rows_that_came_first_are_a_reason_to_associate_anew(ways: Ways) -> None:
    database = AlertDatabase(ways.settings("prompt-processing"))
    time = astropy.time.Time(62100.0, format="mjd", scale="tai")
    rows = database.associate(_sources(2100), REGION, time)
    database.store(rows)
    with pytest.raises(
        RetriableError, match="rows of the same objects came first, to be associated anew: duplicate key"
    ):
        database.store(rows)
    later = astropy.time.Time(62101.0, format="mjd", scale="tai")
    again = database.associate(_sources(2101), REGION, later)
    database.store(again)
    assert again.objects["nDiaSources"].tolist() == (rows.objects["nDiaSources"] + 1).tolist()


CAMERA = simulator.Camera(1, 1, 256)
LAYOUT = CAMERA.layout(0)
FLAT = simulator.flat_frame(CAMERA, 0, 1)


def _raw(name: ExposureName, number: int) -> bytes:
    begun = 1.8e9 + 40 * name.seq_num
    event = EndReadout(
        imageName=name.obs_id, imageDate=str(name.day_obs), imageNumber=name.seq_num, requestedExposureTime=30.0,
        timestampAcquisitionStart=begun, timestampEndOfReadout=begun + 32, additionalKeys="groupId", additionalValues=name.obs_id,
    )  # fmt: skip
    place = CAMERA.wcs(0, 10.0, -20.0).to_header()
    own = {"DETNUM": (number, ""), "EXPTIME": (30.0, ""), **place}
    return encode_raw(FLAT, LAYOUT, primary_cards(event, LAYOUT.name, own))


@pytest.mark.parametrize("gone", ["database", "store"])
def test_an_archive_that_goes_away_has_every_exposure_once(ways: Ways, gone: str) -> None:
    settings = ways.settings("data-backbone")
    writer = Writer(ensure_repository(settings, root=ways.repository), Store(settings, SITE, BUCKET))
    detector = settings.site.detector(LAYOUT.name).id
    day, numbers = {"database": 20260101, "store": 20260102}[gone], iter(range(1, 1000))
    camera = ways.miniature.s3(SITE)

    def begin() -> Callable[[], None]:
        name = RawName(ExposureName(day, next(numbers)), LAYOUT.name)
        camera.put_object(Bucket=BUCKET, Key=name.key, Body=_raw(name.exposure, detector))

        def work() -> None:
            good, bad = writer.write([Arrival(name, 0.0, "notification")])
            assert (len(good), bad) == (1, [])

        return work

    done = at_every_message(getattr(ways, gone), begin)
    assert done > {"database": 50, "store": 3}[gone]
    exposures = {ExposureName(day, number).exposure_id for number in range(1, done + 1)}
    assert {exposure for exposure, _ in writer.known(day)} == exposures
    archive = Butler.from_config(ways.repository, collections=RAW_RUN, instrument="LSSTCam")
    visits = archive.query_dimension_records("visit", where=f"day_obs = {day}", limit=None)
    assert {record.id for record in visits} == exposures


def test_a_repository_whose_making_was_cut_short_is_made_again(ways: Ways) -> None:
    ensure_repository(ways.settings("data-backbone"), root=ways.repository)
    engine = sqlalchemy.create_engine(ways.settings("data-backbone").database_url("butler"))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("DELETE FROM butler_attributes WHERE name = 'config:dimensions.json'"))
    ensure_repository(ways.settings("data-backbone"), root=ways.repository)
    assert Butler.from_config(ways.repository).registry.getDatasetType("raw")


def test_a_repository_that_was_made_is_not_made_again_beside_it(ways: Ways, tmp_path: Path) -> None:
    ensure_repository(ways.settings("data-backbone"), root=ways.repository)
    with pytest.raises(FileNotFoundError, match=r"butler\.yaml"):
        ensure_repository(ways.settings("data-backbone"), root=str(tmp_path))
    assert Butler.from_config(ways.repository).registry.getDatasetType("raw")
