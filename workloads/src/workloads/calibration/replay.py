"""The exposures before a night over a replayed sky: this camera's calibration frames in its size, and the template's epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from workloads.calibration.frames import DAY_OBS, CalibrationFrame, PreNight
from workloads.camera.exposures import RealSky
from workloads.camera.replay import NANOJANSKY_PER_ELECTRON, camera_of, detector_of, expose_light, measure
from workloads.common.names import ExposureName
from workloads.common.plan import Field
from workloads.common.settings import Camera as CameraSettings
from workloads.data_backbone.fields import replayed_records

_FIRST_SEQ = 2001


class ReplayedPreNight(PreNight):
    """Calibration frames of the replayed detector, and the template exposures of a real sky.

    Parameters
    ----------
    settings
        The camera.
    sky
        The exposures.
    """

    def __init__(self, settings: CameraSettings, sky: RealSky) -> None:
        super().__init__(settings)
        self._sky = sky
        self.sky = sky.name
        self.fields = (sky.field,)
        self.detectors = [detector_of(settings)]
        self.camera = camera_of(settings, sky)

    def places(self) -> dict[str, list[dict[str, Any]]]:
        """Return the records of the sky's own map."""
        return replayed_records(self._sky.field, self._sky.template[0].wcs, self._sky.size, self.detectors[0])

    def reference(self, field: Field) -> np.ndarray[Any, Any]:  # noqa: ARG002 - there is only one
        """Return the sources of the first template exposure as catalogue: positions by its header, fluxes on its scale."""
        first = self._sky.template[0]
        sources = measure(first).sources
        table = np.zeros(len(sources), [("ra", "f8"), ("dec", "f8"), ("flux_njy", "f8")])
        table["ra"], table["dec"] = first.wcs.pixel_to_sky(sources["x"], sources["y"])
        table["flux_njy"] = sources["psf_flux"] * NANOJANSKY_PER_ELECTRON
        return table

    def field_frames(self, field: Field, index: int) -> Iterator[CalibrationFrame]:
        """Yield the template exposures."""
        for number, exposure in enumerate(self._sky.template):
            light = exposure.electrons + np.float32(exposure.sky)
            raw = expose_light(self.camera, light, (self._settings.seed, number, 2))
            cards = {"OBJECT": (field.name, "replayed sky"), **exposure.wcs.to_header()}
            yield self._frame(ExposureName(DAY_OBS, _FIRST_SEQ + number), "OBJECT", index, raw, cards, field.band)
