"""World coordinates: gnomonic projection with a linear matrix and optional TPV polynomial, as FITS headers carry them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.pixels.errors import WcsError
from workloads.pixels.images import Doubles

_TPV_POWERS: tuple[tuple[int, int, int], ...] = (
    (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 0, 0), (1, 1, 0), (0, 2, 0), (3, 0, 0), (2, 1, 0), (1, 2, 0), (0, 3, 0),
    (0, 0, 3), (4, 0, 0), (3, 1, 0), (2, 2, 0), (1, 3, 0), (0, 4, 0),
)  # fmt: skip
"""Powers of (xi, eta, r) of the terms PV1_0 to PV1_16; for axis 2 xi and eta change places."""

_IDENTITY = (0.0, 1.0)


@dataclass(frozen=True)
class Wcs:
    """A TAN or TPV projection.

    Parameters
    ----------
    crval
        ICRS position of the reference point, degrees.
    crpix
        Reference pixel, counted from 0 (FITS headers count from 1).
    cd
        ``((cd11, cd12), (cd21, cd22))``, degrees per pixel.
    pv1, pv2
        TPV coefficients of each axis; ``(0, 1)`` is no distortion.
    """

    crval: tuple[float, float]
    crpix: tuple[float, float]
    cd: tuple[tuple[float, float], tuple[float, float]]
    pv1: tuple[float, ...] = field(default=_IDENTITY)
    pv2: tuple[float, ...] = field(default=_IDENTITY)

    def __post_init__(self) -> None:
        values = np.array([*self.crval, *self.crpix, *self.cd[0], *self.cd[1], *self.pv1, *self.pv2], dtype=np.float64)
        if not np.isfinite(values).all() or abs(np.linalg.det(np.array(self.cd))) < 1e-20:
            raise WcsError(
                "WCS", "a matrix that cannot be inverted or values that are not finite", "finite, regular CD"
            )
        if max(len(self.pv1), len(self.pv2)) > len(_TPV_POWERS):
            raise WcsError("WCS", "TPV terms beyond the fourth order", f"PVi_0 to PVi_{len(_TPV_POWERS) - 1}")

    @property
    def pixel_scale(self) -> float:
        """Degrees per pixel at the reference point."""
        return float(np.sqrt(abs(np.linalg.det(np.array(self.cd)))))

    def pixel_to_sky(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Doubles, Doubles]:
        """Right ascension and declination (degrees) of pixel positions."""
        u = np.asarray(x, np.float64) - self.crpix[0]
        v = np.asarray(y, np.float64) - self.crpix[1]
        xi, eta = self._distort(self.cd[0][0] * u + self.cd[0][1] * v, self.cd[1][0] * u + self.cd[1][1] * v)
        return deproject(xi, eta, *self.crval)

    def sky_to_pixel(self, ra: npt.ArrayLike, dec: npt.ArrayLike) -> tuple[Doubles, Doubles]:
        """Pixel positions of right ascension and declination (degrees); NaN on the far side of the sky."""
        xi, eta = project(np.asarray(ra, np.float64), np.asarray(dec, np.float64), *self.crval)
        inverse = np.linalg.inv(np.array(self.cd))
        a, b = self._undistort(xi, eta)
        return inverse[0, 0] * a + inverse[0, 1] * b + self.crpix[0], inverse[1, 0] * a + inverse[
            1, 1
        ] * b + self.crpix[1]

    def shifted(self, dx: float, dy: float) -> Wcs:
        """Return the same sky on a pixel grid whose origin lies at ``(dx, dy)`` of this one."""
        return replace(self, crpix=(self.crpix[0] - dx, self.crpix[1] - dy))

    def _distort(self, xi: Doubles, eta: Doubles) -> tuple[Doubles, Doubles]:
        if self.pv1 == _IDENTITY and self.pv2 == _IDENTITY:
            return xi, eta
        return _polynomial(self.pv1, xi, eta), _polynomial(self.pv2, eta, xi)

    def _undistort(self, xi: Doubles, eta: Doubles) -> tuple[Doubles, Doubles]:
        if self.pv1 == _IDENTITY and self.pv2 == _IDENTITY:
            return xi, eta
        a, b, step = xi.copy(), eta.copy(), 1e-6
        for _ in range(20):
            f, g = self._distort(a, b)
            fa, ga = self._distort(a + step, b)
            fb, gb = self._distort(a, b + step)
            j11, j21, j12, j22 = (fa - f) / step, (ga - g) / step, (fb - f) / step, (gb - g) / step
            determinant = j11 * j22 - j12 * j21
            da = (j22 * (xi - f) - j12 * (eta - g)) / determinant
            db = (j11 * (eta - g) - j21 * (xi - f)) / determinant
            a, b = a + da, b + db
            if np.nanmax(np.abs(np.concatenate([np.atleast_1d(da), np.atleast_1d(db)])), initial=0.0) < 1e-13:
                break
        return a, b

    def to_header(self) -> dict[str, tuple[float | str | int, str]]:
        """FITS keywords with values and comments."""
        plain = self.pv1 == _IDENTITY and self.pv2 == _IDENTITY
        kind = "TAN" if plain else "TPV"
        header: dict[str, tuple[float | str | int, str]] = {
            "WCSAXES": (2, "number of coordinate axes"),
            "CTYPE1": (f"RA---{kind}", "gnomonic projection"),
            "CTYPE2": (f"DEC--{kind}", "gnomonic projection"),
            "CUNIT1": ("deg", "unit of axis 1"),
            "CUNIT2": ("deg", "unit of axis 2"),
            "CRVAL1": (self.crval[0], "[deg] right ascension of the reference point"),
            "CRVAL2": (self.crval[1], "[deg] declination of the reference point"),
            "CRPIX1": (self.crpix[0] + 1, "[pixel] reference pixel along axis 1"),
            "CRPIX2": (self.crpix[1] + 1, "[pixel] reference pixel along axis 2"),
            "RADESYS": ("ICRS", "coordinate frame"),
        }
        for i in (0, 1):
            for j in (0, 1):
                header[f"CD{i + 1}_{j + 1}"] = (self.cd[i][j], "[deg/pixel] transformation matrix")
        if not plain:
            for axis, terms in ((1, self.pv1), (2, self.pv2)):
                header.update({f"PV{axis}_{k}": (value, "TPV coefficient") for k, value in enumerate(terms)})
        return header

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> Wcs:
        """Read a TAN or TPV projection.

        Raises
        ------
        WcsError
            A keyword is missing or no number, or the projection is another one.
        """
        kinds = tuple(str(header.get(f"CTYPE{i}", "")).strip() for i in (1, 2))
        if kinds not in {("RA---TAN", "DEC--TAN"), ("RA---TPV", "DEC--TPV")}:
            raise WcsError("header", f"CTYPE1, CTYPE2 = {kinds}", "RA---TAN, DEC--TAN or RA---TPV, DEC--TPV")
        crval = (_number(header, "CRVAL1"), _number(header, "CRVAL2"))
        crpix = (_number(header, "CRPIX1") - 1, _number(header, "CRPIX2") - 1)
        cd = _matrix(header)
        if kinds[0].endswith("TAN"):
            return cls(crval, crpix, cd)
        return cls(crval, crpix, cd, _terms(header, 1), _terms(header, 2))


def project(ra: Doubles, dec: Doubles, ra0: float, dec0: float) -> tuple[Doubles, Doubles]:
    """Gnomonic standard coordinates (degrees) of sky positions (degrees) about ``(ra0, dec0)``."""
    delta, declination, pole = np.radians(ra - ra0), np.radians(dec), np.radians(dec0)
    cosine = np.sin(pole) * np.sin(declination) + np.cos(pole) * np.cos(declination) * np.cos(delta)
    cosine = np.where(cosine > 1e-9, cosine, np.nan)
    xi = np.cos(declination) * np.sin(delta) / cosine
    eta = (np.cos(pole) * np.sin(declination) - np.sin(pole) * np.cos(declination) * np.cos(delta)) / cosine
    return np.degrees(xi), np.degrees(eta)


def deproject(xi: Doubles, eta: Doubles, ra0: float, dec0: float) -> tuple[Doubles, Doubles]:
    """Sky positions (degrees) of gnomonic standard coordinates (degrees) about ``(ra0, dec0)``."""
    x, y, pole = np.radians(xi), np.radians(eta), np.radians(dec0)
    denominator = np.cos(pole) - y * np.sin(pole)
    ra = ra0 + np.degrees(np.arctan2(x, denominator))
    dec = np.degrees(np.arctan2(np.sin(pole) + y * np.cos(pole), np.hypot(x, denominator)))
    return np.mod(ra, 360.0), dec


def _polynomial(terms: tuple[float, ...], first: Doubles, second: Doubles) -> Doubles:
    radius = np.hypot(first, second)
    total = np.zeros_like(radius)
    for value, (i, j, k) in zip(terms, _TPV_POWERS, strict=False):
        if value:
            total = total + value * first**i * second**j * radius**k
    return total


def _number(header: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = header.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e300:
        raise WcsError("header", f"{key} = {value!r}", "a finite number")
    return float(value)


def _matrix(header: Mapping[str, Any]) -> tuple[tuple[float, float], tuple[float, float]]:
    if "CD1_1" in header:
        return (
            (_number(header, "CD1_1"), _number(header, "CD1_2", 0.0)),
            (_number(header, "CD2_1", 0.0), _number(header, "CD2_2")),
        )
    dx, dy = _number(header, "CDELT1"), _number(header, "CDELT2")
    return (
        (dx * _number(header, "PC1_1", 1.0), dx * _number(header, "PC1_2", 0.0)),
        (dy * _number(header, "PC2_1", 0.0), dy * _number(header, "PC2_2", 1.0)),
    )


def _terms(header: Mapping[str, Any], axis: int) -> tuple[float, ...]:
    present = [k for k in range(40) if f"PV{axis}_{k}" in header]
    if not present:
        return _IDENTITY
    return tuple(_number(header, f"PV{axis}_{k}", 1.0 if k == 1 else 0.0) for k in range(max(present) + 1))
