"""From the camera's memory to the journal."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np

from workloads.archiver.header import Cards, primary_cards, sidecar
from workloads.archiver.journal import Entry, Journal
from workloads.common.errors import AwayError, NonRetriableError, RetriableError
from workloads.common.names import ExposureName, kind_of_sensor
from workloads.common.raw import RawPixels, encode_pixels, encode_raw
from workloads.common.s3 import sha256
from workloads.common.visit import EndReadout, ExpectedSensors
from workloads.pixels.layout import Amplifier, DetectorLayout

LOG = logging.getLogger(__name__)
_LIMITS = httpx.Limits(max_connections=64, max_keepalive_connections=64)
"""As many detectors are fetched at once as are allowed to by the configuration; none opens a connection of its own."""
_GONE = frozenset({404, 410})
_PLAIN = re.compile(r"[\w.-]{1,64}", re.ASCII)
"""Names that can be part of an object's and of a file's."""
_LONGEST = 100


class CameraClient:
    """The camera's memory.

    Parameters
    ----------
    url
        Where the camera offers its images.
    off
        Detectors that are declared off: that it has nothing of them is nothing to report.
    """

    def __init__(self, url: str, off: Iterable[str] = ()) -> None:
        self.off = frozenset(off)
        self._client = httpx.Client(base_url=url, timeout=20.0, limits=_LIMITS)

    def describe(self, obs_id: str) -> dict[str, Any]:
        """Return what the camera has of an image, by detector; nothing if it does not know the image."""
        response = self._call("GET", f"/images/{obs_id}", _GONE)
        if response.status_code in _GONE:
            return {}
        try:
            return dict(response.json())
        except (ValueError, TypeError) as error:
            raise RetriableError(f"camera: what it says of {obs_id} is no JSON object: {error}") from error

    def pixels(self, obs_id: str, detector: str, facts: dict[str, Any]) -> bytes:
        """Return one detector's pixels.

        Raises
        ------
        RetriableError
            If they do not have the digest that the camera gave.
        """
        data = self._call("GET", f"/images/{obs_id}/{quote(detector, safe='')}").content
        stated = facts.get("sha256")
        if stated is None:
            LOG.warning("%s_%s: the camera says no digest of its pixels", obs_id, detector)
        elif sha256(data) != stated:
            raise RetriableError(f"{obs_id}_{detector}: pixels arrived with digest {sha256(data)}, expected {stated}")
        return bytes(data)

    def release(self, obs_id: str, detector: str) -> None:
        """Tell the camera that a detector is safe here; that it has forgotten it already is no error."""
        self._call("DELETE", f"/images/{obs_id}/{quote(detector, safe='')}", _GONE)

    def _call(self, method: str, path: str, accepted: frozenset[int] = frozenset()) -> httpx.Response:
        where = f"camera {self._client.base_url}{path}"
        try:
            response = self._client.request(method, path)
        except httpx.TransportError as error:
            raise AwayError(f"{where}: {error or type(error).__name__}") from error
        except httpx.HTTPError as error:
            raise RetriableError(f"{where}: {error}") from error
        if response.is_error and response.status_code not in accepted:
            raise RetriableError(f"{where}: answered {response.status_code} {response.text[:200]}")
        return response


def object_key(exposure: ExposureName, detector: str, suffix: str = ".fits") -> str:
    """Return the key of a detector's file, whatever the camera calls the detector."""
    plain = detector if _PLAIN.fullmatch(detector) else quote(detector, safe="")[:_LONGEST]
    return exposure.key(plain, suffix)


def journal_expected(journal: Journal, camera: CameraClient, event: EndReadout) -> list[str]:
    """Journal the list of sensors that this exposure must have, and return it.

    It is what the event names and what the camera has of the image: pixels that nobody named are pixels all the same. Of a
    detector that is declared off, nothing is expected that the camera does not have.

    Raises
    ------
    RetriableError
        If the journal is full, or the event names no sensors and the camera does not answer.
    NonRetriableError
        If the event names no sensors and the camera has none.
    """
    name = event.exposure
    if event.unpaired:
        LOG.warning("%s; sensors are taken by their names", event.unpaired)
    sensors = event.sensors
    try:
        there = camera.describe(event.imageName)
    except RetriableError:
        if not sensors:
            raise
        unnamed = []
    else:
        unnamed = [sensor for sensor in sorted(there) if sensor not in sensors]
        sensors = [sensor for sensor in sensors if sensor in there or sensor not in camera.off]
    if unnamed:
        LOG.warning("%s: the camera has %s, which its endReadout does not name", event.imageName, ", ".join(unnamed))
    sensors = [*sensors, *unnamed]
    if not sensors:
        raise NonRetriableError(f"{event.imageName}: endReadout names no sensors and the camera has none of it")
    content = ExpectedSensors(
        fileName=name.expected_sensors_key.rsplit("/", 1)[-1],
        obsId=name.obs_id,
        expectedSensors={sensor: kind_of_sensor(sensor).name for sensor in sensors},
    ).encoded()
    journal.add(Entry(name.expected_sensors_key, sha256(content), len(content), name.obs_id, "", event.group), content)
    return sensors


def journal_detector(
    journal: Journal, camera: CameraClient, event: EndReadout, detector: str, described: Mapping[str, Any] | None = None
) -> None:
    """Fetch one detector, make its raw file and sidecar, journal both, and release it in the camera.

    What was journalled before a restart, by a take-over that was not acknowledged, is only released. Whatever the camera
    says beside the pixels, they are kept: what is wrong with it is for those who read the file. `described` is what it said
    of the image a moment ago; it is asked again about a detector that is not in there, unless it has none of the image.

    Raises
    ------
    NonRetriableError
        If the camera does not have it, or has no pixels of it.
    """
    name = event.exposure
    gone = described is not None and not described
    if journal.holds(object_key(name, detector)):
        if not gone:
            camera.release(name.obs_id, detector)
        return
    if gone:
        raise NonRetriableError(f"{event.imageName}_{detector}: the camera has none of this image")
    there = described if described and detector in described else camera.describe(event.imageName)
    if detector not in there:
        raise NonRetriableError(f"{event.imageName}_{detector}: the camera has no such image")
    facts: dict[str, Any] = there[detector] if isinstance(there[detector], dict) else {}
    cards = primary_cards(event, detector, _cards(facts.get("cards")))
    data = camera.pixels(name.obs_id, detector, facts)
    raw = _encoded(data, facts, cards, f"{event.imageName}_{detector}")
    beside = sidecar(cards | {"PIXSHA": (sha256(data), "digest of the pixels")})
    for suffix, content in ((".json", beside), (".fits", raw)):
        key = object_key(name, detector, suffix)
        journal.add(Entry(key, sha256(content), len(content), name.obs_id, detector, event.group), content)
    camera.release(name.obs_id, detector)


def _encoded(data: bytes, facts: dict[str, Any], cards: Cards, name: str) -> bytes:
    """Return the raw file; without a usable shape or layout, one of the pixels alone that says so."""
    try:
        return encode_raw(_shaped(data, facts), _layout(facts["layout"]), cards)
    except (NonRetriableError, KeyError, TypeError, ValueError) as error:
        LOG.error("%s: stored as pixels alone, its layout cannot be used: %s", name, error)  # noqa: TRY400 - the text says it all
        why = f"{type(error).__name__}: {error}"
    return encode_pixels(_as_they_come(data, facts, name), cards | {"NOLAYOUT": (why, "why there is no layout")})


def _shaped(data: bytes, facts: dict[str, Any]) -> RawPixels:
    """Return pixels by amplifier, row and column.

    Raises
    ------
    ValueError
        If the camera says no shape that they have.
    """
    shape = facts.get("shape")
    try:
        pixels = np.frombuffer(data, "<u2").reshape(shape).astype(np.uint16)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{len(data)} bytes of pixels, shape {shape!r}: {error}") from error
    if pixels.ndim != 3:
        raise ValueError(f"{len(data)} bytes of pixels, shape {shape!r}; expected amplifiers, rows and columns")
    return pixels


def _as_they_come(data: bytes, facts: dict[str, Any], name: str) -> RawPixels:
    """Return pixels in their shape or, if they have none, in one row; half a pixel at the end is filled with zero bits.

    Raises
    ------
    NonRetriableError
        If there are none at all.
    """
    if not data:
        raise NonRetriableError(f"{name}: the camera has 0 bytes of pixels")
    try:
        return _shaped(data, facts)
    except ValueError:
        return np.frombuffer(data + bytes(len(data) % 2), "<u2").astype(np.uint16).reshape(1, 1, -1)


def _cards(facts: Any) -> Cards:
    """Return the camera's keywords, which it gives as [value, comment] or as a bare value."""
    if not isinstance(facts, dict):
        return {}
    pairs = {
        str(key): entry if isinstance(entry, list) and len(entry) == 2 else [entry, ""] for key, entry in facts.items()
    }
    return {key: (value, str(comment)) for key, (value, comment) in pairs.items()}


def _layout(facts: dict[str, Any]) -> DetectorLayout:
    amplifiers = tuple(Amplifier(**amplifier) for amplifier in facts["amplifiers"])
    return DetectorLayout(**{**facts, "amplifiers": amplifiers})
