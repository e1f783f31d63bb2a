"""The units of provisioning, in the order in which they are applied; each module has one function, `provision`."""

UNITS = (
    "wan",
    "chilean-itc",
    "ncsa-itc",
    "satellite-itc",
    "summit-storage",
    "commissioning-cluster",
    "workloads",
)
