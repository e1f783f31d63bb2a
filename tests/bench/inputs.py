"""Inputs from one seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from workloads.pixels import simulator
from workloads.pixels.images import Table
from workloads.pixels.isr import Calibration
from workloads.pixels.simulator.exposures import Exposure


@dataclass(frozen=True)
class Detector:
    """A raw detector with calibration and a template epoch."""

    exposure: Exposure
    template: Exposure
    calibration: Calibration
    sky: Table


@cache
def detector(size: int, seeing: float = 4.0, template_seeing: float = 3.6) -> Detector:
    """Simulate a detector of a field; calibrations are the true ones, with noise."""
    camera = simulator.Camera(11, 1, size)
    sky = camera.static_sky(150.0, -30.0)
    events = simulator.transients(5, camera, 150.0, -30.0, 40.0 * (size / 4096) ** 2 + 10, sky=sky)
    base = replace(simulator.conditions(5, 1), pointing_px=(0.0, 0.0))
    science = simulator.expose(camera, 0, 150.0, -30.0, replace(base, seeing_px=seeing), sky, events)
    other = replace(base, seed=base.seed + 1, seeing_px=template_seeing, sky_e=1000.0)
    template = simulator.expose(camera, 0, 150.0, -30.0, other, sky)
    truth = camera.truth(0)
    noise = np.random.default_rng(3).normal(0, 1, truth.bias.shape).astype(np.float32)
    calibration = Calibration(
        truth.bias + np.float32(0.5) * noise,
        truth.dark,
        truth.flat * (1 + np.float32(1e-3) * noise),
        truth.defects,
        truth.linearity.astype(np.float32),
        truth.crosstalk.astype(np.float32),
    )
    return Detector(science, template, calibration, sky)
