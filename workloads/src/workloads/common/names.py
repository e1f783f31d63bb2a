"""Names of images: object keys, observation ids and the integers that the Butler and the alert database use.

What a file is, is told by its name, here and nowhere else: `classify`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from workloads.common.errors import NonRetriableError

INSTRUMENT = "LSSTCam"
CAMERA_CODE = "MC"
SIMULATED = "S"

LAST_SEQ_NUM = 99_999
"""Highest number of an exposure in a day: the Butler's exposure id has five digits for it."""
_OBS_ID = re.compile(r"(?P<camera>[A-Z]{2})_(?P<controller>[A-Z])_(?P<day>[0-9]{8})_(?P<seq>[0-9]{6})")
_DETECTOR = re.compile(r"R[0-9]{2}_S([0-9]{2}|[GW][0-9])")
_PLACE = re.compile(
    rf"(?P<instrument>\w+)/(?P<folder>[0-9]{{8}})/(?P<obs>{_OBS_ID.pattern})/(?P=obs)_(?P<rest>[^/]+)", re.ASCII
)
_FORMS = (".fits.fz", ".fits.gz", ".fz")
_SOURCE_BITS = 13
_DETECTORS = 256


class Kind(StrEnum):
    """What a file of the camera is, by its name; what is done with it stands in `Named`."""

    SCIENCE = "raw image of a science sensor"
    WAVEFRONT = "raw image of a wavefront sensor"
    GUIDER = "image or stamps of a guider"
    BESIDE = "sidecar or list of sensors"
    OTHER_FORM = "raw image in another form than the archiver writes"
    OTHER_CAMERA = "file of another camera"
    UNKNOWN = "no file that a camera or archiver writes"


@dataclass(frozen=True)
class Named:
    """What `classify` found.

    Every kind is archived: forwarders carry all of them to all sites as they are. Raw images are also announced where they
    arrive, and those of science sensors ingested and processed. The rest is left in peace where it stands.
    """

    kind: Kind
    raw: RawName | None = None
    """The raw image; None for all that is none."""

    @property
    def ingested(self) -> bool:
        """Whether the file belongs into the Butler."""
        return self.kind is Kind.SCIENCE

    @property
    def before_pixels(self) -> bool:
        """Whether the file has to land before the pixels of its exposure."""
        return self.kind is Kind.BESIDE


@dataclass(frozen=True, order=True)
class ExposureName:
    """One exposure of the main camera.

    Parameters
    ----------
    day_obs
        Observing day, YYYYMMDD in UTC-12.
    seq_num
        Number within the day, from 1 to `LAST_SEQ_NUM`.
    controller
        One letter for what triggered it: ``O`` is the OCS, ``S`` a simulation.

    Raises
    ------
    NonRetriableError
        If the number is beyond the limit: the id of such an exposure would be another's, of the next day.
    """

    day_obs: int
    seq_num: int
    controller: str = SIMULATED

    def __post_init__(self) -> None:
        if not 0 <= self.seq_num <= LAST_SEQ_NUM:
            raise NonRetriableError(
                f"sequence number {self.seq_num} of {self.day_obs}: expected at most {LAST_SEQ_NUM}; "
                "exposure ids have five digits for it"
            )

    @property
    def obs_id(self) -> str:
        """The observation id, such as ``MC_S_20261122_000034``."""
        return f"{CAMERA_CODE}_{self.controller}_{self.day_obs}_{self.seq_num:06d}"

    @property
    def exposure_id(self) -> int:
        """The Butler's exposure and visit id: YYYYMMDDnnnnn."""
        return self.day_obs * 100000 + self.seq_num

    @property
    def prefix(self) -> str:
        """The folder of all its objects, with a closing slash."""
        return f"{INSTRUMENT}/{self.day_obs}/{self.obs_id}/"

    @property
    def expected_sensors_key(self) -> str:
        """Key of the list of sensors that this exposure must have."""
        return f"{self.prefix}{self.obs_id}_expectedSensors.json"

    def key(self, detector: str, suffix: str = ".fits") -> str:
        """Return the object key of one detector, such as ``R22_S11``; the sidecar has `suffix` ``.json``."""
        return f"{self.prefix}{self.obs_id}_{detector}{suffix}"

    @classmethod
    def from_obs_id(cls, obs_id: str) -> ExposureName:
        """Parse an observation id.

        Raises
        ------
        NonRetriableError
            If it is none.
        """
        match = _OBS_ID.fullmatch(obs_id)
        if not match or match["camera"] != CAMERA_CODE:
            raise NonRetriableError(f"{obs_id}: not an observation id; expected {CAMERA_CODE}_C_YYYYMMDD_nnnnnn")
        return cls(int(match["day"]), int(match["seq"]), match["controller"])


@dataclass(frozen=True, order=True)
class RawName:
    """One raw file: an exposure and the name of its detector."""

    exposure: ExposureName
    detector: str

    @property
    def key(self) -> str:
        """The object key."""
        return self.exposure.key(self.detector)

    @property
    def sidecar_key(self) -> str:
        """The key of its JSON sidecar, which lands first."""
        return self.exposure.key(self.detector, ".json")

    @classmethod
    def from_key(cls, key: str) -> RawName:
        """Parse an object key.

        Raises
        ------
        NonRetriableError
            If the key is not a raw file's, or its parts contradict each other.
        """
        raw = classify(key).raw
        if raw is None:
            raise NonRetriableError(
                f"{key}: not the name of a raw image; expected instrument/day/obsid/obsid_Rnn_Snn.fits"
            )
        return raw


def classify(key: str) -> Named:
    """Tell what a file is by its object key; every text is a name of something."""
    match = _PLACE.fullmatch(key)
    if not match or match["instrument"] != INSTRUMENT or match["folder"] != match["day"]:
        return Named(Kind.UNKNOWN)
    if match["camera"] != CAMERA_CODE:
        return Named(Kind.OTHER_CAMERA)
    if int(match["seq"]) > LAST_SEQ_NUM:
        return Named(Kind.UNKNOWN)
    return _of_exposure(ExposureName.from_obs_id(match["obs"]), match["rest"])


def _of_exposure(exposure: ExposureName, rest: str) -> Named:
    """Tell what a file of an exposure is by what follows the observation id."""
    if rest == "expectedSensors.json":
        return Named(Kind.BESIDE)
    stem, dot, suffix = rest.partition(".")
    detector, _, addition = stem.partition("_guider")
    sensor = _DETECTOR.fullmatch(detector)
    if not sensor or addition:
        return Named(Kind.UNKNOWN)
    if dot + suffix == ".json":
        return Named(Kind.BESIDE)
    kind = kind_of_sensor(detector) if detector == stem else Kind.GUIDER
    if dot + suffix == ".fits":
        return Named(kind, RawName(exposure, detector) if detector == stem else None)
    if dot + suffix in _FORMS:
        return Named(Kind.GUIDER if kind is Kind.GUIDER else Kind.OTHER_FORM)
    return Named(Kind.UNKNOWN)


def kind_of_sensor(detector: str) -> Kind:
    """Tell what raw images of a sensor are, such as ``R22_S11`` or ``R00_SG0``."""
    match = _DETECTOR.fullmatch(detector)
    place = match[1] if match else ""
    return {"G": Kind.GUIDER, "W": Kind.WAVEFRONT}.get(place[:1], Kind.SCIENCE if place else Kind.UNKNOWN)


def sensors_in(text: str) -> list[str]:
    """Return the sensors that a text names, each once, whatever stands between them."""
    return list(dict.fromkeys(match[0] for match in re.finditer(rf"\b{_DETECTOR.pattern}\b", text)))


def dia_source_id(exposure_id: int, detector: int, number: int) -> int:
    """Return the id of a difference-image source: a pure function, so that a repeated processing gives the same one.

    Raises
    ------
    NonRetriableError
        If `number` or `detector` is outside what the 63 bits hold.
    """
    if not 0 <= number < 1 << _SOURCE_BITS or not 0 <= detector < _DETECTORS:
        raise NonRetriableError(
            f"source {number} of detector {detector}, exposure {exposure_id}: ids have room for at most "
            f"{1 << _SOURCE_BITS} sources of a detector, {_DETECTORS} detectors"
        )
    return ((exposure_id * _DETECTORS + detector) << _SOURCE_BITS) + number
