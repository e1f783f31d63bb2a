"""What the camera reads out, whatever the sky is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from workloads.common.plan import Field
from workloads.pixels.layout import DetectorLayout


@dataclass(frozen=True)
class Frame:
    """One detector of one exposure.

    Parameters
    ----------
    detector
        Its name, Rnn_Snn.
    pixels
        Counts, ``uint16[amplifiers, rows, columns]`` in readout order.
    layout
        Geometry.
    cards
        Keywords that come from the camera and the telescope: value and comment.
    truth
        One row per injected or variable source: id, ra, dec, x, y, flux_njy, flux_e, kind, snr, masked.
    """

    detector: str
    pixels: npt.NDArray[np.uint16]
    layout: DetectorLayout
    cards: dict[str, tuple[Any, str]]
    truth: list[dict[str, Any]] = field(default_factory=list)


class Sky(Protocol):
    """Something to expose."""

    @property
    def name(self) -> str:
        """What the night's records call it."""

    @property
    def detectors(self) -> list[str]:
        """Names of the detectors that see it."""

    def describe(self) -> dict[str, Any]:
        """Return what else the night's records say about it."""

    def field(self, visit: int) -> Field:
        """Return where visit number `visit` (from 0) points."""

    def expose(self, visit: int, detectors: list[str], mjd: float) -> Iterator[Frame]:
        """Yield the frames of a visit; `mjd` is TAI days."""
