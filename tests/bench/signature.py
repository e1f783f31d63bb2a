"""Instrument signature removal against the floor: copying the frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.bench.harness import Verdict, compare
from tests.bench.inputs import detector

from workloads.pixels.isr import remove_signature


def _reference(given: Any) -> dict[str, Any]:
    """Largest error of the calibrated pixels, as a fraction of the larger of value and noise (goal 1e-5)."""
    layout, c = given.exposure.layout, given.calibration
    image = remove_signature(given.exposure.raw, layout, c, 30.0)
    from workloads.pixels.isr import overscan_level

    exact = np.empty(image.shape)
    raw = given.exposure.raw
    levels = [overscan_level(raw[i], layout).astype(np.float64) for i in range(len(raw))]
    data = [raw[i][:, layout.prescan : layout.prescan + layout.amp_width] - levels[i][:, None] for i in range(len(raw))]
    for i, a in enumerate(layout.amplifiers):
        flip = np.s_[:: -1 if a.flip_y else 1, :: -1 if a.flip_x else 1]
        section = np.s_[a.y0 : a.y0 + layout.amp_height, a.x0 : a.x0 + layout.amp_width]
        ghosts = sum(
            float(c.crosstalk[i, j]) * np.where(data[j] * float(np.abs(c.crosstalk[:, j]).max()) >= 0.2, data[j], 0)
            for j in range(len(raw))
        )
        counts = (data[i] - ghosts)[flip] - c.bias[section].astype(np.float64)
        electrons = a.gain * (counts + float(c.linearity[i]) * counts**2) - c.dark[section].astype(np.float64) * 30.0
        exact[section] = electrons / c.flat[section]
    good = c.planes == 0
    error = np.abs(image.pixels - exact)[good] / np.maximum(np.abs(exact), np.sqrt(image.variance))[good]
    assert error.max() < 1e-5, f"largest relative error {error.max():.1e}"
    return {"largest_error": float(error.max())}


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Copy time over ours: a goal of a third.

    Frames are taken in turn, more than the last cache holds: a frame that comes from a camera or a file is in no cache.
    """
    given = detector(2048 if quick else 4096)
    raws = [given.exposure.raw.copy() for _ in range(12 if quick else 3)]
    images = [remove_signature(raw, given.exposure.layout, given.calibration, 30.0) for raw in raws]
    frames = [image.pixels.copy() for image in images]
    targets = [np.ones_like(frame) for frame in frames]

    def ours() -> None:
        for raw, image in zip(raws, images, strict=True):
            remove_signature(raw, given.exposure.layout, given.calibration, 30.0, out=image, threads=threads)

    def copy() -> None:
        for target, frame in zip(targets, frames, strict=True):
            np.copyto(target, frame)

    return [
        compare(
            "signature",
            "numpy.copyto (floor)",
            ours,
            copy,
            1 / 3,
            equal=lambda _a, _b: _reference(given),
            pairs=5 if quick else 11,
        )
    ]
