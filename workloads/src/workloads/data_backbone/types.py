"""Types of datasets that the Butler stores for this instrument."""

from __future__ import annotations

from dataclasses import dataclass

from astropy.io.fits import Header

from workloads.common.raw import RawPixels
from workloads.pixels.layout import DetectorLayout


@dataclass(frozen=True)
class RawExposure:
    """One detector as read out: counts in readout order, geometry, primary header."""

    pixels: RawPixels
    layout: DetectorLayout
    header: Header
