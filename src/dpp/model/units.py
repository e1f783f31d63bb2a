"""The units of provisioning: one stack each per environment, applied in this order."""

from typing import Final

UNITS: Final = (
    "wan",
    "chilean-itc",
    "ncsa-itc",
    "satellite-itc",
    "summit-storage",
    "commissioning-cluster",
    "workloads",
)
"""Later units use what earlier ones provide; destruction goes the other way."""
