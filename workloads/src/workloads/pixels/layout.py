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

    @property
    def strips(self) -> list[tuple[int, int, int]]:
        """Amplifiers in the order of the detector's rows: index, first and last column (exclusive) of the strip.

        A strip is a run of neighbours that are read out in the same direction: in one readout row they fill consecutive
        columns of one row of the detector.
        """
        order = sorted(range(len(self.amplifiers)), key=self._place)
        runs: list[list[int]] = []
        for index in order:
            y0, flip, x0 = self._place(index)
            if runs and self._place(runs[-1][-1]) == (y0, flip, x0 - self.amp_width):
                runs[-1].append(index)
            else:
                runs.append([index])
        edges = [(self.amplifiers[run[0]].x0, self.amplifiers[run[-1]].x0 + self.amp_width) for run in runs]
        return [(index, *edge) for run, edge in zip(runs, edges, strict=True) for index in run]

    def section(self, index: int) -> tuple[slice, slice]:
        """Rows and columns of the detector that an amplifier reads."""
        a = self.amplifiers[index]
        return slice(a.y0, a.y0 + self.amp_height), slice(a.x0, a.x0 + self.amp_width)

    def _place(self, index: int) -> tuple[int, bool, int]:
        a = self.amplifiers[index]
        return a.y0, a.flip_y, a.x0
