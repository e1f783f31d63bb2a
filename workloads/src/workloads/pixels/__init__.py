"""The pixel core: pure functions from raw detectors to difference sources and alerts (README.md has the interface)."""
