"""The operators' tool of the LSST Data Facility."""
