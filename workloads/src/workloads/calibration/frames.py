"""The exposures before a night: bias, dark and flat frames, and epochs of every field without anything new in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from workloads.archiver.header import Cards, primary_cards
from workloads.camera.epochs import EPOCHS, conditions_of
from workloads.common.names import ExposureName
from workloads.common.plan import EXPOSURE_SECONDS, FIELDS, FILTER, Field
from workloads.common.raw import encode_raw
from workloads.common.settings import Camera as CameraSettings
from workloads.common.settings import Detector
from workloads.common.times import from_iso
from workloads.common.visit import EndReadout, join_colons
from workloads.data_backbone.fields import field_records
from workloads.pixels import simulator

DAY_OBS = 20260101
DARK_SECONDS = 300.0
COUNTS = {"BIAS": 5, "DARK": 3, "FLAT": 5}
_FIRST_SEQ = {"BIAS": 1, "DARK": 101, "FLAT": 201, "OBJECT": 1001}
_SECONDS = {"BIAS": 0.0, "DARK": DARK_SECONDS, "FLAT": 5.0, "OBJECT": EXPOSURE_SECONDS}


@dataclass(frozen=True)
class CalibrationFrame:
    """One detector of one exposure as a raw file."""

    exposure: ExposureName
    detector: Detector
    data: bytes


class PreNight:
    """Exposures of the instance's camera; the same for the same settings.

    Parameters
    ----------
    settings
        The camera.
    """

    sky = ""
    """Name of a replayed sky; empty for the simulated fields."""
    fields: tuple[Field, ...] = FIELDS
    """What needs templates."""

    def __init__(self, settings: CameraSettings) -> None:
        self._settings = settings
        self.detectors = settings.detectors
        self.camera = simulator.Camera(settings.seed, len(settings.detectors), settings.size)

    def places(self) -> dict[str, list[dict[str, Any]]]:
        """Return the records of the sky map, its tracts and patches."""
        return field_records(self._settings.detectors, self._settings.size)

    def electronics(self, index: int) -> dict[str, Any]:
        """Return linearity and crosstalk of a detector as the bench measured them."""
        truth = self.camera.truth(index)
        return {"linearity": np.asarray(truth.linearity).tolist(), "crosstalk": np.asarray(truth.crosstalk).tolist()}

    def reference(self, field: Field) -> np.ndarray[Any, Any]:
        """Return the catalogue of a field's stars: ra, dec (degrees), flux_njy, with a survey's errors."""
        sky = self.camera.static_sky(field.ra, field.dec)
        stars = sky[sky["kind"] == 0]
        rng = np.random.default_rng([self._settings.seed, field.number, 77])
        table = np.zeros(len(stars), [("ra", "f8"), ("dec", "f8"), ("flux_njy", "f8")])
        error_deg = 0.005 / 3600
        table["ra"] = stars["ra"] + rng.normal(0, error_deg, len(stars)) / np.cos(np.radians(stars["dec"]))
        table["dec"] = stars["dec"] + rng.normal(0, error_deg, len(stars))
        table["flux_njy"] = stars["flux_njy"] * rng.normal(1.0, 0.005, len(stars))
        return table

    def calibration_frames(self, index: int) -> Iterator[CalibrationFrame]:
        """Yield bias, dark and flat frames of one detector."""
        makers = {
            "BIAS": lambda seed: simulator.bias_frame(self.camera, index, seed),
            "DARK": lambda seed: simulator.dark_frame(self.camera, index, seed, DARK_SECONDS),
            "FLAT": lambda seed: simulator.flat_frame(self.camera, index, seed),
        }
        for kind, make in makers.items():
            for number in range(COUNTS[kind]):
                name = ExposureName(DAY_OBS, _FIRST_SEQ[kind] + number)
                yield self._frame(name, kind, index, make(self._settings.seed % 100000 + 1000 * number))

    def field_frames(self, field: Field, index: int) -> Iterator[CalibrationFrame]:
        """Yield the template epochs of one field and detector."""
        sky = self.camera.static_sky(field.ra, field.dec)
        for epoch in range(EPOCHS):
            number = field.number * 100 + epoch
            conditions = conditions_of(self._settings.seed, field, epoch)
            exposure = simulator.expose(
                self.camera,
                index,
                field.ra,
                field.dec,
                conditions,
                sky,
                None,
                EXPOSURE_SECONDS,
                61000.0 + number,
                satellite=False,
            )
            name = ExposureName(DAY_OBS, _FIRST_SEQ["OBJECT"] + number)
            yield self._frame(name, "OBJECT", index, exposure.raw, dict(exposure.wcs.to_header()))

    def _frame(
        self, name: ExposureName, kind: str, index: int, pixels: Any, sky: Cards | None = None, band: str = FILTER
    ) -> CalibrationFrame:
        detector = self.detectors[index]
        keys = {"groupId": f"{name.obs_id}", "sensors": detector.name, "imageType": kind, "filter": band}
        begin = from_iso("2026-01-02T00:00:00.000") + 400.0 * name.seq_num
        event = EndReadout(
            imageName=name.obs_id, imageDate=str(name.day_obs), imageNumber=name.seq_num, requestedExposureTime=_SECONDS[kind],
            timestampAcquisitionStart=begin, timestampEndOfReadout=begin + _SECONDS[kind] + 2.0,
            additionalKeys=join_colons(list(keys)), additionalValues=join_colons(list(keys.values())),
        )  # fmt: skip
        own = {
            "DETNUM": (detector.id, "number of the detector"),
            "EXPTIME": (_SECONDS[kind], "[s]"),
            **(sky or {}),
        }
        cards = primary_cards(event, detector.name, own)
        return CalibrationFrame(name, detector, encode_raw(pixels, self.camera.layout(index), cards))
