"""World coordinates: gnomonic projection with a linear matrix, TPV or SIP polynomials, as FITS headers carry them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.pixels.distortion import (
    IDENTITY,
    TPV_POWERS,
    Terms,
    fit_sip,
    homogeneous,
    inverse,
    linear_sip,
    sip,
    sip_order,
    tpv,
)
from workloads.pixels.errors import WcsError
from workloads.pixels.images import Doubles

_KINDS = tuple((f"RA---{kind}", f"DEC--{kind}") for kind in ("TAN", "TAN-SIP", "TPV"))
_DISTORTION = re.compile(r"PV[12]_\d+|[AB]P?_ORDER")
_TABLES = ("CPDIS1", "CPDIS2", "CQDIS1", "CQDIS2", "D2IMDIS1", "D2IMDIS2")
"""Distortions that stand in tables of their own, or in functions of a draft of the standard."""
_FORMER = {
    **{f"{name}00{i}00{j}": f"{name}{i}_{j}" for name in ("PC", "CD") for i in (1, 2) for j in (1, 2)},
    "LONGPOLE": "LONPOLE", "RADECSYS": "RADESYS",
}  # fmt: skip
"""Keywords of drafts and predecessors of the standard, and what they are called in it."""
_SIP_ORDERS = range(2, 10)
"""Orders that the convention knows."""


@dataclass(frozen=True)
class Wcs:
    """A gnomonic projection: TAN, TAN-SIP or TPV.

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
    sip_a, sip_b
        SIP coefficients of each axis: of 1, u, v, u², uv, v² ..., all terms up to an order; empty without.
    sip_ap, sip_bp
        The same of the inverse as the header has it. It is approximate and kept for others; here the inverse is exact.

    Raises
    ------
    WcsError
        Values are not finite, the matrix cannot be inverted, a declination is none, or the terms fit no convention.
    """

    crval: tuple[float, float]
    crpix: tuple[float, float]
    cd: tuple[tuple[float, float], tuple[float, float]]
    pv1: Terms = field(default=IDENTITY)
    pv2: Terms = field(default=IDENTITY)
    sip_a: Terms = ()
    sip_b: Terms = ()
    sip_ap: Terms = ()
    sip_bp: Terms = ()

    def __post_init__(self) -> None:
        sips = self.sip_a, self.sip_b, self.sip_ap, self.sip_bp
        numbers = [*self.crval, *self.crpix, *self.cd[0], *self.cd[1], *self.pv1, *self.pv2, *sum(sips, ())]
        if not np.isfinite(np.array(numbers, np.float64)).all() or abs(np.linalg.det(np.array(self.cd))) < 1e-20:
            raise WcsError(
                "WCS", "a matrix that cannot be inverted or values that are not finite", "finite, regular CD"
            )
        if abs(self.crval[1]) > 90:
            raise WcsError("WCS", f"a declination of {self.crval[1]}", "-90 to 90 degrees")
        if max(len(self.pv1), len(self.pv2)) > len(TPV_POWERS):
            raise WcsError("WCS", "TPV terms beyond the seventh order", f"PVi_0 to PVi_{len(TPV_POWERS) - 1}")
        try:
            orders = [sip_order(terms) for terms in sips]
        except ValueError as error:
            raise WcsError("WCS", f"SIP polynomials of {error}", "all terms up to an order") from error
        if (orders[0] < 0) != (orders[1] < 0) or (orders[0] >= 0 and self._has_tpv):
            raise WcsError("WCS", "SIP terms for one axis, or besides TPV terms", "both axes, one convention")

    @property
    def _has_tpv(self) -> bool:
        return self.pv1 != IDENTITY or self.pv2 != IDENTITY

    @property
    def pixel_scale(self) -> float:
        """Degrees per pixel at the reference point."""
        return float(np.sqrt(abs(np.linalg.det(np.array(self.cd)))))

    def pixel_to_sky(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Doubles, Doubles]:
        """Right ascension and declination (degrees) of pixel positions."""
        u = np.asarray(x, np.float64) - self.crpix[0]
        v = np.asarray(y, np.float64) - self.crpix[1]
        u, v = self._bend_pixels(u, v) if self.sip_a else (u, v)
        xi, eta = self.cd[0][0] * u + self.cd[0][1] * v, self.cd[1][0] * u + self.cd[1][1] * v
        return deproject(*(self._bend_plane(xi, eta) if self._has_tpv else (xi, eta)), *self.crval)

    def sky_to_pixel(self, ra: npt.ArrayLike, dec: npt.ArrayLike) -> tuple[Doubles, Doubles]:
        """Pixel positions of right ascension and declination (degrees).

        NaN on the far side of the sky, and where the distortion takes no pixel.
        """
        xi, eta = project(np.asarray(ra, np.float64), np.asarray(dec, np.float64), *self.crval)
        if self._has_tpv:
            xi, eta = inverse(self._bend_plane, xi, eta, 1e-5)
        back = np.linalg.inv(np.array(self.cd))
        u, v = back[0, 0] * xi + back[0, 1] * eta, back[1, 0] * xi + back[1, 1] * eta
        if self.sip_a:
            u, v = inverse(self._bend_pixels, u, v, 0.1)
        return u + self.crpix[0], v + self.crpix[1]

    def shifted(self, dx: float, dy: float) -> Wcs:
        """Return the same sky on a pixel grid whose origin lies at ``(dx, dy)`` of this one."""
        return replace(self, crpix=(self.crpix[0] - dx, self.crpix[1] - dy))

    def mapped(self, matrix: Doubles) -> Wcs:
        """Return the same sky on a pixel grid that ``matrix`` (2, 3) takes onto this one."""
        linear, shift = matrix[:, :2], matrix[:, 2]
        crpix = np.linalg.solve(linear, np.array(self.crpix) - shift)
        cd = np.array(self.cd) @ linear
        a, b = linear_sip(self.sip_a, self.sip_b, linear)
        rows = (float(cd[0, 0]), float(cd[0, 1])), (float(cd[1, 0]), float(cd[1, 1]))
        place = float(crpix[0]), float(crpix[1])
        return replace(self, crpix=place, cd=rows, sip_a=a, sip_b=b, sip_ap=(), sip_bp=())

    def with_inverse(self, shape: tuple[int, int], order: int = 4) -> Wcs:
        """Return the same with SIP polynomials of the inverse fitted over an image of that shape, for headers."""
        if not self.sip_a:
            return self
        grid = np.meshgrid(*(np.linspace(0, n - 1, 25) - c for n, c in zip(shape[::-1], self.crpix, strict=True)))
        u, v = (part.ravel() for part in grid)
        there_u, there_v = self._bend_pixels(u, v)
        changes = u - there_u, v - there_v
        return replace(
            self,
            sip_ap=fit_sip(there_u, there_v, changes[0], order),
            sip_bp=fit_sip(there_u, there_v, changes[1], order),
        )

    def _bend_plane(self, xi: Doubles, eta: Doubles) -> tuple[Doubles, Doubles]:
        return tpv(self.pv1, xi, eta), tpv(self.pv2, eta, xi)

    def _bend_pixels(self, u: Doubles, v: Doubles) -> tuple[Doubles, Doubles]:
        return u + sip(self.sip_a, u, v), v + sip(self.sip_b, u, v)

    def to_header(self) -> dict[str, tuple[float | str | int, str]]:
        """FITS keywords with values and comments."""
        kind = "TPV" if self._has_tpv else "TAN"
        suffix = "-SIP" if self.sip_a else ""
        header: dict[str, tuple[float | str | int, str]] = {
            "WCSAXES": (2, "number of coordinate axes"),
            "CTYPE1": (f"RA---{kind}{suffix}", "gnomonic projection"),
            "CTYPE2": (f"DEC--{kind}{suffix}", "gnomonic projection"),
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
        if self.crval[1] >= 90:
            # At the pole itself the convention's default is another.
            header["LONPOLE"] = (180.0, "[deg] native longitude of the pole")
        if self._has_tpv:
            for axis, terms in ((1, self.pv1), (2, self.pv2)):
                header.update({f"PV{axis}_{k}": (value, "TPV coefficient") for k, value in enumerate(terms)})
        for name, terms in (("A", self.sip_a), ("B", self.sip_b), ("AP", self.sip_ap), ("BP", self.sip_bp)):
            header.update(_sip_cards(name, terms))
        return header

    @classmethod
    def from_header(cls, header: Mapping[str, Any], *, scamp: bool = False) -> Wcs:
        """Read a TAN, TAN-SIP or TPV projection.

        Parameters
        ----------
        scamp
            Whether PVi_k of a plain TAN projection are the distortion that SCAMP wrote before there was TPV.

        Raises
        ------
        WcsError
            A keyword is missing or no number, or the projection is another one.
        """
        header = _in_todays_words(header)
        kinds = tuple(str(header.get(f"CTYPE{i}", "")).strip() for i in (1, 2))
        if kinds not in _KINDS:
            raise WcsError("header", f"CTYPE1, CTYPE2 = {kinds}", " or ".join(", ".join(kind) for kind in _KINDS))
        crval = (_number(header, "CRVAL1"), _number(header, "CRVAL2"))
        crpix = (_number(header, "CRPIX1") - 1, _number(header, "CRPIX2") - 1)
        plain = cls(crval, crpix, _matrix(header))
        _refuse_other_frames(header, crval[1])
        if kinds[0].endswith("SIP"):
            return _with_sip(plain, header)
        pv1, pv2 = _terms(header, 1), _terms(header, 2)
        if kinds[0].endswith("TPV") or scamp:
            return replace(plain, pv1=pv1, pv2=pv2)
        found = sorted(key for key in header if _DISTORTION.fullmatch(str(key)))
        if found and (found[0][:2] != "PV" or {pv1, pv2} != {IDENTITY}):
            expected = "TPV or TAN-SIP in CTYPE1 and CTYPE2; TPV is what SCAMP means by PVi_k of TAN"
            raise WcsError("header", f"a plain TAN projection with {found[0]}", expected)
        return plain


def _in_todays_words(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return a header with keywords of before the standard under their names of today; those that it has stay."""
    known = {str(key): value for key, value in header.items()}
    return {_FORMER.get(key, key): value for key, value in known.items() if key in _FORMER} | {
        key: value for key, value in known.items() if key not in _FORMER
    }


def _with_sip(plain: Wcs, header: Mapping[str, Any]) -> Wcs:
    """Return a projection with the SIP polynomials of a header; one that has none is plain."""
    if not any(re.fullmatch(r"[AB]P?_(ORDER|\d+_\d+)", key) for key in header):
        return plain
    a, b = _sip_terms(header, "A"), _sip_terms(header, "B")
    back = [_sip_terms(header, name) if f"{name}_ORDER" in header else () for name in ("AP", "BP")]
    return replace(plain, sip_a=a, sip_b=b, sip_ap=back[0], sip_bp=back[1]) if a or b else plain


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


def _number(header: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = header.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e300:
        raise WcsError("header", f"{key} = {value!r}", "a finite number")
    return float(value)


def _matrix(header: Mapping[str, Any]) -> tuple[tuple[float, float], tuple[float, float]]:
    if any(f"CD{i}_{j}" in header for i in (1, 2) for j in (1, 2)):
        return (
            (_number(header, "CD1_1", 0.0), _number(header, "CD1_2", 0.0)),
            (_number(header, "CD2_1", 0.0), _number(header, "CD2_2", 0.0)),
        )
    if any(_number(header, key, 0.0) for key in ("CROTA1", "CROTA2")):
        raise WcsError("header", "a rotation in CROTA", "CDi_j, or CDELTi with PCi_j")
    turned = any(f"PC{i}_{j}" in header for i in (1, 2) for j in (1, 2))
    dx, dy = (_number(header, key, 1.0 if turned else None) for key in ("CDELT1", "CDELT2"))
    return (
        (dx * _number(header, "PC1_1", 1.0), dx * _number(header, "PC1_2", 0.0)),
        (dy * _number(header, "PC2_1", 0.0), dy * _number(header, "PC2_2", 1.0)),
    )


def _terms(header: Mapping[str, Any], axis: int) -> tuple[float, ...]:
    present = [k for k in range(40) if f"PV{axis}_{k}" in header]
    if not present:
        return IDENTITY
    terms = tuple(_number(header, f"PV{axis}_{k}", 1.0 if k == 1 else 0.0) for k in range(max(present) + 1))
    return terms if any(terms[len(IDENTITY) :]) or terms[: len(IDENTITY)] != IDENTITY else IDENTITY


def _sip_terms(header: Mapping[str, Any], name: str) -> Terms:
    order = _number(header, f"{name}_ORDER")
    given = {key: header[key] for key in header if re.fullmatch(rf"{name}_\d+_\d+", key)}
    if order in {0, 1} and not name.endswith("P") and not any(given.values()):
        return ()
    if order not in _SIP_ORDERS and not (name.endswith("P") and order in {0, 1}):
        raise WcsError("header", f"{name}_ORDER = {order:g}", f"{_SIP_ORDERS[0]} to {_SIP_ORDERS[-1]}")
    return tuple(_number(header, f"{name}_{p}_{q}", 0.0) for p, q in homogeneous(int(order)))


def _sip_cards(name: str, terms: Terms) -> dict[str, tuple[float | str | int, str]]:
    if not terms:
        return {}
    order = sip_order(terms)
    values = zip(homogeneous(order), terms, strict=True)
    cards: dict[str, tuple[float | str | int, str]] = {f"{name}_ORDER": (order, "order of the SIP polynomial")}
    return cards | {f"{name}_{p}_{q}": (value, "SIP coefficient") for (p, q), value in values if value}


def _refuse_other_frames(header: Mapping[str, Any], declination: float) -> None:
    """Units, poles, frames and distortions that would be read as what they are not."""
    for key in _TABLES:
        if str(header.get(key) or "").strip():
            raise WcsError("header", f"a distortion by {key} = {header[key]!r}", "TPV or SIP")
    for axis in (1, 2):
        unit = str(header.get(f"CUNIT{axis}", "deg")).strip().lower()
        if unit not in {"deg", ""}:
            raise WcsError("header", f"CUNIT{axis} = {unit!r}", "deg")
    pole = _number(header, "LONPOLE", 0.0 if declination >= 90 else 180.0)
    if pole != 180:
        raise WcsError("header", f"a native longitude of the pole (LONPOLE) of {pole:g}", "180 degrees")
    frame = str(header.get("RADESYS", "ICRS")).strip()
    if frame not in {"ICRS", "FK5", ""}:
        raise WcsError("header", f"RADESYS = {frame!r}", "ICRS, or FK5 of equinox 2000, which is the same here")
    if (frame == "FK5" or "RADESYS" not in header) and _number(header, "EQUINOX", 2000.0) != 2000:
        raise WcsError("header", f"EQUINOX = {header['EQUINOX']}", "2000.0")
