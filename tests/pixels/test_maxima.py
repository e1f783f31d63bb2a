"""The largest value round a pixel, against scipy's filter."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from workloads.pixels.maxima import box_maximum


@pytest.mark.parametrize("reach", [0, 1, 2, 3, 7, 12])
@pytest.mark.parametrize("shape", [(40, 57), (9, 31), (3, 20, 21)])
def test_it_is_the_maximum_of_the_box(reach, shape):
    values = np.random.default_rng(reach).normal(size=shape).astype(np.float32)
    size = (1,) * (len(shape) - 2) + (2 * reach + 1,) * 2
    np.testing.assert_array_equal(
        box_maximum(values, reach), scipy.ndimage.maximum_filter(values, size, mode="nearest")
    )
    truths = values > 1.5
    np.testing.assert_array_equal(
        box_maximum(truths, reach), scipy.ndimage.maximum_filter(truths, size, mode="nearest")
    )
