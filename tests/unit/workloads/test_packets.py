"""Alert packets of one detector: what the stock reader finds in them is what was measured."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from lsst.alert.packet import Schema

from workloads.common.avro import unframe
from workloads.pixels import calibration, chain, coadd, simulator
from workloads.pixels.chain import DifferenceResult
from workloads.prompt_processing.packets import CUTOUT_PIXELS, PacketMaker
from workloads.prompt_processing.sources import dia_sources

HEADER = fits.Header({"EXPID": 2026112200001, "MJD-BEG": 61000.1, "MJD-END": 61000.2, "EXPTIME": 30.0, "FILTER": "r"})
SIZE = 512


@pytest.fixture(scope="module")
def result() -> DifferenceResult:
    camera = simulator.Camera(1, 1, SIZE)
    layout, truth = camera.layout(0), camera.truth(0)
    frames = [
        [make(camera, 0, seed) for seed in range(3)]
        for make in (simulator.bias_frame, simulator.dark_frame, simulator.flat_frame)
    ]
    built = calibration.build_calibration(*frames, layout, 300.0, linearity=truth.linearity, crosstalk=truth.crosstalk)
    sky = camera.static_sky(10.0, -20.0)
    stars = sky[sky["kind"] == 0]
    events = simulator.transients(1, camera, 10.0, -20.0, sky=sky)
    still = [simulator.expose(camera, 0, 10.0, -20.0, simulator.conditions(1, visit), sky, None) for visit in (0, 1)]
    epochs = [chain.process_science(one.raw, layout, built, one.wcs, 30.0, reference=stars) for one in still]
    template = coadd.build_template(epochs, still[0].wcs)
    changed = simulator.expose(camera, 0, 10.0, -20.0, simulator.conditions(1, 2), sky, events)
    return chain.process_difference(changed.raw, layout, built, template, changed.wcs, 30.0)


@pytest.fixture(scope="module")
def sources(result: DifferenceResult) -> pd.DataFrame:
    found = dia_sources(result, HEADER, 0)
    return found.assign(diaObjectId=found["diaSourceId"] + 1)


@pytest.fixture(scope="module")
def alerts(result: DifferenceResult, sources: pd.DataFrame) -> list[dict[str, Any]]:
    known = sources[["diaObjectId", "ra", "dec"]].assign(
        nDiaSources=2,
        validityStartMjdTai=61000.1,
        firstDiaSourceMjdTai=61000.0,
        lastDiaSourceMjdTai=61000.1,
        raErr=np.nan,
    )
    objects = known.assign(**dict.fromkeys([f"{band}_psfFluxNdata" for band in "ugrizy"], 2))[::-1]
    past = sources.iloc[0].to_dict() | {"diaSourceId": 7, "ssObjectId": None, "psfChi2": np.nan}
    history = {int(sources["diaObjectId"].iloc[0]): [past, past | {"diaSourceId": 8}]}
    messages = PacketMaker().make(sources, objects, history, result, "cosmos")
    assert list(messages) == sources["diaSourceId"].tolist()
    schema = Schema.from_file().definition
    found = []
    for message in messages.values():
        number, payload = unframe(message)
        assert number == 1101
        found.append(fastavro.schemaless_reader(io.BytesIO(payload), schema, None))
    return found


def test_every_source_has_its_packet(alerts: list[dict[str, Any]], sources: pd.DataFrame) -> None:
    assert len(alerts) == len(sources) > 2
    for alert, (_, row) in zip(alerts, sources.iterrows(), strict=True):
        assert alert["diaSource"]["diaSourceId"] == alert["diaSourceId"] == row["diaSourceId"]
        assert alert["diaObject"]["diaObjectId"] == row["diaObjectId"]
        assert alert["diaObject"]["ra"] == row["ra"]
        assert alert["diaSource"]["psfFlux"] == np.float32(row["psfFlux"])
        assert alert["diaSource"]["band"] == "r"
        assert (alert["target_name"], alert["ssSource"], alert["diaObject"]["raErr"]) == ("cosmos", None, None)


def test_former_sources_of_an_object_are_in_its_packet_alone(alerts: list[dict[str, Any]]) -> None:
    first, *others = alerts
    assert [one["diaSourceId"] for one in first["prvDiaSources"]] == [7, 8]
    assert first["prvDiaSources"][0]["psfChi2"] is None
    assert first["prvDiaSources"][0]["psfFlux"] == first["diaSource"]["psfFlux"]
    assert all(other["prvDiaSources"] is None for other in others)


@pytest.mark.parametrize("which", ["Difference", "Science", "Template"])
def test_cutouts_show_the_source_where_it_is(
    alerts: list[dict[str, Any]], result: DifferenceResult, which: str
) -> None:
    image = {"Difference": result.difference, "Science": result.science, "Template": result.template}[which].pixels
    for alert in alerts:
        with fits.open(io.BytesIO(alert[f"cutout{which}"])) as hdus:
            hdus.verify("exception")
            stamp, wcs = hdus[0].data, WCS(hdus[0].header)
            assert hdus[0].header["BUNIT"] == "nJy"
        x, y = wcs.world_to_pixel_values(alert["diaSource"]["ra"], alert["diaSource"]["dec"])
        assert np.hypot(x - CUTOUT_PIXELS // 2, y - CUTOUT_PIXELS // 2) < 0.8
        u, v = round(alert["diaSource"]["x"]), round(alert["diaSource"]["y"])
        assert stamp[CUTOUT_PIXELS // 2, CUTOUT_PIXELS // 2] == pytest.approx(
            image[v, u] * result.nanojansky_per_electron, rel=1e-5, nan_ok=True
        )


def test_no_source_is_no_packet(result: DifferenceResult, sources: pd.DataFrame) -> None:
    assert PacketMaker().make(sources[:0], pd.DataFrame(), {}, result, "cosmos") == {}
