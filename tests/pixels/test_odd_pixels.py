"""Pixels that no good night has: each is refused with its reason or measured, and none ends the process."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from workloads.common.errors import NonRetriableError
from workloads.pixels import chain, simulator
from workloads.pixels.errors import InvalidValueError, WcsError
from workloads.pixels.isr import Calibration
from workloads.pixels.masks import Mask
from workloads.pixels.readout import require_readout
from workloads.prompt_processing.sources import dia_sources, why_no_alerts
from workloads.prompt_processing.tasks import DifferenceTask


@pytest.fixture(scope="module")
def exposure(field):
    return field.expose(700, 0)


def _amplifier(raw, value):
    raw[3] = value


def _checkerboard(raw):
    rows, columns = np.indices(raw.shape[1:])
    raw[:] = (rows + columns) % 2 * 20000 + 1000


def _every_other_row(raw):
    raw[:, ::2] = 0


ODD = {
    "all 0": lambda raw: raw.fill(0),
    "all 65535": lambda raw: raw.fill(65535),
    "all 1000": lambda raw: raw.fill(1000),
    "one amplifier 1000": lambda raw: _amplifier(raw, 1000),
    "one amplifier 0": lambda raw: _amplifier(raw, 0),
    "one amplifier 65535": lambda raw: _amplifier(raw, 65535),
    "a checkerboard": _checkerboard,
    "every other row": _every_other_row,
    "random numbers": lambda raw: raw.__setitem__(slice(None), np.random.default_rng(2).integers(0, 65536, raw.shape)),
    "a ramp": lambda raw: raw.__setitem__(slice(None), np.arange(raw.shape[2]) * 60),
}


@pytest.mark.parametrize("what", ODD)
def test_what_no_electronics_makes_is_refused_by_amplifier(field, exposure, template, what):
    raw = exposure.raw.copy()
    ODD[what](raw)
    with pytest.raises(
        InvalidValueError, match=r"amplifiers that were not read out: C0\d: (all pixels are|its overscan)"
    ):
        chain.process_difference(raw, field.layout, field.calibration, template, exposure.wcs, 30.0)


def test_an_amplifier_that_is_known_to_be_dead_is_passed_over(field, exposure):
    raw, defects = exposure.raw.copy(), field.calibration.defects.copy()
    raw[3] = 0
    defects[field.layout.section(3)] |= np.uint16(Mask.BAD.value)
    known = Calibration(
        field.calibration.bias, field.calibration.dark, field.calibration.flat, defects, field.calibration.linearity
    )
    require_readout(raw, field.layout, known)
    raw[4] = 0
    with pytest.raises(InvalidValueError, match="not read out: C10: all pixels are 0; expected"):
        require_readout(raw, field.layout, known)


def test_trails_of_saturated_stars_in_the_overscan_are_no_failure(field, exposure):
    raw = exposure.raw.copy()
    raw[:, 40:50, :] = 65535
    require_readout(raw, field.layout, field.calibration)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_no_light_comes_in_no_time(field, exposure, template, seconds):
    with pytest.raises(InvalidValueError, match="exposure time"):
        chain.process_difference(exposure.raw, field.layout, field.calibration, template, exposure.wcs, seconds)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"crval": (54.616, -35.45)}, "a detector about (54.6160, -35.4500) degrees, which is not on the template"),
        ({"crval": (330.0, 30.0)}, "which is not on the template"),
        ({"crval": (150.0, -30.2)}, "which is not on the template"),
        ({"cd": ((-1e-3, 0.0), (0.0, 1e-3))}, "times the template's"),
        ({"cd": ((-1e-7, 0.0), (0.0, 1e-7))}, "times the template's"),
    ],
)
def test_a_header_of_another_field_is_named(field, exposure, template, changes, said):
    with pytest.raises(WcsError, match=re.escape(said)):
        chain.process_difference(
            exposure.raw, field.layout, field.calibration, template, replace(exposure.wcs, **changes), 30.0
        )


def _crowded(raw, count):
    """Add stars of any brightness to the imaging columns."""
    rng, crowded = np.random.default_rng(1), raw.astype(np.int64)
    rows, columns = np.mgrid[-5:6, -5:6]
    star = np.exp(-(rows**2 + columns**2) / (2 * 1.6**2))
    for _ in range(count):
        amp, row = rng.integers(raw.shape[0]), rng.integers(5, raw.shape[1] - 6)
        column = rng.integers(16, raw.shape[2] - 70)
        crowded[amp, row - 5 : row + 6, column - 5 : column + 6] += (rng.uniform(100, 3000) * star).astype(int)
    return np.minimum(crowded, 65535).astype(np.uint16)


@pytest.mark.parametrize("stars", [5_000, 20_000, 60_000])
def test_a_crowd_of_stars_is_measured_or_said_to_be_no_good(field, exposure, template, stars):
    raw = _crowded(exposure.raw, stars * raw_area(exposure.raw) // 4096**2)
    result = chain.process_difference(raw, field.layout, field.calibration, template, exposure.wcs, 30.0)
    assert result.quality["ok"] in (0.0, 1.0)


def test_a_difference_that_is_no_good_says_why(field, exposure, template):
    good = chain.process_difference(exposure.raw, field.layout, field.calibration, template, exposure.wcs, 30.0)
    assert why_no_alerts(good.quality) == ""
    bias = simulator.bias_frame(field.camera, 0, 99)
    dark = chain.process_difference(bias, field.layout, field.calibration, template, exposure.wcs, 30.0)
    known = {name: value for name, value in dark.quality.items() if np.isfinite(value)}
    assert (
        why_no_alerts(known)
        == "difference not good, no alerts: 0 of its 0 sources are where the template has stars, 0 stars to match the seeing on"
    )
    noisy = good.quality | {"ok": 0.0, "residual_over_predicted_variance": 4.0, "kernel_mismatch": 0.5}
    assert why_no_alerts(noisy).endswith(
        "leaves 50% of a star's light, its noise is 4 times what was predicted (variance)"
    )
    assert why_no_alerts({"ok": 0.0, "registration_matches": 9.0, "stamps_used": 9.0}).endswith("see its figures")


def raw_area(raw):
    return int(np.prod(raw.shape))


def _pretend(count, result, significance=50.0):
    """Return a result with so many good sources."""
    table = np.zeros(count, result.sources.dtype)
    table["snr"], table["psf_flux"] = significance, 100.0
    return replace(result, sources=table, quality=result.quality | {"ok": 1.0})


HEADER = {"EXPID": 2026112200001, "MJD-BEG": 61000.0, "MJD-END": 61000.0004, "EXPTIME": 30.0, "FILTER": "r_57"}


def test_more_sources_than_ids_are_a_failure_of_the_exposure(field, exposure, template):
    result = chain.process_difference(exposure.raw, field.layout, field.calibration, template, exposure.wcs, 30.0)
    assert len(dia_sources(_pretend(8192, result), HEADER, 94)) == 8192
    with pytest.raises(NonRetriableError, match="at most 8192 sources of a detector"):
        dia_sources(_pretend(9000, result), HEADER, 94)
    assert len(dia_sources(_pretend(20_000, result, 1.0), HEADER, 94)) == 0, "what is no alert needs no id"
    assert set(dia_sources(_pretend(3, result), HEADER, 94)["band"]) == {"r"}


def _task(field, exposure, template, **changes):
    header = {"OBSID": "MC_O_20261122_000001", "EXPTIME": 30.0} | {
        k: v for k, (v, _) in exposure.wcs.to_header().items()
    }
    raw = SimpleNamespace(pixels=exposure.raw, layout=field.layout, header=header | changes)
    return DifferenceTask().run([raw], field.calibration, template)


@pytest.mark.parametrize("value", [None, "thirty", True, 0.0])
def test_the_task_fails_with_the_exposures_name(field, exposure, template, value):
    with pytest.raises(NonRetriableError, match=r"MC_O_20261122_000001_R22_S00: (EXPTIME|exposure time)"):
        _task(field, exposure, template, EXPTIME=value)


@pytest.mark.parametrize(
    "error", [ValueError("odd"), IndexError("odd"), ZeroDivisionError("odd"), np.linalg.LinAlgError("odd")]
)
def test_whatever_pixels_do_to_an_algorithm_is_their_own_failure(field, exposure, template, monkeypatch, error):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr(chain, "process_difference", broken)
    with pytest.raises(
        NonRetriableError, match=f"MC_O_20261122_000001_R22_S00: {type(error).__name__} in the pixel core: odd"
    ):
        _task(field, exposure, template)


def test_a_machine_without_memory_is_no_failure_of_the_pixels(field, exposure, template, monkeypatch):
    def broken(*_, **__):
        raise MemoryError

    monkeypatch.setattr(chain, "process_difference", broken)
    with pytest.raises(MemoryError):
        _task(field, exposure, template)
