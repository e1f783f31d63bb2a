"""The instrument for the Butler: its detectors and filter, and what a raw header says about exposure and visit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import astropy.time
from astropy.io.fits import Header
from astropy.io.fits.card import Undefined
from lsst.daf.butler import Timespan
from lsst.pipe.base import Instrument
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from workloads.common.errors import NonRetriableError
from workloads.common.filters import DEFINED, band_of, physical_filter
from workloads.common.names import INSTRUMENT, RawName
from workloads.common.plan import Field, field_at
from workloads.common.settings import Detector, science_raft
from workloads.pixels.errors import PixelError
from workloads.pixels.wcs import Wcs

VISIT_SYSTEM = 0
MARGIN_PIXELS = 20.0
_REQUIRED = (
    "OBSID",
    "IMGTYPE",
    "DAYOBS",
    "SEQNUM",
    "EXPID",
    "RAFTBAY",
    "CCDSLOT",
    "DETNUM",
    "EXPTIME",
    "MJD-BEG",
    "MJD-END",
    "DETWID",
    "DETHEI",
)

_NUMBERS = ("DETNUM", "EXPTIME", "MJD-BEG", "MJD-END", "DETWID", "DETHEI")
_ON_SKY = {"OBJECT", "SCIENCE", "SKYEXP"}
_LONGEST_TYPE, _LONGEST = 16, 64
"""Characters of an exposure's type and of other texts in the Butler."""


class LabCam(Instrument):
    """The camera of this observatory: one raft in the lab."""

    @classmethod
    def getName(cls) -> str:  # noqa: N802 - the base class
        """Return the name that data ids carry."""
        return INSTRUMENT

    def getRawFormatter(self, dataId: Any) -> type:  # noqa: N802, N803, ARG002 - the base class
        """Return the formatter of raw files."""
        from workloads.data_backbone.formatters import RawFormatter  # noqa: PLC0415 - only where files are read

        return RawFormatter

    def register(self, registry: Any, *, update: bool = False) -> None:
        """Write the dimension records of the instrument, its detectors and its filters."""
        self.register_detectors(registry, science_raft(), update=update)

    def register_detectors(self, registry: Any, detectors: Iterable[Detector], *, update: bool = False) -> None:
        """Write the records for the given detectors."""
        record = {
            "name": INSTRUMENT, "visit_max": 10**14, "exposure_max": 10**14, "detector_max": 256, "visit_system": VISIT_SYSTEM,
            "class_name": f"{type(self).__module__}.{type(self).__qualname__}",
        }  # fmt: skip
        with registry.transaction():
            registry.syncDimensionData("instrument", record, update=update)
            for detector in detectors:
                raft, slot = detector.name.split("_")
                values = {
                    "instrument": INSTRUMENT,
                    "id": detector.id,
                    "full_name": detector.name,
                    "raft": raft,
                    "name_in_raft": slot,
                    "purpose": "SCIENCE",
                }
                registry.syncDimensionData("detector", values, update=update)
            for name, band in DEFINED.items():
                values = {"instrument": INSTRUMENT, "name": name, "band": band}
                registry.syncDimensionData("physical_filter", values, update=update)
            registry.syncDimensionData(
                "visit_system", {"instrument": INSTRUMENT, "id": VISIT_SYSTEM, "name": "one-to-one"}, update=update
            )


def check_header(header: Header, name: RawName) -> None:
    """Refuse a header that lacks a keyword or contradicts the file's name.

    Raises
    ------
    NonRetriableError
        Naming keyword, value found and value expected.
    """
    for keyword in _REQUIRED:
        if not _is_known(header.get(keyword)):
            raise NonRetriableError(f"{name.key}: header without {keyword}")
    for keyword in _NUMBERS:
        if isinstance(header[keyword], str | bool):
            raise NonRetriableError(f"{name.key}: header has {keyword} = {header[keyword]!r}, expected a number")
    said = {
        "OBSID": name.exposure.obs_id,
        "EXPID": name.exposure.exposure_id,
        "RAFTBAY": name.detector.split("_")[0],
        "CCDSLOT": name.detector.split("_")[1],
    }
    for keyword, expected in said.items():
        if header[keyword] != expected:
            raise NonRetriableError(
                f"{name.key}: header has {keyword} = {header[keyword]!r}, expected {expected!r} by its name"
            )


def on_sky(header: Header) -> bool:
    """Tell whether an exposure saw the sky."""
    return str(header["IMGTYPE"]).upper() in _ON_SKY


def defines_visit(header: Header) -> bool:
    """Tell whether an exposure saw the sky and says where: one that does not is kept, but is no visit."""
    return on_sky(header) and _pointing(header) is not None


def group_of(header: Header) -> str:
    """Return the group of an exposure: calibrations often have none, and are then a group of their own number."""
    group = header.get("GROUPID")
    return (str(group).strip() if _is_known(group) else "")[:_LONGEST] or str(int(header["EXPID"]))


def exposure_records(header: Header) -> dict[str, dict[str, Any]]:
    """Return the dimension records of the exposure in a raw header, by element and in the order to insert."""
    timespan = _timespan(header)
    day, group, sky = int(header["DAYOBS"]), group_of(header), on_sky(header)
    name = physical_filter(header.get("FILTER"))
    wcs = _pointing(header) if sky else None
    pointing = wcs.crval if wcs else (None, None)
    exposure = {
        "instrument": INSTRUMENT, "id": int(header["EXPID"]), "obs_id": str(header["OBSID"]), "physical_filter": name,
        "group": group, "day_obs": day, "exposure_time": float(header["EXPTIME"]), "dark_time": float(header["EXPTIME"]),
        "observation_type": "science" if sky else str(header["IMGTYPE"]).lower()[:_LONGEST_TYPE], "observation_reason": "science",
        "seq_num": int(header["SEQNUM"]), "seq_start": int(header["SEQNUM"]), "seq_end": int(header["SEQNUM"]), "target_name": _target(header),
        "science_program": "lab", "tracking_ra": pointing[0], "tracking_dec": pointing[1], "sky_angle": 0.0 if wcs else None,
        "azimuth": None, "zenith_angle": None, "has_simulated": True, "can_see_sky": sky, "timespan": timespan,
    }  # fmt: skip
    return {
        "physical_filter": {"instrument": INSTRUMENT, "name": name, "band": band_of(name)},
        "day_obs": {"instrument": INSTRUMENT, "id": day, "timespan": None},
        "group": {"instrument": INSTRUMENT, "name": group},
        "exposure": exposure,
    }


def visit_records(header: Header) -> dict[str, dict[str, Any]]:
    """Return the records of the visit that one exposure makes, and of this detector's place on the sky."""
    number = int(header["EXPID"])
    key = {"instrument": INSTRUMENT, "visit": number}
    visit = {
        "instrument": INSTRUMENT, "id": number, "name": str(header["OBSID"]), "physical_filter": physical_filter(header.get("FILTER")), "day_obs": int(header["DAYOBS"]),
        "seq_num": int(header["SEQNUM"]), "exposure_time": float(header["EXPTIME"]), "target_name": _target(header),
        "observation_reason": "science", "science_program": "lab", "azimuth": None, "zenith_angle": None, "timespan": _timespan(header), "region": None,
    }  # fmt: skip
    return {
        "visit": visit,
        "visit_definition": {**key, "exposure": number},
        "visit_system_membership": {**key, "visit_system": VISIT_SYSTEM},
        "visit_detector_region": {**key, "detector": int(header["DETNUM"]), "region": detector_region(header)},
    }


def field_of_visit(registry: Any, data_id: Any) -> Field | None:
    """Return the field that a visit (of one exposure with the same number) looked at, or None."""
    for record in registry.queryDimensionRecords(
        "exposure", instrument=data_id["instrument"], exposure=data_id["visit"]
    ):
        return field_at(
            record.tracking_ra, record.tracking_dec, record.target_name or "", band_of(record.physical_filter)
        )
    return None


def field_of(header: Header) -> Field | None:
    """Return the field that a raw exposure looked at, in the band of its filter, or None.

    Raises
    ------
    NonRetriableError
        If the header does not say where it looked.
    """
    return field_at(*_wcs(header).crval, _target(header), band_of(header.get("FILTER")))


def detector_region(header: Header) -> ConvexPolygon:
    """Return the region of the sky that a detector saw, a margin for the pointing's error included."""
    return region_of(_wcs(header), int(header["DETWID"]), int(header["DETHEI"]), MARGIN_PIXELS)


def region_of(wcs: Wcs, width: int, height: int, margin: float) -> ConvexPolygon:
    """Return the region of a detector of `width` x `height` pixels, widened by `margin` pixels."""
    x = [-margin, width + margin, width + margin, -margin]
    y = [-margin, -margin, height + margin, height + margin]
    ra, dec = wcs.pixel_to_sky(x, y)
    return ConvexPolygon([UnitVector3d(LonLat.fromDegrees(float(a), float(d))) for a, d in zip(ra, dec, strict=True)])


def _timespan(header: Header) -> Timespan:
    times = [astropy.time.Time(float(header[keyword]), format="mjd", scale="tai") for keyword in ("MJD-BEG", "MJD-END")]
    return Timespan(times[0], times[1])


def _target(header: Header) -> str:
    target = header.get("OBJECT")
    return str(target)[:_LONGEST] if _is_known(target) else ""


def _is_known(value: Any) -> bool:
    """Tell whether a header has a value under a keyword: one may stand there without any."""
    return value is not None and value != "" and not isinstance(value, Undefined)


def _pointing(header: Header) -> Wcs | None:
    try:
        return _wcs(header)
    except NonRetriableError:
        return None


def _wcs(header: Header) -> Wcs:
    try:
        return Wcs.from_header(header)
    except PixelError as error:
        raise NonRetriableError(f"{header.get('OBSID')}: {error}") from error
