"""Odd exposures in a real registry: what the records say is what the Butler takes."""

from __future__ import annotations

import pytest
from lsst.daf.butler import Butler, CollectionType

from unit.workloads.test_odd_exposures import NAME, header
from workloads.common.settings import Camera
from workloads.data_backbone.arrivals import Arrival
from workloads.data_backbone.repository import RAW_RUN, prepare, repository_config
from workloads.data_backbone.writer import Verified, Writer


class Settings:
    """What `prepare` asks of a workload's settings."""

    class site:  # noqa: N801 - as the settings have it
        camera = Camera()


@pytest.fixture(scope="module")
def butler(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("repository"))
    Butler.makeRepo(root, config=repository_config())
    made = Butler.from_config(root, writeable=True)
    prepare(made, Settings())
    made.collections.register(RAW_RUN, CollectionType.RUN)
    return made


@pytest.mark.parametrize(
    ("number", "changes", "band", "visit"),
    [
        (1, {"IMGTYPE": "BIAS", "GROUPID": None, "FILTER": "none", "CTYPE1": None}, "white", False),
        (2, {"IMGTYPE": "FLAT", "GROUPID": "g" * 90, "FILTER": "SDSSi~empty", "CTYPE1": None}, "i", False),
        (3, {"FILTER": "a filter that nobody has defined at all"}, "unknown", True),
        (4, {"FILTER": "r_57"}, "r", True),
        (5, {"FILTER": None, "OBJECT": None, "CRVAL1": "east"}, "unknown", False),
        (6, {"IMGTYPE": "A_TYPE_OF_MANY_MORE_LETTERS", "OBJECT": "o" * 90}, "unknown", False),
    ],
)
def test_odd_exposures_are_ingested(butler, monkeypatch, number, changes, band, visit):
    made = header(EXPID=2026112200000 + number, OBSID=f"MC_O_20261122_{number:06d}", SEQNUM=number, **changes)
    writer = Writer(butler, None)
    monkeypatch.setattr(writer, "_insert_datasets", lambda _: None)  # the file itself is none of this test
    file = Verified(Arrival(NAME, 0.0, "notification"), made, "", 0, 0.0, 0.0)
    for again in (writer, Writer(butler, None)):
        monkeypatch.setattr(again, "_insert_datasets", lambda _: None)
        again._ingest([file])
    exposure = 2026112200000 + number
    (record,) = butler.query_dimension_records("exposure", instrument="LSSTCam", exposure=exposure)
    assert butler.registry.expandDataId(instrument="LSSTCam", exposure=exposure)["band"] == band
    assert record.obs_id == made["OBSID"]
    visits = butler.query_dimension_records("visit", instrument="LSSTCam", visit=exposure, explain=False)
    assert (len(visits) == 1) is visit
    assert file.message(94)["groupId"] == record.group
