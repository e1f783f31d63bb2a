"""Combining a stack of frames with outliers clipped."""

from __future__ import annotations

from typing import Any

import ccdproc
import numpy as np
from astropy.nddata import CCDData
from astropy.stats import mad_std
from tests.bench.harness import Verdict, compare, versions

from workloads.pixels.calibration import combine


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Compare with ccdproc's combine: median and median absolute deviation, one pass of clipping."""
    rng = np.random.default_rng(1)
    size, depth = (512, 9) if quick else (2048, 15)
    frames = [rng.normal(1000, 5, (size, size)).astype(np.float32) for _ in range(depth)]
    for frame in frames:
        frame[rng.integers(0, size, 200), rng.integers(0, size, 200)] += 5000
    peers = [CCDData(frame, unit="adu") for frame in frames]

    def theirs() -> np.ndarray:
        combiner = ccdproc.Combiner(peers, dtype=np.float32)
        combiner.sigma_clipping(low_thresh=4, high_thresh=4, func=np.ma.median, dev_func=mad_std)
        return np.asarray(combiner.average_combine().data)

    def equal(a: Any, b: Any) -> dict[str, Any]:
        # A value on the very limit may be clipped by one and kept by the other.
        difference = float((np.abs(a[0] - b) > 0.01).mean())
        assert difference < 1e-4, f"{difference:.1e} of the means differ"
        return {"frames": depth, "size": size, "different_pixels": difference, **versions("ccdproc")}

    return [
        compare(
            "stacks",
            "ccdproc.Combiner",
            lambda: combine(frames, threads=threads),
            theirs,
            8.0,
            equal=equal,
            pairs=3 if quick else 7,
        )
    ]
