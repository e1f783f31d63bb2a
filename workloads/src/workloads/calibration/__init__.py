"""Calibrations and templates from exposures taken before the night, by tasks under stock `pipetask`."""
