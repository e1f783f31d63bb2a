"""Convolutions by Fourier transform, and the PSF as matched filter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from workloads.pixels import parallel
from workloads.pixels.images import Floats, Image
from workloads.pixels.masks import UNUSABLE
from workloads.pixels.psf import Psf

Spectrum = npt.NDArray[np.complex64]


@dataclass(frozen=True)
class Transformer:
    """Real transforms of images of one shape, padded so that stamps do not wrap round.

    Parameters
    ----------
    shape
        Rows and columns of the images.
    margin
        Half width of the widest stamp.
    workers
        Threads.
    """

    shape: tuple[int, int]
    margin: int
    workers: int

    @property
    def grid(self) -> tuple[int, int]:
        """Padded shape, of lengths that transform fast."""
        rows, columns = (scipy.fft.next_fast_len(n + self.margin, real=True) for n in self.shape)
        return rows, columns

    def image(self, pixels: Floats) -> Spectrum:
        """Spectrum of an image."""
        result: Spectrum = scipy.fft.rfft2(pixels, self.grid, workers=self.workers)
        return result

    def stamp(self, stamp: Floats) -> Spectrum:
        """Spectrum of a centred stamp."""
        half, (rows, columns) = stamp.shape[0] // 2, self.grid
        wide = np.zeros((stamp.shape[0], columns), np.float32)
        wide[:, : stamp.shape[1]] = stamp
        # Only the rows that hold something are transformed along x.
        lines = scipy.fft.rfft(np.roll(wide, -half, axis=1), axis=1)
        tall = np.zeros((rows, lines.shape[1]), np.complex64)
        tall[: half + 1], tall[-half:] = lines[half:], lines[:half]
        result: Spectrum = scipy.fft.fft(tall, axis=0, workers=self.workers, overwrite_x=True)
        return result

    def back(self, spectrum: Spectrum) -> Floats:
        """Image of a spectrum."""
        full = scipy.fft.irfft2(spectrum, self.grid, workers=self.workers, overwrite_x=True)
        return np.ascontiguousarray(full[: self.shape[0], : self.shape[1]])


@dataclass(frozen=True)
class Filtered:
    """An image seen through its PSF.

    Parameters
    ----------
    signal
        Sum over the PSF at each pixel.
    noise2
        Its variance.
    """

    signal: Floats
    noise2: Floats

    def significance(self) -> Floats:
        """Signal to noise of a point source centred on each pixel."""
        return np.asarray(self.signal / np.sqrt(self.noise2), np.float32)


def matched_filter(image: Image, psf: Psf, *, threads: int | None = None) -> Filtered:
    """Correlate an image with its mean PSF; masked pixels count for nothing, in signal and noise."""
    usable = image.mask & UNUSABLE.value == 0
    transform = Transformer(image.shape, psf.size // 2, parallel.available(threads))
    stamp = psf.mean[::-1, ::-1]
    response = transform.stamp(stamp)
    signal = transform.back(transform.image(np.where(usable, image.pixels, np.float32(0))) * response)
    variance = np.where(usable & np.isfinite(image.variance), image.variance, np.float32(0))
    noise2 = transform.back(transform.image(variance) * transform.stamp(stamp**2))
    # Where nearly all is masked the noise is no smaller than a twentieth of elsewhere, so that nothing is divided by zero.
    floor = np.float32(max(0.05 * float(np.median(noise2[::3, ::3])), 1e-12))
    return Filtered(signal, np.maximum(noise2, floor))
