"""What the observatory looks at: three fields, visited in turn, and the calibration frames taken before a night."""

from __future__ import annotations

from dataclasses import dataclass

EXPOSURE_SECONDS = 30.0
FILTER = "r"


@dataclass(frozen=True)
class Field:
    """A place on the sky (ICRS, degrees) with a number that is the tract of its templates."""

    number: int
    name: str
    ra: float
    dec: float


FIELDS = (
    Field(1, "fornax", 54.616, -35.45),
    Field(2, "cosmos", 150.1163, 2.2058),
    Field(3, "elais-s1", 9.45, -44.0),
)


def field_at(ra: float, dec: float, tolerance: float = 0.05) -> Field | None:
    """Return the field whose centre lies within `tolerance` degrees of a position, if there is one."""
    for field in FIELDS:
        if abs(field.ra - ra) < tolerance and abs(field.dec - dec) < tolerance:
            return field
    return None
