"""The code inside the LSST Data Facility's containers."""
