"""Devices of the observatory's control system: commands, events and telemetry as its Service Abstraction Layer has them."""
