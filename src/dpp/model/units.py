"""The units of provisioning: one stack each per environment, and which of them stands on which."""

from collections.abc import Mapping
from typing import Final

NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "wan": (),
    "chilean-itc": ("wan",),
    "ncsa-itc": ("wan",),
    "satellite-itc": ("wan",),
    "summit-storage": ("chilean-itc",),
    "commissioning-cluster": ("chilean-itc",),
    "workloads": ("ncsa-itc", "satellite-itc", "summit-storage", "commissioning-cluster"),
}
"""By unit, what must stand before it; whatever does not need each other is applied side by side."""
UNITS: Final = tuple(NEEDS)
"""In an order in which each finds what it needs; destruction goes the other way."""
