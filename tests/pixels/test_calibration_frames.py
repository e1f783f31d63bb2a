"""Calibration from stacks: against the truth of the detector, without holding the stacks in memory."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage

from workloads.pixels import simulator
from workloads.pixels.calibration import build_calibration
from workloads.pixels.errors import InvalidValueError, ShapeError
from workloads.pixels.masks import Mask

CAMERA = simulator.Camera(31, 1, 512)
COUNTS = {"bias": 9, "dark": 5, "flat": 9}
DARK_SECONDS = 300.0


class OnDisk:
    """An exposure in a file, read by amplifier, each reading counted."""

    def __init__(self, path, raw):
        np.save(path, raw)
        self._path, self.shape, self.readings = path, raw.shape, []

    def __getitem__(self, amplifier):
        self.readings.append(amplifier)
        return np.load(self._path, mmap_mode="r")[amplifier]


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stacks")
    makers = {"bias": simulator.bias_frame, "dark": simulator.dark_frame, "flat": simulator.flat_frame}
    return {
        kind: [OnDisk(folder / f"{kind}{seed}.npy", make(CAMERA, 0, seed)) for seed in range(COUNTS[kind])]
        for kind, make in makers.items()
    }


@pytest.fixture(scope="module")
def built(stacks):
    """Return the calibration, and the most memory that it took."""
    truth = CAMERA.truth(0)
    tracemalloc.start()
    try:
        made = build_calibration(
            *stacks.values(), CAMERA.layout(0), DARK_SECONDS, linearity=truth.linearity, crosstalk=truth.crosstalk
        )
        return made, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _scatter(values):
    low, high = np.nanquantile(values, [0.25, 0.75])
    return (high - low) / 1.34898


def test_every_amplifier_of_every_exposure_is_read_once(stacks, built):
    assert built
    for stack in stacks.values():
        for exposure in stack:
            assert exposure.readings == list(range(len(CAMERA.layout(0).amplifiers)))


def test_stacks_do_not_have_to_fit_in_memory(stacks, built):
    whole = 2 * sum(np.prod(exposure.shape) for stack in stacks.values() for exposure in stack)
    planes = 3 * 4 * CAMERA.size**2
    # One amplifier of the longest two stacks with what is computed of it, and the planes that come out.
    assert built[1] < planes + 0.35 * whole


def test_bias_is_the_detectors(built):
    off = built[0].bias - CAMERA.truth(0).bias
    good = built[0].defects == 0
    # The pedestal of a row is known to what its overscan says of it.
    assert abs(np.median(off[good])) < 0.1
    assert abs(_scatter(off[good]) / np.sqrt(built[0].bias_variance) - 1) < 0.1


def test_dark_is_the_detectors(built):
    layout, truth = CAMERA.layout(0), CAMERA.truth(0)
    off = built[0].dark - truth.dark
    noise = np.hypot(np.median([a.read_noise for a in layout.amplifiers]), np.sqrt(0.02 * DARK_SECONDS))
    good = truth.defects == 0
    assert abs(np.median(off[good])) < 2e-3
    assert _scatter(off[good]) < 1.5 * noise / DARK_SECONDS / np.sqrt(COUNTS["dark"]) * np.sqrt(
        1 + COUNTS["dark"] / COUNTS["bias"]
    )


def test_flat_is_the_detectors(built):
    truth = CAMERA.truth(0)
    good = truth.defects == 0
    off = built[0].flat / (truth.flat / np.median(truth.flat)) - 1
    assert abs(np.median(off[good])) < 5e-4
    assert _scatter(off[good]) < 1.2 / np.sqrt(40_000 * COUNTS["flat"])
    # No step from one amplifier to its neighbours.
    layout = CAMERA.layout(0)
    assert max(abs(np.median(off[layout.section(i)])) for i in range(len(layout.amplifiers))) < 5e-4


def test_defects_are_found_and_nothing_else(built):
    true, found = CAMERA.truth(0).defects != 0, built[0].defects & Mask.BAD.value != 0
    assert found[true].mean() > 0.99
    # Hot pixels overflow along their columns in a dark.
    overflown = scipy.ndimage.maximum_filter(true, (9, 1))
    assert found[~overflown].mean() < 2e-5


def test_an_amplifier_without_light_is_bad(stacks):
    dead = 3

    class Dark:
        def __init__(self, exposure):
            self._exposure, self.shape = exposure, exposure.shape

        def __getitem__(self, amplifier):
            return np.full(self.shape[1:], 1000, np.uint16) if amplifier == dead else self._exposure[amplifier]

    layout = CAMERA.layout(0)
    made = build_calibration(
        stacks["bias"], stacks["dark"], [Dark(one) for one in stacks["flat"]], layout, DARK_SECONDS
    )
    assert (made.defects[layout.section(dead)] == Mask.BAD.value).all()
    assert (made.defects[layout.section(0)] == 0).mean() > 0.99
    with pytest.raises(InvalidValueError, match="no light"):
        build_calibration(stacks["bias"], stacks["dark"], stacks["bias"], layout, DARK_SECONDS)


def test_what_cannot_be_combined_is_refused(stacks):
    layout = CAMERA.layout(0)
    with pytest.raises(InvalidValueError, match="dark stack"):
        build_calibration(stacks["bias"], stacks["dark"][:2], stacks["flat"], layout, DARK_SECONDS)
    with pytest.raises(InvalidValueError, match="exposure time"):
        build_calibration(*stacks.values(), layout, 0.0)
    with pytest.raises(ShapeError, match="bias exposure"):
        build_calibration(*stacks.values(), replace(layout, overscan=16), DARK_SECONDS)
