"""A directory of real exposures: which epoch each belongs to, and the light that it recorded.

File names tell the epochs: the digits before the letter that numbers an exposure, as in ``OBS04a``. A file `manifest.yml`
in the directory may say it instead, and what headers lack or have wrong::

    science: [night2-1.fits, night2-2.fits.gz]
    template: [night1-1.fits, night1-2.fits]
    keywords: {SKYDIP: 4100.0}
    extension: SCI
    scamp: true

`extension` is the name or number of the image where a file has more than one; `scamp` says that PVi_k beside TAN are the
distortion that SCAMP wrote. What an image's own header lacks is taken from the file's primary header.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.io import fits
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workloads.common.errors import NonRetriableError
from workloads.common.filters import BANDS, DEFINED, band_of
from workloads.common.plan import SKY_PREFIX
from workloads.common.plan import Field as SkyField
from workloads.pixels.errors import PixelError
from workloads.pixels.images import Floats
from workloads.pixels.wcs import Wcs

LOG = logging.getLogger(__name__)
MANIFEST = "manifest.yml"
TEMPLATE_MINIMUM = 2
_EPOCH = re.compile(r"(?P<epoch>\d+)[a-z](?:$|[^0-9a-z])", re.IGNORECASE)
_SKY_KEYWORDS = ("SKYDIP", "AVSKY", "SKYLEVEL")
_SIDE_UNIT, _LEAST_SIDE = 16, 64
_SUFFIXES = (".fits", ".fits.gz", ".fit", ".fit.gz", ".fz")
_BAND = re.compile(r"([ugrizyY])[a-z]?(?![A-Za-z])")
"""Names such as ``i DECam``, ``r.00000``, ``rp``: a letter and at most one beside it."""
_PROJECTION = re.compile(
    r"WCSAXES|(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA)[12]|(CD|PC)[12]_[12]|(CD|PC)00[12]00[12]|PV[12]_\d+"
    r"|[AB]P?_(ORDER|\d+_\d+)|LONPOLE|LATPOLE|LONGPOLE|RADESYS|RADECSYS|EQUINOX|(CPDIS|CQDIS|D2IMDIS)[12]"
)
_COMMENTS = {"", "COMMENT", "HISTORY"}


class Manifest(BaseModel):
    """What `manifest.yml` may say: files by role, keywords for all files, which image of each, and whose PVi_k they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    science: list[str] = Field(default_factory=list)
    template: list[str] = Field(default_factory=list)
    keywords: dict[str, float | str] = Field(default_factory=dict)
    extension: int | str | None = None
    scamp: bool = False


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
        Its header: what the manifest says, else its own, else the file's primary one.
    unread
        Cards whose value cannot be understood, by keyword.
    scamp
        Whether PVi_k beside TAN are SCAMP's distortion.
    """

    name: str
    pixels: Floats = field(repr=False)
    header: dict[str, Any] = field(repr=False)
    unread: dict[str, str] = field(default_factory=dict, repr=False)
    scamp: bool = False

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
            cards = [self.unread[keyword] for keyword in keywords if keyword in self.unread]
            said = f"in the card {cards[0]!r}" if cards and found is None else repr(found)
            raise NonRetriableError(f"{self.name}: {wanted} is {said}, expected a number; {MANIFEST} may give it")
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
        """Letter of the filter; empty if its name tells none."""
        name = str(self.header.get("FILTER", "")).strip()
        defined = band_of(name)
        match = _BAND.match(name)
        return defined if defined in tuple(BANDS) else match[1].lower() if match and name not in DEFINED else ""

    @cached_property
    def wcs(self) -> Wcs:
        """World coordinates of the header."""
        try:
            return Wcs.from_header(self.header, scamp=self.scamp)
        except PixelError as error:
            raise NonRetriableError(f"{self.name}: {error}") from error

    def cropped(self, side: int) -> RealExposure:
        """Return the middle of the exposure, `side` x `side` pixels."""
        (rows, columns), header = self.pixels.shape, dict(self.header)
        bottom, left = (rows - side) // 2, (columns - side) // 2
        for keyword, offset in (("CRPIX1", left), ("CRPIX2", bottom)):
            header[keyword] = self.number(keyword) - offset
        pixels = np.ascontiguousarray(self.pixels[bottom : bottom + side, left : left + side])
        return replace(self, pixels=pixels, header=header)


@dataclass(frozen=True)
class RealSky:
    """Exposures of one field in two epochs.

    Parameters
    ----------
    name
        ``sky-`` and a digest of all files with their roles: the same everywhere for the same exposures.
    science, template
        The exposures to replay, and those that the template is made of.
    cropped
        What was done to exposures that are no square; empty if nothing was.
    """

    name: str
    science: list[RealExposure]
    template: list[RealExposure]
    cropped: str = ""

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
        files = {path.name: path for path in sorted(folder.glob("*")) if path.name.endswith(_SUFFIXES)}
        if not files:
            raise NonRetriableError(f"{folder}: no FITS files, expected the exposures of two epochs")
        manifest = _manifest(folder / MANIFEST)
        roles = _roles(folder, manifest, list(files))
        unsaid = {key for key in ("extension", "scamp") if getattr(manifest, key) in (None, False)}
        digest = hashlib.sha256(manifest.model_dump_json(exclude=unsaid).encode())
        exposures: dict[str, list[RealExposure]] = {"science": [], "template": []}
        for role, names in roles.items():
            for name in names:
                data = files[name].read_bytes()
                digest.update(f"{role} {name} {hashlib.sha256(data).hexdigest()}\n".encode())
                exposures[role].append(_exposure(files[name], manifest))
        _require_alike([*exposures["template"], *exposures["science"]])
        side, said = _square(exposures["template"][0])
        if said:
            LOG.warning("%s: %s", folder, said)
            exposures = {role: [one.cropped(side) for one in chosen] for role, chosen in exposures.items()}
        return cls(f"{SKY_PREFIX}{digest.hexdigest()[:10]}", exposures["science"], exposures["template"], said)


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


def _exposure(path: Path, manifest: Manifest) -> RealExposure:
    try:
        with fits.open(path, memmap=False) as hdus:
            hdu = _image(hdus, manifest.extension, path)
            unread: dict[str, str] = {}
            own, above = _cards(hdu.header, unread), _cards(hdus[0].header, unread)
            if "CTYPE1" in own:  # a projection is of one header, never a mixture
                above = {key: value for key, value in above.items() if not _PROJECTION.fullmatch(key)}
            header = {**above, **own, **manifest.keywords}
            pixels = np.asarray(hdu.data, np.float32).reshape(hdu.shape[-2:])
            return RealExposure(path.name, pixels, header, unread, manifest.scamp)
    except NonRetriableError:
        raise
    except Exception as error:  # readers of foreign files fail in any way
        raise NonRetriableError(f"{path}: damaged or no FITS file: {type(error).__name__}: {error}") from error


def _image(hdus: Any, extension: int | str | None, path: Path) -> Any:
    """Return the image of a file: the one that the manifest says, or the only one."""
    images = {
        number: hdu
        for number, hdu in enumerate(hdus)
        if hdu.is_image and len(hdu.shape) >= 2 and max(hdu.shape[:-2], default=1) == 1
    }
    names = ", ".join(hdu.name or str(number) for number, hdu in images.items())
    if extension is not None:
        chosen = [hdu for number, hdu in images.items() if extension in {number, hdu.name}]
        if len(chosen) != 1:
            raise NonRetriableError(f"{path}: {MANIFEST} asks for extension {extension!r}, expected one of {names}")
        return chosen[0]
    if not images:
        raise NonRetriableError(f"{path}: no image in it, expected one of two dimensions")
    if len(images) > 1:
        raise NonRetriableError(
            f"{path}: {len(images)} images in it: {names}; {MANIFEST} may say which, as in `extension: {names.split(',')[0]}`"
        )
    return next(iter(images.values()))


def _cards(header: fits.Header, unread: dict[str, str]) -> dict[str, Any]:
    """Return keywords and values; cards without a value, or with one that is none, are left out, these named in `unread`."""
    found: dict[str, Any] = {}
    for card in header.cards:
        try:
            value = card.value
        except fits.VerifyError:
            unread[card.keyword] = card.image.rstrip()
            continue
        if value is not None and not isinstance(value, fits.card.Undefined) and card.keyword not in _COMMENTS:
            found[card.keyword] = value
    return found


def _require_alike(exposures: list[RealExposure]) -> None:
    """Refuse exposures that one detector cannot have taken, or that lack what a replay needs."""
    first = exposures[0]
    for one in exposures:
        if one.pixels.shape != first.pixels.shape:
            (rows, columns), (others, beside) = one.pixels.shape, first.pixels.shape
            raise NonRetriableError(
                f"{one.name}: {columns} x {rows} pixels; expected {beside} x {others}, as {first.name} has"
            )
        if not one.band or one.band != first.band:
            raise NonRetriableError(
                f"{one.name}: FILTER {one.header.get('FILTER')!r}; expected one that begins with ugrizy, alike in all; "
                f"{MANIFEST} may give it"
            )
        _ = one.wcs, one.sky, one.number("SATURATE")


def _square(exposure: RealExposure) -> tuple[int, str]:
    """Return the side of the square that an exposure is cropped to, and what that takes away; nothing if it is one.

    Raises
    ------
    NonRetriableError
        If nothing is left that could be measured.
    """
    rows, columns = exposure.pixels.shape
    side = min(rows, columns) // _SIDE_UNIT * _SIDE_UNIT
    if side < _LEAST_SIDE:
        raise NonRetriableError(
            f"{exposure.name}: {columns} x {rows} pixels; expected at least {_LEAST_SIDE} along each side"
        )
    if (rows, columns) == (side, side):
        return side, ""
    return side, f"exposures of {columns} x {rows} pixels are cropped to the {side} x {side} in their middle"
