"""Names of images: object keys, observation ids and the integers that the Butler and the alert database use."""

from __future__ import annotations

import re
from dataclasses import dataclass

from workloads.common.errors import NonRetriableError

INSTRUMENT = "LSSTCam"
CAMERA_CODE = "MC"
SIMULATED = "S"

_KEY = re.compile(
    r"(?P<instrument>\w+)/(?P<day>\d{8})/(?P<obs>(?P<camera>AT|CC|MC|TS)_(?P<controller>[A-Z])_(?P<obs_day>\d{8})_(?P<seq>\d{6}))"
    r"/(?P<obs2>\w+?)_(?P<raft>R\d\d)_(?P<slot>S\w\d)(?P<suffix>\.fits|\.fz|\.fits\.gz|\.fits\.fz)"
)
_SOURCE_BITS = 13
_DETECTORS = 256


@dataclass(frozen=True, order=True)
class ExposureName:
    """One exposure of the main camera.

    Parameters
    ----------
    day_obs
        Observing day, YYYYMMDD in UTC-12.
    seq_num
        Number within the day, from 1.
    controller
        One letter for what triggered it: ``O`` is the OCS, ``S`` a simulation.
    """

    day_obs: int
    seq_num: int
    controller: str = SIMULATED

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
        parts = obs_id.split("_")
        if len(parts) != 4 or parts[0] != CAMERA_CODE or not (parts[2] + parts[3]).isdigit():
            raise NonRetriableError(f"{obs_id}: not an observation id; expected {CAMERA_CODE}_C_YYYYMMDD_nnnnnn")
        return cls(int(parts[2]), int(parts[3]), parts[1])


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
        match = _KEY.fullmatch(key)
        if not match or match["obs"] != match["obs2"] or match["day"] != match["obs_day"]:
            raise NonRetriableError(
                f"{key}: not the name of a raw image; expected instrument/day/obsid/obsid_Rnn_Snn.fits"
            )
        return cls(ExposureName.from_obs_id(match["obs"]), f"{match['raft']}_{match['slot']}")


def dia_source_id(exposure_id: int, detector: int, number: int) -> int:
    """Return the id of a difference-image source: a pure function, so that a repeated processing gives the same one.

    Raises
    ------
    ValueError
        If `number` or `detector` is outside what the 63 bits hold.
    """
    if not 0 <= number < 1 << _SOURCE_BITS or not 0 <= detector < _DETECTORS:
        raise ValueError(
            f"source {number} of detector {detector}: at most {1 << _SOURCE_BITS} sources, {_DETECTORS} detectors"
        )
    return ((exposure_id * _DETECTORS + detector) << _SOURCE_BITS) + number
