"""The noise of a difference: its spectrum, the filter that makes it white, and the variance after that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.signal

from workloads.pixels import parallel
from workloads.pixels.convolution import Transformer
from workloads.pixels.images import Floats, Image
from workloads.pixels.matching import MatchingKernel
from workloads.pixels.psf import Psf
from workloads.pixels.resampling import SPECTRUM

_FLOOR = 0.1
"""Least noise that the whitener takes for possible at any frequency, of that at frequency zero."""


def delta(size: int) -> Floats:
    """Stamp that leaves an image as it is."""
    stamp = np.zeros((size - 1, size - 1), np.float32)
    stamp[size // 2 - 1, size // 2 - 1] = 1
    return stamp


def typical(variance: Floats) -> float:
    """Median of a variance plane."""
    return float(np.median(variance[::7, ::7]))


@dataclass(frozen=True)
class Noise:
    """An image's noise.

    Parameters
    ----------
    level
        Typical variance (at frequency zero), electrons squared.
    power
        Spectrum (`resampling.noise_power`).
    """

    level: float
    power: Floats

    @classmethod
    def of(cls, image: Image, power: Floats | None = None) -> Noise:
        """Take the level from the image; white without a spectrum."""
        return cls(typical(image.variance), np.ones((1, 1), np.float32) if power is None else power)

    @property
    def shape(self) -> Floats:
        """Stamp that white noise must be convolved with to look like this one."""
        wide = np.broadcast_to(np.sqrt(self.power), (SPECTRUM, SPECTRUM))
        return np.asarray(np.fft.fftshift(np.fft.ifft2(wide).real)[1:, 1:], np.float32)


def make_whitener(kernel: MatchingKernel, sharp: Noise, broad: Noise) -> Floats:
    """Make the stamp that makes the noise of the difference white and leaves fluxes alone.

    Where both the matching kernel and interpolation left hardly any noise it stays weak: there is nothing to see.
    """
    central = kernel.central
    wide = np.zeros((SPECTRUM, SPECTRUM))
    wide[: central.shape[0], : central.shape[1]] = central
    response = np.abs(np.fft.fft2(wide)) ** 2
    power = broad.level * (_FLOOR + (1 - _FLOOR) * broad.power) + sharp.level * sharp.power * response
    stamp = np.fft.fftshift(np.fft.ifft2(np.sqrt(power[0, 0] / power)).real)[1:, 1:]
    return np.ascontiguousarray(stamp / stamp.sum(), np.float32)


def whiten(
    residual: Floats,
    sharp: Image,
    broad: Image,
    kernel: MatchingKernel,
    whitener: Floats,
    noises: tuple[Noise, Noise],
    threads: int | None,
) -> tuple[Floats, Floats]:
    """Whitened residual and its exact variance for noise of the given spectra in both images."""
    transform = Transformer(residual.shape, whitener.shape[0] // 2, parallel.available(threads))
    pixels = transform.back(transform.image(residual) * transform.stamp(whitener))
    sharp_shape = _convolve(_convolve(whitener, kernel.central), noises[0].shape)
    total = transform.image(broad.variance) * transform.stamp(_convolve(whitener, noises[1].shape) ** 2)
    total += transform.image(sharp.variance) * transform.stamp(sharp_shape**2)
    variance = transform.back(total)
    floor = np.float32(0.05 * typical(variance))
    return pixels, np.maximum(variance, floor)


def _convolve(stamp: Floats, other: Floats) -> Floats:
    return np.asarray(scipy.signal.fftconvolve(stamp, other, mode="same"), np.float32)


def compose(whitener: Floats, kernel: MatchingKernel) -> Floats:
    """Whitener after matching kernel, which sums to 1 then."""
    scaled = kernel.central / np.float32(kernel.total)
    return np.asarray(scipy.signal.fftconvolve(whitener, scaled, mode="same"), np.float32)


def convolved_psf(psf: Psf, kernel: Floats) -> Psf:
    """Return a PSF after convolution with a stamp."""
    coefficients = np.stack([scipy.signal.fftconvolve(c, kernel, mode="same") for c in psf.coefficients])
    return Psf(np.ascontiguousarray(coefficients, np.float32), psf.width, psf.height, psf.stars, psf.residual)
