"""What the observatory looks at: three fields, visited in turn, and the calibration frames taken before a night."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

EXPOSURE_SECONDS = 30.0
FILTER = "r"
SKY_PREFIX = "sky-"
"""How the name of a field begins whose exposures are real ones, replayed."""


@dataclass(frozen=True)
class Field:
    """A place on the sky (ICRS, degrees) with a number that is the tract of its templates in a sky map."""

    number: int
    name: str
    ra: float
    dec: float
    skymap: str = "lab-fields"
    band: str = FILTER

    @property
    def replayed(self) -> str:
        """Name of the replayed sky, which has calibrations and templates of its own; empty for a simulated field."""
        return self.name if self.name.startswith(SKY_PREFIX) else ""


FIELDS = (
    Field(1, "fornax", 54.616, -35.45),
    Field(2, "cosmos", 150.1163, 2.2058),
    Field(3, "elais-s1", 9.45, -44.0),
)


def field_at(ra: float, dec: float, target: str = "", band: str = FILTER, tolerance: float = 0.05) -> Field | None:
    """Return the field whose centre lies within `tolerance` degrees of a position, seen in `band`, if there is one.

    A replayed sky is wherever its exposures are: it is known by its name, `target`.
    """
    if target.startswith(SKY_PREFIX):
        return Field(1, target, ra, dec, target, band)
    for field in FIELDS:
        if separation(field.ra, field.dec, ra, dec) < tolerance:
            return replace(field, band=band)
    return None


def separation(ra: float, dec: float, other_ra: float, other_dec: float) -> float:
    """Return the angle between two positions, all in degrees: on the sphere, so that neither 0 h nor a pole is an edge."""
    half_dec, half_ra = math.radians(other_dec - dec) / 2, math.radians(other_ra - ra) / 2
    along = math.cos(math.radians(dec)) * math.cos(math.radians(other_dec))
    return math.degrees(
        2 * math.asin(min(1.0, math.hypot(math.sin(half_dec), math.sqrt(abs(along)) * math.sin(half_ra))))
    )
