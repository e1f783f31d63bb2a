"""Compile and touch everything that an exposure needs, before the first exposure and before the fork."""

from __future__ import annotations

import logging
import time

from workloads.pixels import calibration, chain, coadd, simulator

LOG = logging.getLogger(__name__)
_SIZE = 512


def warm_up() -> None:
    """Run the whole chain once on a small simulated detector."""
    begun = time.monotonic()
    camera = simulator.Camera(1, 1, _SIZE)
    layout, truth = camera.layout(0), camera.truth(0)
    biases = [simulator.bias_frame(camera, 0, seed) for seed in range(3)]
    darks = [simulator.dark_frame(camera, 0, seed) for seed in range(3)]
    flats = [simulator.flat_frame(camera, 0, seed) for seed in range(3)]
    built = calibration.build_calibration(
        biases, darks, flats, layout, 300.0, linearity=truth.linearity, crosstalk=truth.crosstalk
    )
    sky = camera.static_sky(10.0, -20.0)
    stars = sky[sky["kind"] == 0]
    conditions = [simulator.conditions(1, visit) for visit in range(3)]
    exposures = [simulator.expose(camera, 0, 10.0, -20.0, one, sky, None) for one in conditions]
    epochs = [chain.process_science(e.raw, layout, built, e.wcs, 30.0, reference=stars) for e in exposures[:2]]
    template = coadd.build_template(epochs, exposures[0].wcs)
    chain.process_difference(exposures[2].raw, layout, built, template, exposures[2].wcs, 30.0)
    LOG.info("warm after %.1f s", time.monotonic() - begun)


if __name__ == "__main__":
    warm_up()
