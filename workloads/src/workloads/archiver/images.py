"""From the camera's memory to the journal."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import httpx
import numpy as np

from workloads.archiver.header import Cards, primary_cards, sidecar
from workloads.archiver.journal import Entry, Journal
from workloads.common.errors import NonRetriableError, RetriableError
from workloads.common.names import kind_of_sensor
from workloads.common.raw import encode_pixels, encode_raw
from workloads.common.s3 import sha256
from workloads.common.visit import EndReadout, ExpectedSensors
from workloads.pixels.layout import Amplifier, DetectorLayout

LOG = logging.getLogger(__name__)
_LIMITS = httpx.Limits(max_connections=64, max_keepalive_connections=64)
"""As many detectors are fetched at once as are allowed to by the configuration; none opens a connection of its own."""


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
        """Return what the camera has of an image, by detector."""
        try:
            return dict(self._call("GET", f"/images/{obs_id}").json())
        except (ValueError, TypeError) as error:
            raise RetriableError(f"camera: what it says of {obs_id} is no JSON object: {error}") from error

    def pixels(self, obs_id: str, detector: str, facts: dict[str, Any]) -> bytes:
        """Return one detector's pixels.

        Raises
        ------
        RetriableError
            If they do not have the digest that the camera gave.
        """
        data = self._call("GET", f"/images/{obs_id}/{detector}").content
        if sha256(data) != facts.get("sha256"):
            raise RetriableError(
                f"{obs_id}_{detector}: pixels arrived with digest {sha256(data)}, expected {facts.get('sha256')}"
            )
        return bytes(data)

    def release(self, obs_id: str, detector: str) -> None:
        """Tell the camera that a detector is safe here."""
        self._call("DELETE", f"/images/{obs_id}/{detector}")

    def _call(self, method: str, path: str) -> httpx.Response:
        try:
            response = self._client.request(method, path)
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise RetriableError(f"camera {self._client.base_url}{path}: {error}") from error
        return response


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
    journal: Journal, camera: CameraClient, event: EndReadout, detector: str, described: Any = None
) -> None:
    """Fetch one detector, make its raw file and sidecar, journal both, and release it in the camera.

    What was journalled before a restart, by a take-over that was not acknowledged, is only released. Whatever the camera
    says beside the pixels, they are kept: what is wrong with it is for those who read the file. `described` is what it said
    of the detector a moment ago; it is asked if that is nothing.

    Raises
    ------
    NonRetriableError
        If the camera does not have it, or says no shape for its pixels.
    """
    name = event.exposure
    if journal.holds(name.key(detector)):
        camera.release(name.obs_id, detector)
        return
    facts = described or camera.describe(event.imageName).get(detector)
    if not isinstance(facts, dict):
        raise NonRetriableError(f"{event.imageName}_{detector}: the camera has no such image")
    cards = primary_cards(event, detector, _cards(facts.get("cards")))
    raw = _encoded(camera.pixels(name.obs_id, detector, facts), facts, cards, f"{event.imageName}_{detector}")
    beside = sidecar(cards | {"PIXSHA": (facts["sha256"], "digest of the pixels")})
    for suffix, data in ((".json", beside), (".fits", raw)):
        journal.add(
            Entry(name.key(detector, suffix), sha256(data), len(data), name.obs_id, detector, event.group), data
        )
    camera.release(name.obs_id, detector)


def _encoded(data: bytes, facts: dict[str, Any], cards: Cards, name: str) -> bytes:
    """Return the raw file; without a usable layout, one of the pixels alone that says so."""
    try:
        pixels = np.frombuffer(data, "<u2").reshape(facts["shape"]).astype(np.uint16)
    except (KeyError, TypeError, ValueError) as error:
        raise NonRetriableError(
            f"{name}: {len(data)} bytes of pixels, shape {facts.get('shape')!r}: {error}"
        ) from error
    try:
        return encode_raw(pixels, _layout(facts["layout"]), cards)
    except (NonRetriableError, KeyError, TypeError, ValueError) as error:
        LOG.error("%s: stored as pixels alone, its layout cannot be used: %s", name, error)  # noqa: TRY400 - the text says it all
        return encode_pixels(pixels, cards | {"NOLAYOUT": (str(error), "why there is no layout")})


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
