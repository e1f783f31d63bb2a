"""Sources that overlap: several PSFs fitted at once, and a search for a second one where a single one does not do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.signal

from workloads.pixels.detection import Flag
from workloads.pixels.images import Doubles, Image, Table
from workloads.pixels.masks import UNUSABLE
from workloads.pixels.psf import Psf

_LEAST_SNR, _LEAST_CHI2 = 12.0, 1.8
_OUTSHINING = 30.0
"""Signal to noise from which a source may hide another in its wings, however well it is fitted itself."""
_SHARE = 0.06
"""What is fainter than this part of a source, close to it, may be its own misfit."""
_CORE = 5
"""Misfit is judged within this many pixels."""


def deblend(image: Image, psf: Psf, table: Table, threshold: float) -> Table:
    """Fit again, together with what is near, sources that one PSF does not explain; companions are appended.

    A companion must stand above ``threshold``, above a part of the first source, and make the misfit a good deal smaller.
    """
    fresh: list[np.void] = []
    table = table.copy()
    strength = np.abs(table["snr"])
    doubtful = (strength > _LEAST_SNR) & (table["psf_chi2"] > _LEAST_CHI2)
    for index in np.flatnonzero(doubtful | (strength > _OUTSHINING)):
        patch = _Patch.around(image, psf, table, int(index))
        if patch is None:
            continue
        alone = patch.fit(patch.known(table, int(index)))
        place = patch.search(alone, max(threshold, _SHARE * abs(float(table["snr"][index]))))
        both = alone if place is None else patch.fit(np.concatenate([alone, place[None]]))
        if place is not None and patch.plausible(both, fresh) and patch.explains(both, alone):
            fresh.append(_record(table[index], both[-1], patch))
        else:
            both = alone
        if patch.misfit(both) < 0.7 * float(table["psf_chi2"][index]) and np.hypot(*(both[0, 1:] - patch.half)) < 3:
            table[index] = _record(table[index], both[0], patch, patch.misfit(both))
    return np.concatenate([table, np.array(fresh, table.dtype)]) if fresh else table


class _Patch:
    """The surroundings of one source; components are rows of flux, x, y in the patch's pixels."""

    def __init__(self, image: Image, psf: Psf, x: int, y: int, half: int) -> None:
        window = np.s_[y - half : y + half + 1, x - half : x + half + 1]
        self.left, self.bottom, self.half, self.psf = x - half, y - half, half, psf
        self.reach = round(2.2 * psf.fwhm)
        self.data = image.pixels[window].astype(np.float64)
        self.weight = np.where(image.mask[window] & UNUSABLE.value == 0, 1 / image.variance[window], 0.0)

    @classmethod
    def around(cls, image: Image, psf: Psf, table: Table, index: int) -> _Patch | None:
        """Cut a patch unless the edge is near or nothing could be measured."""
        half = psf.size // 2 + round(2.2 * psf.fwhm)
        x, y = round(float(table["x"][index])), round(float(table["y"][index]))
        inside = half <= x < image.shape[1] - half and half <= y < image.shape[0] - half
        return cls(image, psf, x, y, half) if inside and np.isfinite(table["psf_flux"][index]) else None

    def known(self, table: Table, index: int) -> Doubles:
        """Return the source and, after it, its neighbours."""
        x, y = table["x"] - self.left, table["y"] - self.bottom
        far = np.hypot(x - x[index], y - y[index])
        near = (far < 1.5 * self.reach) & np.isfinite(table["psf_flux"])
        order = np.flatnonzero(near)[np.argsort(far[near])][:5]
        return np.column_stack([table["psf_flux"][order], x[order], y[order]]).astype(np.float64)

    def fit(self, parts: Doubles, rounds: int = 6) -> Doubles:
        """Gauss-Newton over fluxes and places; a place moves by no more than half a pixel at once."""
        for _ in range(rounds):
            stamps = self._place(parts)
            gradients = [-np.gradient(stamps, axis=axis) for axis in (2, 1)]
            design = np.stack([stamps, *gradients], axis=1).reshape(3 * len(parts), -1)
            weighted = design * self.weight.ravel()
            normal = weighted @ design.T
            scale = np.sqrt(np.maximum(np.diag(normal), 1e-30))
            normal = normal / np.outer(scale, scale) + 1e-6 * np.eye(len(scale))
            solution = (np.linalg.solve(normal, weighted @ self.data.ravel() / scale) / scale).reshape(-1, 3)
            flux = np.where(np.abs(solution[:, 0]) > 1e-6, solution[:, 0], 1e-6)
            step = np.clip(solution[:, 1:] / flux[:, None], -0.5, 0.5)
            parts = np.column_stack([solution[:, 0], parts[:, 1:] + step])
        return parts

    def search(self, parts: Doubles, threshold: float) -> Doubles | None:
        """Find the most significant point in what the components leave near the first of them."""
        rest = (self.data - np.tensordot(parts[:, 0], self._place(parts), 1)) * self.weight
        stamp = self.psf.at(self.left + self.half, self.bottom + self.half)
        norm = scipy.signal.fftconvolve(self.weight, stamp[::-1, ::-1] ** 2, mode="same")
        flux = scipy.signal.fftconvolve(rest, stamp[::-1, ::-1], mode="same") / np.maximum(norm, 1e-12)
        strength = np.abs(flux) * np.sqrt(np.maximum(norm, 0))
        v, u = np.ogrid[: strength.shape[0], : strength.shape[1]]
        strength[np.hypot(u - self.half, v - self.half) > self.reach] = 0
        y, x = np.unravel_index(int(np.argmax(strength)), strength.shape)
        return np.array([flux[y, x], x, y], np.float64) if strength[y, x] > threshold else None

    def plausible(self, parts: Doubles, found: Sequence[np.void]) -> bool:
        """Whether the last component is a source of its own: apart from all others, found before or not, near the first."""
        before = [(row["x"] - self.left, row["y"] - self.bottom) for row in found]
        others = np.concatenate([parts[:-1, 1:], np.array(before, np.float64).reshape(-1, 2)])
        apart = np.hypot(*(others - parts[-1, 1:]).T)
        return bool(apart.min() > 0.6 * self.psf.fwhm and np.hypot(*(parts[-1, 1:] - self.half)) < self.reach + 1)

    def explains(self, both: Doubles, alone: Doubles) -> bool:
        """Whether the last component of `both` makes the fit a good deal better, around the first source or around itself."""
        there = round(float(both[-1, 1])), round(float(both[-1, 2]))
        return any(
            self.misfit(both, *place) < 0.7 * self.misfit(alone, *place) for place in ((self.half, self.half), there)
        )

    def misfit(self, parts: Doubles, x: int | None = None, y: int | None = None) -> float:
        """Reduced chi squared around a place, by default the first source's."""
        x, y = self.half if x is None else x, self.half if y is None else y
        core = np.s_[max(y - _CORE, 0) : y + _CORE + 1, max(x - _CORE, 0) : x + _CORE + 1]
        rest = self.data - np.tensordot(parts[:, 0], self._place(parts), 1)
        used = (self.weight[core] > 0).sum() - 3 * len(parts)
        return float((rest[core] ** 2 * self.weight[core]).sum() / max(int(used), 1))

    def _place(self, parts: Doubles) -> Doubles:
        """PSFs of unit flux on the patch."""
        result = np.zeros((len(parts), *self.data.shape))
        x, y = parts[:, 1] + self.left, parts[:, 2] + self.bottom
        size, side = self.psf.size // 2, self.data.shape[0]
        for i, stamp in enumerate(self.psf.stamps(x, y)):
            cx, cy = int(np.floor(parts[i, 1] + 0.5)), int(np.floor(parts[i, 2] + 0.5))
            x0, x1, y0, y1 = max(cx - size, 0), min(cx + size + 1, side), max(cy - size, 0), min(cy + size + 1, side)
            if x0 < x1 and y0 < y1:
                result[i, y0:y1, x0:x1] = stamp[y0 - cy + size : y1 - cy + size, x0 - cx + size : x1 - cx + size]
        return result


def _record(source: np.void, part: Doubles, patch: _Patch, chi2: float | None = None) -> np.void:
    """Row of a fitted component; shape and aperture, which hold the neighbours' light as well, are given up."""
    row = source.copy()
    row["snr"] = float(source["snr"]) * float(part[0]) / float(source["psf_flux"])
    row["x"], row["y"], row["psf_flux"] = part[1] + patch.left, part[2] + patch.bottom, part[0]
    row["ap_flux"], row["ap_flux_err"] = part[0], row["psf_flux_err"]
    row["ixx"] = row["iyy"] = row["ixy"] = np.nan
    row["psf_chi2"] = 1.0 if chi2 is None else chi2
    row["is_negative"] = part[0] < 0
    row["flags"] = (int(row["flags"]) | Flag.BLENDED.value) & ~Flag.BAD_CENTROID.value
    return row
