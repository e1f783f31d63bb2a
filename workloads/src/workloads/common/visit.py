"""Values that travel: the announced visit, its cancellation, the end of a readout. Field names are the observatory's."""

from __future__ import annotations

import json
import re
from enum import IntEnum

from pydantic import BaseModel, ConfigDict, Field

from workloads.common.names import ExposureName, sensors_in

_COLON = re.compile(r"(?<!\\):")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?", re.ASCII)
"""A time of a group's id whose colons were not escaped."""


class CoordinateSystem(IntEnum):
    """What `NextVisit.position` means."""

    NONE = 1
    ICRS = 2
    OBSERVED = 3
    MOUNT = 4


class RotationSystem(IntEnum):
    """What `NextVisit.cameraAngle` means."""

    NONE = 1
    SKY = 2
    HORIZON = 3
    MOUNT = 4


class Dome(IntEnum):
    """State of the dome asked for."""

    CLOSED = 1
    OPEN = 2
    EITHER = 3


class SalTopic(BaseModel):
    """Fields that every SAL topic has. `private_sndStamp` is TAI seconds, `private_efdStamp` UTC seconds.

    Fields that are not known here are passed over: the observatory adds some with each of its releases.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    salIndex: int = 0  # noqa: N815 - the observatory's names
    private_sndStamp: float = 0.0  # noqa: N815
    private_efdStamp: float = 0.0  # noqa: N815
    private_kafkaStamp: float = 0.0  # noqa: N815
    private_rcvStamp: float = 0.0  # noqa: N815
    private_seqNum: int = 0  # noqa: N815
    private_origin: int = 0
    private_revCode: str = ""  # noqa: N815
    private_identity: str = ""


class NextVisit(SalTopic):
    """Topic `next-visit`: what the telescope does next."""

    scriptSalIndex: int  # noqa: N815
    groupId: str  # noqa: N815
    coordinateSystem: CoordinateSystem = CoordinateSystem.ICRS  # noqa: N815
    position: list[float] = Field(description="degrees", min_length=2, max_length=2)
    startTime: float = Field(description="TAI seconds")  # noqa: N815
    rotationSystem: RotationSystem = RotationSystem.SKY  # noqa: N815
    cameraAngle: float = Field(0.0, description="degrees")  # noqa: N815
    filters: str = "r"
    dome: Dome = Dome.OPEN
    duration: float = Field(description="seconds, of the script and not of the exposure")
    nimages: int = Field(1, description="0 means unknown")
    instrument: str = "LSSTCam"
    survey: str = "lab"
    totalCheckpoints: int = 0  # noqa: N815


class NextVisitCanceled(SalTopic):
    """Topic `next-visit-cancelled`: an announced visit will not be taken."""

    scriptSalIndex: int  # noqa: N815
    groupId: str  # noqa: N815


class EndReadout(SalTopic):
    """Topic `readouts`: the pixels of an image are in the camera's memory. Times are TAI."""

    imageName: str  # noqa: N815
    imageSource: str = "MC"  # noqa: N815
    imageController: str = "S"  # noqa: N815
    imageDate: str  # noqa: N815
    imageNumber: int  # noqa: N815
    imageIndex: int = 1  # noqa: N815
    imagesInSequence: int = 1  # noqa: N815
    requestedExposureTime: float = Field(description="seconds")  # noqa: N815
    timestampAcquisitionStart: float  # noqa: N815
    timestampEndOfReadout: float  # noqa: N815
    additionalKeys: str = ""  # noqa: N815
    additionalValues: str = ""  # noqa: N815

    @property
    def exposure(self) -> ExposureName:
        """The exposure that was read out."""
        return ExposureName.from_obs_id(self.imageName)

    @property
    def additional(self) -> dict[str, str]:
        """The additional keys and values as a mapping; empty where they cannot be told apart, see `unpaired`."""
        keys, values = self._additional
        return dict(zip(keys, values, strict=True)) if len(keys) == len(values) else {}

    @property
    def unpaired(self) -> str:
        """What is wrong with the additional keys and values; empty if nothing is."""
        keys, values = self._additional
        if len(keys) == len(values):
            return ""
        return f"{self.imageName}: {len(keys)} additionalKeys and {len(values)} additionalValues, expected as many: {self.additionalKeys!r}, {self.additionalValues!r}"

    @property
    def _additional(self) -> tuple[list[str], list[str]]:
        keys, values = split_colons(self.additionalKeys), split_colons(self.additionalValues)
        if len(keys) != len(values):
            values = split_colons(_TIME.sub(lambda match: match[0].replace(":", "\\:"), self.additionalValues))
        return keys, values

    @property
    def group(self) -> str:
        """The group of the visit; empty if none is named."""
        return self.additional.get("groupId", "")

    @property
    def sensors(self) -> list[str]:
        """The sensors that the event names; where keys and values do not pair, those that stand anywhere in the values."""
        return sensors_in(self.additionalValues if self.unpaired else self.additional.get("sensors", ""))


def join_colons(parts: list[str]) -> str:
    r"""Join with colons, a colon inside a part written as ``\:``."""
    return ":".join(part.replace(":", "\\:") for part in parts)


def split_colons(text: str) -> list[str]:
    """Undo `join_colons`; the empty text is no part at all."""
    if not text:
        return []
    return [part.replace("\\:", ":") for part in _COLON.split(text)]


class ExpectedSensors(BaseModel):
    """The list beside an exposure of the sensors that it must have: `{Rnn_Snn: SCIENCE}`."""

    fileName: str  # noqa: N815
    fileType: str = "expectedSensors"  # noqa: N815
    obsId: str  # noqa: N815
    version: int = 1
    expectedSensors: dict[str, str]  # noqa: N815

    def encoded(self) -> bytes:
        """Return the bytes of the JSON file."""
        return json.dumps(self.model_dump(), indent=1).encode()
