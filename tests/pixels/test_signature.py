"""Calibrated pixels against float64 and the simulator's truth; wrong input by name."""

import dataclasses

import numpy as np
import pytest

from workloads.pixels import fits_io, isr
from workloads.pixels.calibration import combine
from workloads.pixels.errors import InvalidValueError, PixelError, ShapeError, TypeMismatchError
from workloads.pixels.layout import Amplifier, DetectorLayout
from workloads.pixels.masks import Mask


def _exact(raw, layout, c, seconds):
    """Calibrate in float64, the plain way."""
    result = np.empty((layout.height, layout.width))
    levels = [isr.overscan_level(frame, layout).astype(float) for frame in raw]
    data = [
        f[:, layout.prescan : layout.prescan + layout.amp_width] - v[:, None] for f, v in zip(raw, levels, strict=True)
    ]
    for i, a in enumerate(layout.amplifiers):
        flip = np.s_[:: -1 if a.flip_y else 1, :: -1 if a.flip_x else 1]
        section = np.s_[a.y0 : a.y0 + layout.amp_height, a.x0 : a.x0 + layout.amp_width]
        ghosts = np.zeros(data[i].shape)
        for j, other in enumerate(data):
            ghosts += float(c.crosstalk[i, j]) * np.where(
                other * float(np.abs(c.crosstalk[:, j]).max()) >= 0.2, other, 0
            )
        counts = (data[i] - ghosts)[flip] - c.bias[section].astype(float)
        electrons = a.gain * (counts + float(c.linearity[i]) * counts**2) - c.dark[section].astype(float) * seconds
        result[section] = electrons / c.flat[section]
    return result


def test_pixels_equal_float64(field):
    raw = field.expose(1, 1).raw
    image = isr.remove_signature(raw, field.layout, field.calibration, 30.0)
    exact, good = _exact(raw, field.layout, field.calibration, 30.0), field.calibration.planes == 0
    scale = np.maximum(np.abs(exact), np.sqrt(image.variance))
    assert (np.abs(image.pixels - exact)[good] / scale[good]).max() < 1e-5


def test_one_thread_gives_the_same(field):
    raw = field.expose(1, 2).raw
    a, b = (isr.remove_signature(raw, field.layout, field.calibration, 30.0, threads=n) for n in (1, 2))
    assert (a.pixels == b.pixels).all()
    assert (a.mask == b.mask).all()


def test_truth_is_within_its_noise(field):
    exposure = field.expose(1, 3)
    image = isr.remove_signature(exposure.raw, field.layout, field.calibration, 30.0)
    good = (image.mask & (Mask.BAD | Mask.SAT).value == 0) & ~exposure.cosmic_rays & (field.truth.defects == 0)
    # A flat made from exposures is 1 in the middle, whatever the detector's efficiency.
    response = np.maximum(field.truth.flat, 0.01) / np.median(field.truth.flat)
    pull = (image.pixels - exposure.scene / response)[good] / np.sqrt(image.variance[good])
    assert abs(np.median(pull)) < 0.05
    assert 0.97 < 1.4826 * np.median(np.abs(pull)) < 1.03


def test_defects_are_found(field):
    made, found = field.truth.defects > 0, field.calibration.defects > 0
    assert found[made].mean() > 0.99
    assert found[~made].mean() < 1e-3


def test_saturation_is_marked(field):
    raw = field.expose(1, 4).raw
    raw[2, 100, 50] = 65535
    image = isr.remove_signature(raw, field.layout, field.calibration, 30.0)
    a = field.layout.amplifiers[2]
    x = a.x0 + 50 - field.layout.prescan
    assert image.mask[a.y0 + 99 : a.y0 + 102, x - 1 : x + 2].astype(int).min() & Mask.SAT.value


@pytest.mark.parametrize(
    ("raw", "seconds", "error"),
    [
        (np.zeros((8, 10, 10), np.uint16), 30.0, ShapeError),
        (np.zeros((8, 384, 228), np.int32), 30.0, TypeMismatchError),
        ("text", 30.0, TypeMismatchError),
        (None, -1.0, InvalidValueError),
        (None, float("nan"), InvalidValueError),
    ],
)
def test_wrong_input_is_named(field, raw, seconds, error):
    if raw is None:
        raw = np.zeros(field.layout.raw_shape, np.uint16)
    with pytest.raises(error):
        isr.remove_signature(raw, field.layout, field.calibration, seconds)


def test_dead_and_saturated_amplifiers_do_not_spread(field):
    raw = field.expose(1, 5).raw
    raw[0], raw[1] = 0, 65535
    image = isr.remove_signature(raw, field.layout, field.calibration, 30.0)
    assert np.isfinite(image.pixels).all()
    assert np.isfinite(image.variance).all()


def test_combination_clips_and_leaves_out_nan(rng):
    frames = [rng.normal(100, 1, (40, 50)).astype("f4") for _ in range(9)]
    frames[3][5, 6], frames[4][7, 8] = 1e6, np.nan
    for frame in frames:
        frame[0, 0] = np.nan
    mean, used = combine(frames)
    exact = np.mean([f[5, 6] for i, f in enumerate(frames) if i != 3])
    assert abs(mean[5, 6] - exact) < 1
    assert used[7, 8] <= 8
    assert np.isnan(mean[0, 0])
    with pytest.raises(PixelError):
        combine([])
    with pytest.raises(PixelError):
        combine([frames[0], frames[1][:5]])


@pytest.mark.parametrize("depth", [1, 2, 3, 6, 15, 16])
def test_combination_is_the_clipped_mean(rng, depth):
    frames = [rng.normal(100, 1, (20, 300)).astype("f4") for _ in range(depth)]
    frames[depth // 2][::3, ::7] += 300
    mean, used = combine(frames)
    stack = np.sort(np.stack(frames), axis=0)
    off = np.abs(stack - np.median(stack, axis=0))
    limit = 4 * 1.4826 * np.maximum(np.sort(off, axis=0)[(depth - 1) // 2], 1e-12)
    keep = off <= limit
    assert (used == keep.sum(axis=0)).mean() > 0.999
    same = used == keep.sum(axis=0)
    assert np.abs(mean - (stack * keep).sum(axis=0) / keep.sum(axis=0))[same].max() < 1e-3


def test_files_are_combined_in_parts_read_once(rng, tmp_path):
    frames = [rng.normal(1000, 5, (70, 90)).astype("u2") for _ in range(5)]
    for k, frame in enumerate(frames):
        fits_io.write(
            tmp_path / f"{k}.fits", {}, [fits_io.Extension("OTHER", frame + 1), fits_io.Extension("C00", frame)]
        )
    seen = []

    class Counted(fits_io.RowReader):
        def rows(self, first, last):
            seen.append((self._name, first, last))
            return super().rows(first, last)

    readers = [Counted(tmp_path / f"{k}.fits", "C00") for k in range(5)]
    mean, used = combine(readers)
    expected, kept = combine(frames)
    assert (mean == expected).all()
    assert (used == kept).all()
    assert len(set(seen)) == len(seen)
    assert sum(last - first for _, first, last in seen) == 5 * 70
    with pytest.raises(PixelError, match="no compressed image"):
        fits_io.RowReader(tmp_path / "0.fits", "C99")


def test_warm_pixels_equal_float64(field):
    dark = field.calibration.dark.copy()
    dark[50, 60:70], dark[51, 60:70] = np.linspace(1, 10, 10), np.nan
    warm = dataclasses.replace(field.calibration, dark=dark)
    raw = field.expose(1, 6).raw
    image, plain = (isr.remove_signature(raw, field.layout, c, 30.0) for c in (warm, field.calibration))
    exact, good = _exact(raw, field.layout, warm, 30.0)[50, 60:70], warm.planes[50, 60:70] == 0
    assert good.any()
    scale = np.maximum(np.abs(exact), np.sqrt(image.variance[50, 60:70]))
    assert (np.abs(image.pixels[50, 60:70] - exact) / scale)[good].max() < 1e-5
    # What is subtracted has left its noise: the same counts have the same variance, whatever made them.
    less = (plain.variance - image.variance)[50, 60:70] * field.calibration.flat[50, 60:70] ** 2
    assert (np.abs(less) < 0.02 * 30 * dark[50, 60:70])[good].all()
    assert (image.mask[51, 60:70] & Mask.BAD.value).all()


def test_calibration_is_prepared_for_each_exposure_time(field):
    c = field.calibration
    assert c.prepare(field.layout, 30.0) is c.prepare(field.layout, 30.0)
    first = c.prepare(field.layout, 30.0)
    assert np.allclose(c.prepare(field.layout, 60.0).dark, 2 * first.dark)


@pytest.mark.parametrize(("width", "flip_y"), [(99, False), (100, True), (7, True)])
def test_any_geometry_is_assembled(rng, width, flip_y):
    """Odd widths, and neighbours that are read in opposite directions."""
    amplifiers = tuple(
        Amplifier(f"C{i}", i * width, 0, bool(i % 2), flip_y and i == 1, 1.5, 5.0, 60_000.0) for i in range(3)
    )
    layout = DetectorLayout("D", 0, 3 * width, 40, amplifiers, width, 40, 3, 12)
    ones = np.ones((40, 3 * width), np.float32)
    c = isr.Calibration(0 * ones, 0 * ones, ones, np.zeros(ones.shape, np.uint16), np.zeros(3, np.float32))
    raw = rng.integers(500, 5000, layout.raw_shape).astype(np.uint16)
    guard = np.full(3 * width * 40 + 3, -1, np.float32)
    image = isr.Image(guard[1:-2].reshape(ones.shape), np.empty_like(ones), np.empty(ones.shape, np.uint16))
    isr.remove_signature(raw, layout, c, 30.0, out=image)
    assert (
        np.abs(image.pixels - _exact(raw, layout, dataclasses.replace(c, crosstalk=np.zeros((3, 3))), 30.0)).max()
        < 1e-2
    )
    assert guard[0] == guard[-1] == guard[-2] == -1
    assert (image.variance >= 25).all()
    assert not image.mask.any()
