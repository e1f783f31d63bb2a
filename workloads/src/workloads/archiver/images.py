"""From the camera's memory to the journal."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np

from workloads.archiver.header import Cards, primary_cards, sidecar
from workloads.archiver.journal import Entry, Journal
from workloads.common.errors import NonRetriableError, RetriableError
from workloads.common.raw import encode_raw
from workloads.common.s3 import sha256
from workloads.common.visit import EndReadout, ExpectedSensors
from workloads.pixels.layout import Amplifier, DetectorLayout


class CameraClient:
    """The camera's memory.

    Parameters
    ----------
    url
        Where the camera offers its images.
    """

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=20.0)

    def describe(self, obs_id: str) -> dict[str, Any]:
        """Return what the camera has of an image, by detector."""
        return dict(self._call("GET", f"/images/{obs_id}").json())

    def pixels(self, obs_id: str, detector: str, facts: dict[str, Any]) -> bytes:
        """Return one detector's pixels.

        Raises
        ------
        RetriableError
            If they do not have the digest that the camera gave.
        """
        data = self._call("GET", f"/images/{obs_id}/{detector}").content
        if sha256(data) != facts["sha256"]:
            raise RetriableError(
                f"{obs_id}_{detector}: pixels arrived with digest {sha256(data)}, expected {facts['sha256']}"
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


def journal_expected(journal: Journal, event: EndReadout) -> list[str]:
    """Journal the list of sensors that this exposure must have, and return it."""
    sensors = [name for name in event.additional.get("sensors", "").split(",") if name]
    if not sensors:
        raise NonRetriableError(f"{event.imageName}: endReadout names no sensors; nothing can be archived")
    name = event.exposure
    content = ExpectedSensors(
        fileName=name.expected_sensors_key.rsplit("/", 1)[-1],
        obsId=name.obs_id,
        expectedSensors=dict.fromkeys(sensors, "SCIENCE"),
    ).encoded()
    journal.add(
        Entry(
            name.expected_sensors_key,
            sha256(content),
            len(content),
            name.obs_id,
            "",
            event.additional.get("groupId", ""),
        ),
        content,
    )
    return sensors


def journal_detector(journal: Journal, camera: CameraClient, event: EndReadout, detector: str) -> None:
    """Fetch one detector, make its raw file and sidecar, journal both, and release it in the camera.

    What was journalled before a restart, by a take-over that was not acknowledged, is only released.

    Raises
    ------
    NonRetriableError
        If the camera does not have it.
    """
    name, group = event.exposure, event.additional.get("groupId", "")
    if journal.holds(name.key(detector)):
        camera.release(name.obs_id, detector)
        return
    facts = camera.describe(event.imageName).get(detector)
    if facts is None:
        raise NonRetriableError(f"{event.imageName}_{detector}: the camera has no such image")
    pixels = np.frombuffer(camera.pixels(name.obs_id, detector, facts), "<u2").reshape(facts["shape"])
    camera_cards: Cards = {key: (value[0], value[1]) for key, value in facts["cards"].items()}
    cards = primary_cards(event, detector, camera_cards)
    raw = encode_raw(pixels.astype(np.uint16), _layout(facts["layout"]), cards)
    beside = sidecar(cards | {"PIXSHA": (facts["sha256"], "digest of the pixels")})
    journal.add(Entry(name.key(detector, ".json"), sha256(beside), len(beside), name.obs_id, detector, group), beside)
    journal.add(Entry(name.key(detector), sha256(raw), len(raw), name.obs_id, detector, group), raw)
    camera.release(name.obs_id, detector)


def _layout(facts: dict[str, Any]) -> DetectorLayout:
    amplifiers = tuple(Amplifier(**amplifier) for amplifier in facts["amplifiers"])
    return DetectorLayout(**{**facts, "amplifiers": amplifiers})
