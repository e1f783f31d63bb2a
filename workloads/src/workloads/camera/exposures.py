"""A directory of real exposures: which epoch each belongs to, and the light that it recorded.

File names tell the epochs: the digits before the letter that numbers an exposure, as in ``OBS04a``. A file `manifest.yml`
in the directory may say it instead, and what headers lack::

    science: [night2-1.fits, night2-2.fits]
    template: [night1-1.fits, night1-2.fits]
    keywords: {SKYDIP: 4100.0}
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.io import fits
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workloads.common.errors import NonRetriableError
from workloads.common.plan import SKY_PREFIX
from workloads.common.plan import Field as SkyField
from workloads.pixels.errors import PixelError
from workloads.pixels.images import Floats
from workloads.pixels.wcs import Wcs

MANIFEST = "manifest.yml"
TEMPLATE_MINIMUM = 2
_EPOCH = re.compile(r"(?P<epoch>\d+)[a-z](?:$|[^0-9a-z])", re.IGNORECASE)
_SKY_KEYWORDS = ("SKYDIP", "AVSKY", "SKYLEVEL")
_SIDE_UNIT = 16


class Manifest(BaseModel):
    """What `manifest.yml` may say: files by role, and keywords for all files that lack them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    science: list[str] = Field(default_factory=list)
    template: list[str] = Field(default_factory=list)
    keywords: dict[str, float | str] = Field(default_factory=dict)


@dataclass(frozen=True)
class RealExposure:
    """One exposure.

    Parameters
    ----------
    name
        File name.
    pixels
        Sky-subtracted counts as the file has them, ``float32[ny, nx]``.
    header
        Its header, with the manifest's keywords where it lacks them.
    """

    name: str
    pixels: Floats = field(repr=False)
    header: dict[str, Any] = field(repr=False)

    def number(self, *keywords: str) -> float:
        """Return the first of `keywords` that the header has.

        Raises
        ------
        NonRetriableError
            If it has none of them, or no finite number there.
        """
        found = next((self.header[keyword] for keyword in keywords if keyword in self.header), None)
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not np.isfinite(found):
            wanted = " or ".join(keywords)
            raise NonRetriableError(f"{self.name}: {wanted} is {found!r}, expected a number; {MANIFEST} may give it")
        return float(found)

    @property
    def gain(self) -> float:
        """Electrons per count."""
        return self.number("GAIN")

    @property
    def sky(self) -> float:
        """Electrons of sky per pixel that were subtracted."""
        return self.gain * self.number(*_SKY_KEYWORDS)

    @cached_property
    def electrons(self) -> Floats:
        """Sky-subtracted electrons; not finite where the exposure was saturated or has no data."""
        saturated = self.pixels >= self.number("SATURATE") - self.number(*_SKY_KEYWORDS)
        return np.where(saturated, np.nan, self.pixels * np.float32(self.gain)).astype(np.float32)

    @property
    def band(self) -> str:
        """Letter of the filter."""
        return str(self.header.get("FILTER", ""))[:1]

    @cached_property
    def wcs(self) -> Wcs:
        """World coordinates of the header."""
        try:
            return Wcs.from_header(self.header)
        except PixelError as error:
            raise NonRetriableError(f"{self.name}: {error}") from error


@dataclass(frozen=True)
class RealSky:
    """Exposures of one field in two epochs.

    Parameters
    ----------
    name
        ``sky-`` and a digest of all files with their roles: the same everywhere for the same exposures.
    science, template
        The exposures to replay, and those that the template is made of.
    """

    name: str
    science: list[RealExposure]
    template: list[RealExposure]

    @property
    def size(self) -> int:
        """Pixels along a side."""
        return int(self.template[0].pixels.shape[0])

    @property
    def field(self) -> SkyField:
        """The field: a sky map of its own, and the reference point of the first exposure."""
        first = self.template[0]
        return SkyField(1, self.name, *first.wcs.crval, skymap=self.name, band=first.band)

    def files(self, folder: Path) -> list[Path]:
        """Return what another place needs of the directory that the sky was read from."""
        names = [one.name for one in [*self.science, *self.template]]
        return [path for path in (*(folder / name for name in names), folder / MANIFEST) if path.exists()]

    @classmethod
    def read(cls, folder: Path) -> RealSky:
        """Read a directory.

        Raises
        ------
        NonRetriableError
            Naming the file or manifest, what it says, and what was expected.
        """
        files = {path.name: path for path in sorted(folder.glob("*")) if path.suffix in (".fits", ".fit", ".fz")}
        if not files:
            raise NonRetriableError(f"{folder}: no FITS files, expected the exposures of two epochs")
        manifest = _manifest(folder / MANIFEST)
        roles = _roles(folder, manifest, list(files))
        digest = hashlib.sha256(manifest.model_dump_json().encode())
        exposures: dict[str, list[RealExposure]] = {"science": [], "template": []}
        for role, names in roles.items():
            for name in names:
                data = files[name].read_bytes()
                digest.update(f"{role} {name} {hashlib.sha256(data).hexdigest()}\n".encode())
                exposures[role].append(_exposure(files[name], manifest.keywords))
        sky = cls(f"{SKY_PREFIX}{digest.hexdigest()[:10]}", exposures["science"], exposures["template"])
        _require_alike([*sky.template, *sky.science])
        return sky


def _manifest(path: Path) -> Manifest:
    if not path.exists():
        return Manifest()
    try:
        return Manifest.model_validate(yaml.safe_load(path.read_text()) or {})
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise NonRetriableError(f"{path}: cannot be used: {error}") from error


def _roles(folder: Path, manifest: Manifest, names: list[str]) -> dict[str, list[str]]:
    """Return the files of each role: as the manifest says, else the epoch of fewer exposures is the template."""
    if manifest.science or manifest.template:
        roles = {"science": sorted(manifest.science), "template": sorted(manifest.template)}
        unknown = [name for chosen in roles.values() for name in chosen if name not in names]
        if unknown:
            raise NonRetriableError(f"{folder / MANIFEST}: names {', '.join(unknown)}, which is not in the directory")
    else:
        epochs = _epochs(folder, names)
        template, science = sorted(epochs, key=lambda epoch: (len(epochs[epoch]), epoch))
        roles = {"science": epochs[science], "template": epochs[template]}
    both = set(roles["science"]) & set(roles["template"])
    if both or not roles["science"] or len(roles["template"]) < TEMPLATE_MINIMUM:
        raise NonRetriableError(
            f"{folder}: {len(roles['science'])} science and {len(roles['template'])} template exposures, {len(both)} in both; "
            f"expected at least 1 and {TEMPLATE_MINIMUM}, and none in both"
        )
    return roles


def _epochs(folder: Path, names: Iterable[str]) -> dict[str, list[str]]:
    epochs: dict[str, list[str]] = {}
    for name in names:
        match = _EPOCH.search(name.split(".", 1)[0])
        if match is None:
            raise NonRetriableError(
                f"{folder / name}: the name tells no epoch; expected digits and a letter as in OBS04a, or {MANIFEST}"
            )
        epochs.setdefault(match["epoch"], []).append(name)
    if len(epochs) != 2:
        said = ", ".join(sorted(epochs))
        raise NonRetriableError(
            f"{folder}: names tell {len(epochs)} epochs ({said}), expected 2; {MANIFEST} may name science and template"
        )
    return epochs


def _exposure(path: Path, keywords: dict[str, float | str]) -> RealExposure:
    try:
        with fits.open(path, memmap=False) as hdus:
            hdu = next((hdu for hdu in hdus if hdu.data is not None and hdu.data.ndim == 2), None)
            if hdu is None:
                raise NonRetriableError(f"{path}: no image in it, expected one of two dimensions")
            return RealExposure(path.name, hdu.data.astype(np.float32), {**keywords, **dict(hdu.header)})
    except (OSError, ValueError, TypeError) as error:
        raise NonRetriableError(f"{path}: damaged or no FITS file: {error}") from error


def _require_alike(exposures: list[RealExposure]) -> None:
    """Refuse exposures that one detector cannot have taken, or that lack what a replay needs."""
    first = exposures[0]
    for one in exposures:
        rows, columns = one.pixels.shape
        if rows != columns or rows % _SIDE_UNIT or one.pixels.shape != first.pixels.shape:
            raise NonRetriableError(
                f"{one.name}: {columns} x {rows} pixels; expected a square, its side a multiple of {_SIDE_UNIT}, alike in all"
            )
        if one.band not in tuple("ugrizy") or one.band != first.band:
            raise NonRetriableError(
                f"{one.name}: FILTER {one.header.get('FILTER')!r}; expected one that begins with ugrizy, alike in all"
            )
        _ = one.wcs, one.sky, one.number("SATURATE")
