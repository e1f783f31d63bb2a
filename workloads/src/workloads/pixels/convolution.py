"""Convolutions by Fourier transform, and the PSF as matched filter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from workloads.pixels import parallel
from workloads.pixels.errors import InvalidValueError
from workloads.pixels.images import Floats, Image, sampled
from workloads.pixels.kernels.correlating import correlate_rows
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

    def significance(self, threads: int | None = None) -> Floats:
        """Signal to noise of a point source centred on each pixel."""
        result = np.empty_like(self.signal)

        def ratio(first: int, last: int) -> None:
            band = np.s_[first:last]
            np.sqrt(self.noise2[band], out=result[band])
            np.divide(self.signal[band], result[band], out=result[band])

        parallel.run(ratio, parallel.bands(len(result), threads), threads)
        return result


def matched_filter(image: Image, psf: Psf, *, threads: int | None = None) -> Filtered:
    """Correlate an image with its mean PSF; masked pixels count for nothing, in signal and noise.

    Raises
    ------
    InvalidValueError
        Pixels that are not finite are not masked.
    """
    stamp = psf.mean.astype(np.float32)
    signal, noise2 = np.empty(image.shape, np.float32), np.empty(image.shape, np.float32)
    bands = parallel.bands(image.shape[0], threads)
    down, across = products(stamp)
    noise_down, noise_across = products(stamp**2)
    # What was left out is made good where it matters: in the light of a star, and in the sum that the noise is.
    norm = float((stamp.astype(np.float64) ** 2).sum())
    down *= norm / float((stamp * (down.T @ across)).sum())
    noise_down *= norm / float(noise_down.sum(axis=1) @ noise_across.sum(axis=1))
    unusable = np.uint16(UNUSABLE.value)
    given = (image.pixels, image.variance, image.mask, unusable, down, across, noise_down, noise_across)
    jobs = [(*given, *band, signal, noise2) for band in bands]
    if any(parallel.run(correlate_rows, jobs, threads)):
        raise InvalidValueError("image", "pixels that are not finite and not masked", "NO_DATA where nothing is known")
    # Where nearly all is masked the noise is no smaller than a twentieth of elsewhere, so that nothing is divided by zero.
    floor = np.float32(max(0.05 * float(np.median(sampled(noise2))), 1e-12))
    parallel.run(_raise, [(noise2[first:last], floor) for first, last in bands], threads)
    return Filtered(signal, noise2)


def _raise(values: Floats, floor: np.float32) -> None:
    np.maximum(values, floor, out=values)


def products(stamp: Floats, tolerance: float = 2e-2) -> tuple[Floats, Floats]:
    """Columns and rows, ``float32[k, size]``, whose products add up to a stamp.

    What is left out has at most ``tolerance`` of the stamp's norm: a matched filter loses half of its square in
    signal to noise, 0.02 % by default. What is left out of a measured PSF is its noise, which no product describes: to
    keep it takes most of the products that there are.
    """
    left, strength, right = np.linalg.svd(stamp.astype(np.float64))
    rest = np.sqrt(np.cumsum(strength[::-1] ** 2)[::-1])
    count = max(1, int((rest > tolerance * rest[0]).sum()))
    down = (left[:, :count] * strength[:count]).T
    return np.ascontiguousarray(down, np.float32), np.ascontiguousarray(right[:count], np.float32)
