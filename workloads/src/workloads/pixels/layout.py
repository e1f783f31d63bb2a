"""Geometry of a detector: which amplifier reads which pixels, in which order."""

from __future__ import annotations

from dataclasses import dataclass

from workloads.pixels.errors import InvalidValueError


@dataclass(frozen=True)
class Amplifier:
    """One readout channel.

    Parameters
    ----------
    name
        Channel name (``C00``).
    x0, y0
        First detector pixel of its section.
    flip_x, flip_y
        Whether readout order runs against the detector's axes.
    gain
        Electrons per ADU.
    read_noise
        Electrons.
    saturation
        ADU, pedestal included, from which a pixel counts as saturated.
    """

    name: str
    x0: int
    y0: int
    flip_x: bool
    flip_y: bool
    gain: float
    read_noise: float
    saturation: float


@dataclass(frozen=True)
class DetectorLayout:
    """A detector as a grid of equal amplifiers, each with prescan and overscan columns."""

    name: str
    detector: int
    width: int
    height: int
    amplifiers: tuple[Amplifier, ...]
    amp_width: int
    amp_height: int
    prescan: int
    overscan: int

    def __post_init__(self) -> None:
        if len(self.amplifiers) * self.amp_width * self.amp_height != self.width * self.height:
            raise InvalidValueError(
                f"layout {self.name}",
                "amplifiers that do not tile the detector",
                f"{self.width} x {self.height} pixels",
            )
        for amplifier in self.amplifiers:
            if not (amplifier.gain > 0 and amplifier.read_noise >= 0):
                raise InvalidValueError(f"amplifier {amplifier.name}", "a gain or read noise out of range", "gain > 0")

    @property
    def raw_shape(self) -> tuple[int, int, int]:
        """Amplifiers, rows and columns of a raw exposure."""
        return len(self.amplifiers), self.amp_height, self.prescan + self.amp_width + self.overscan
