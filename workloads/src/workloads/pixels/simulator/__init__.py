"""Detectors that do not exist: seeded, with the truth kept beside them."""

from workloads.pixels.simulator.camera import Camera
from workloads.pixels.simulator.exposures import Exposure, bias_frame, charge_of_stars, dark_frame, expose, flat_frame
from workloads.pixels.simulator.skies import Conditions, conditions, flux_at, transients

__all__ = [
    "Camera",
    "Conditions",
    "Exposure",
    "bias_frame",
    "charge_of_stars",
    "conditions",
    "dark_frame",
    "expose",
    "flat_frame",
    "flux_at",
    "transients",
]
