"""Objects are looked for where the pixels really are, however far that is from where the header says."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from lsst.sphgeom import LonLat, UnitVector3d

from unit.workloads.test_odd_exposures import NAME, header
from unit.workloads.test_odd_headers import LAYOUT, PIXELS
from workloads.common.raw import encode_raw
from workloads.common.settings import science_raft
from workloads.data_backbone.instrument import detector_region
from workloads.pixels.wcs import Wcs
from workloads.prompt_processing import worker as module
from workloads.prompt_processing.worker import Worker


class Database:
    """An alert database that notes where it was asked."""

    def associate(self, _: Any, region: Any, __: Any) -> None:
        self.region = region
        raise KeyboardInterrupt  # the rest of the way is none of this test


@pytest.mark.parametrize("error", [(0.0, 0.0), (90.0, 0.0), (-30.0, 200.0), (0.0, -400.0)])
def test_the_region_is_that_of_the_measured_place(monkeypatch: pytest.MonkeyPatch, error: tuple[float, float]) -> None:
    made = header(DETNUM=LAYOUT.detector, RAFTBAY=LAYOUT.name[:3], CCDSLOT=LAYOUT.name[4:])
    said = Wcs.from_header(made)
    measured = replace(said, crpix=(said.crpix[0] + error[0], said.crpix[1] + error[1]))
    data = encode_raw(PIXELS, LAYOUT, {key: (value, "") for key, value in made.items() if not key.startswith("DET")} | {"DETNUM": (LAYOUT.detector, "")})  # fmt: skip
    worker = Worker.__new__(Worker)
    worker._apdb = Database()  # type: ignore[assignment]
    worker._packets = SimpleNamespace(load=lambda *_: None)  # type: ignore[assignment]
    worker._store = SimpleNamespace(get=lambda *_: data)  # type: ignore[assignment]
    inputs = SimpleNamespace(calibration=lambda _: None, template=lambda _: None)
    lease: Any = SimpleNamespace(detector=science_raft()[4], inputs=inputs)
    worker._task = SimpleNamespace(run=lambda *_: SimpleNamespace(result=SimpleNamespace(wcs=measured), quality={}))  # type: ignore[assignment]
    monkeypatch.setattr(module, "dia_sources", lambda *_: pd.DataFrame([{"diaSourceId": 1}]))
    with pytest.raises(KeyboardInterrupt):
        worker._result(lease, NAME.exposure, {"obsId": NAME.exposure.obs_id, "uri": "s3://raw/x"}, 0)
    corners = [
        (0.0, 0.0),
        (LAYOUT.width - 1.0, 0.0),
        (0.0, LAYOUT.height - 1.0),
        (LAYOUT.width - 1.0, LAYOUT.height - 1.0),
    ]
    places = [measured.pixel_to_sky([x], [y]) for x, y in corners]
    seen = [UnitVector3d(LonLat.fromDegrees(float(ra[0]), float(dec[0]))) for ra, dec in places]
    assert all(worker._apdb.region.contains(place) for place in seen)  # type: ignore[attr-defined]
    if any(error):
        made["DETWID"], made["DETHEI"] = LAYOUT.width, LAYOUT.height
        assert not all(detector_region(made).contains(place) for place in seen), (
            "where the header says, some are not found"
        )
