"""One small camera, its calibration and a template, made once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from workloads.pixels import calibration, chain, coadd, simulator

RA, DEC = 150.0, -30.0


@dataclass
class Field:
    camera: Any
    layout: Any
    truth: Any
    calibration: Any
    sky: Any
    reference: Any

    def expose(self, night, visit, events=None, **changes):
        conditions = simulator.conditions(night, visit)
        if changes:
            conditions = type(conditions)(**{**vars(conditions), **changes})
        return simulator.expose(
            self.camera, 0, RA, DEC, conditions, self.sky, events, mjd=61000.0 + visit, satellite=False
        )

    def science(self, exposure):
        return chain.process_science(
            exposure.raw, self.layout, self.calibration, exposure.wcs, 30.0, reference=self.reference
        )


@pytest.fixture(scope="session")
def field():
    camera = simulator.Camera(21, 1, 768)
    layout, truth = camera.layout(0), camera.truth(0)
    frames = [
        [make(camera, 0, seed) for seed in range(7)]
        for make in (simulator.bias_frame, simulator.dark_frame, simulator.flat_frame)
    ]
    built = calibration.build_calibration(*frames, layout, 300.0, linearity=truth.linearity, crosstalk=truth.crosstalk)
    sky = camera.static_sky(RA, DEC, stars=320)
    return Field(camera, layout, truth, built, sky, sky[sky["kind"] == 0])


@pytest.fixture(scope="session")
def template(field):
    seeings = (3.6, 3.7, 3.5, 3.8)
    results = [field.science(field.expose(900, i, seeing_px=s)) for i, s in enumerate(seeings)]
    return coadd.build_template(results, field.camera.wcs(0, RA, DEC))


@pytest.fixture
def rng():
    return np.random.default_rng(5)
