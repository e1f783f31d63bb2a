"""The device: takes images over while ENABLED, stores what is journalled whatever the state."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workloads.archiver.images import CameraClient, journal_detector, journal_expected, object_key
from workloads.archiver.journal import Entry, Journal
from workloads.common.config import ConfigurationFolder
from workloads.common.consume import Delivery
from workloads.common.deletions import why_deleted
from workloads.common.errors import AwayError, NonRetriableError, RetriableError, WorkloadError
from workloads.common.log import about
from workloads.common.names import CAMERA_CODE, ExposureName
from workloads.common.s3 import Store
from workloads.common.serve import Health, Stop
from workloads.common.visit import EndReadout
from workloads.sal.device import Device
from workloads.sal.link import Link
from workloads.sal.states import SummaryState

LOG = logging.getLogger(__name__)
BUCKET = "raw"
CONNECTIONS = 64
"""Connections to the store that are kept open: the most detectors that are put at once."""
COMPONENT = "MTArchiver"


class ArchiverConfiguration(BaseModel):
    """Values of the archiver's configuration files; seconds and counts.

    `fetch_attempts` are made at once for a detector; after that the whole readout waits, see `Archiver.take_over`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    parallel_detectors: int = 2
    parallel_puts: int = Field(8, ge=1, le=CONNECTIONS)
    fetch_attempts: int = 5
    retry_seconds: float = 1.0
    sweep_seconds: float = 60.0


class Archiver(Device):
    """The camera archiver.

    Parameters
    ----------
    link, folder
        As every device has them.
    journal
        Where files are safe.
    camera
        Where images come from.
    store
        The summit's object store.
    beat
        Called as a take-over goes on: one of the whole camera takes minutes.
    """

    def __init__(
        self,
        link: Link,
        folder: ConfigurationFolder,
        journal: Journal,
        camera: CameraClient,
        store: Store,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(link, folder)
        self._beat = beat
        self._journal, self._camera, self._store = journal, camera, store
        self._told: set[tuple[str, str]] = set()
        """Image and detector of those of the readout in hand that were reported."""
        self._wake = threading.Event()
        self._enabled = threading.Event()
        self._configuration = ArchiverConfiguration()

    def handle_summary_state(self) -> None:
        """Take images over in ENABLED only."""
        if self.configuration is not None and isinstance(self.configuration.values, ArchiverConfiguration):
            self._configuration = self.configuration.values
        if self.state is SummaryState.ENABLED:
            self._enabled.set()
        else:
            self._enabled.clear()

    # -- taking over -----------------------------------------------------------------------------------------------

    @property
    def takes_over(self) -> bool:
        """Whether images are taken over now; a readout that comes meanwhile waits."""
        return self._enabled.is_set()

    def take_over(self, deliveries: Sequence[Delivery]) -> None:
        """Take images over; when this returns, all that the camera has of each is journalled.

        Raises
        ------
        RetriableError
            If the camera does not hand something out that it has, `AwayError` if it or room in the journal is away: what is
            journalled by then is kept, and the camera is asked for the rest again.
        NonRetriableError
            If the event names no image, or no sensors of one that nobody has.
        """
        for delivery in deliveries:
            event = EndReadout.model_validate(delivery.content)
            with about(obs_id=event.imageName, group=event.group):
                begun, exposure = time.monotonic(), event.exposure
                described = self._describe(event)
                stored = self._stored_before(exposure) if described == {} else frozenset()
                sensors = self._expected(event, stored)
                with ThreadPoolExecutor(self._configuration.parallel_detectors) as pool:
                    list(pool.map(partial(self._detector, event, described), sensors))
                LOG.info("journalled %d detectors in %.2f s", len(sensors), time.monotonic() - begun)
            self._told.clear()

    def _describe(self, event: EndReadout) -> dict[str, Any] | None:
        """Return what the camera has of an image, once for all detectors; None if it does not say, then each asks again."""
        try:
            return self._camera.describe(event.imageName)
        except RetriableError as error:
            LOG.warning("%s", error)
            return None

    def _stored_before(self, exposure: ExposureName) -> frozenset[str]:
        """Return the keys that the store has of a readout of which the camera has nothing: nothing of them is lost.

        A group whose place is not known, or not any more, begins with the oldest readout that there is.
        """
        try:
            return frozenset(item.key for item in self._store.list(BUCKET, exposure.prefix))
        except RetriableError as error:  # a store that is away holds no readout up
            LOG.warning("%s", error)
            return frozenset()

    def _expected(self, event: EndReadout, stored: frozenset[str]) -> list[str]:
        """Return the detectors of a readout that are to be taken over, with their list journalled unless it is stored."""
        known = event.exposure.expected_sensors_key in stored
        sensors = event.sensors if known else journal_expected(self._journal, self._camera, event)
        return [sensor for sensor in sensors if object_key(event.exposure, sensor) not in stored]

    def _detector(self, event: EndReadout, described: Mapping[str, Any] | None, detector: str) -> None:
        for attempt in range(1, self._configuration.fetch_attempts + 1):
            self._beat()
            try:
                journal_detector(self._journal, self._camera, event, detector, described if attempt == 1 else None)
            except NonRetriableError as error:
                self._retrieved(event, detector, 1, str(error))
                return
            except RetriableError as error:
                if isinstance(error, AwayError) or attempt == self._configuration.fetch_attempts:
                    raise
                LOG.warning("attempt %d: %s", attempt, error)
                time.sleep(self._configuration.retry_seconds)
            else:
                self._wake.set()
                self._retrieved(event, detector, 0, "journalled")
                return

    def give_up(self, content: Any, reason: str) -> None:
        """Report what is not here of a readout that is set aside: somebody waits for it, and the camera still has it."""
        try:
            event = EndReadout.model_validate(content)
            missing = [one for one in event.sensors if not self._journal.holds(object_key(event.exposure, one))]
        except (ValidationError, NonRetriableError):
            return  # nobody knows what it is about
        for detector in missing:
            self._retrieved(event, detector, 2, f"set aside by the archiver: {reason}")
        self._told.clear()

    def _retrieved(self, event: EndReadout, detector: str, status: int, description: str) -> None:
        if (event.imageName, detector) in self._told:
            return
        if status:
            LOG.error("%s: %s", detector, description)
        self._tell_retrieval(event.imageSource, event.imageName, event.group, detector, status, description)
        self._told.add((event.imageName, detector))

    def _tell_retrieval(
        self, camera: str, obs_id: str, group: str, detector: str, status: int, description: str
    ) -> None:
        raft, _, sensor = detector.partition("_")
        content = {
            "camera": camera, "obsid": obs_id, "raft": raft, "sensor": sensor, "archiverName": self.name,
            "statusCode": status, "description": description, "groupId": group,
        }  # fmt: skip
        self.link.event("imageRetrievalForArchiving").report([content])

    # -- storing ---------------------------------------------------------------------------------------------------

    def store(self, stop: Stop, health: Health) -> None:
        """Put what is journalled into the store until told to stop; at the end nothing is left if the store lives."""
        swept = -1e9
        while True:
            health.beat("store")
            ending = bool(stop)
            try:
                while self._put_pending(lambda: health.beat("store")):
                    pass
                self._tell_set_aside()
                if time.monotonic() - swept > self._configuration.sweep_seconds:
                    swept = time.monotonic()
                    self._sweep()
            except WorkloadError as error:
                LOG.warning("store: %s; trying again", error)
                time.sleep(self._configuration.retry_seconds)
            if ending:
                return
            self._wake.wait(0.5)

    def _put_pending(self, beat: Callable[[], None]) -> bool:
        """Put what is journalled into the store, one exposure after the other.

        Return whether a new one came meanwhile: it has its turn before those that wait.

        Raises
        ------
        WorkloadError
            If the store is away, or did not take all of them.
        """
        self._wake.clear()
        error: WorkloadError | None = None
        for entries in self._journal.exposures():
            beat()
            by_detector: dict[str, list[Entry]] = {}
            for entry in entries:
                by_detector.setdefault(entry.detector, []).append(entry)
            lists = by_detector.pop("", [])
            with ThreadPoolExecutor(self._configuration.parallel_puts) as pool:
                for wave in ([lists] if lists else [], list(by_detector.values())):  # lists land before all pixels
                    error = self._put_together(pool, wave, beat) or error
                    if isinstance(error, AwayError):
                        raise error
            if self._wake.is_set():
                return True
        if error:
            raise error
        return False

    def _put_together(
        self, pool: ThreadPoolExecutor, groups: list[list[Entry]], beat: Callable[[], None]
    ) -> WorkloadError | None:
        """Put groups of entries at once, those of a group in their order, and announce them as they are done.

        What the store refuses keeps no other out; where it is away, nothing new is begun. Return the last error.
        """
        waiting = {pool.submit(self._put_group, group) for group in groups}
        error: WorkloadError | None = None
        while waiting:
            over, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            beat()
            stored = list[Entry]()
            for future in over:
                if future.cancelled():
                    continue
                done, failure = future.result()
                stored += done
                error = failure or error
            if isinstance(error, AwayError):
                for future in waiting:
                    future.cancel()
            if stored:
                self.link.event("imageStored").report([self._stored_content(entry) for entry in stored])
        return error

    def _put_group(self, entries: list[Entry]) -> tuple[list[Entry], WorkloadError | None]:
        """Put entries in their order, up to the first error; return those that are stored, and the error."""
        stored = list[Entry]()
        for entry in entries:
            try:
                if (data := self._journal.read(entry)) is not None:
                    self._put(entry, data)
                    stored.append(entry)
            except WorkloadError as error:
                return stored, error
        return stored, None

    def _put(self, entry: Entry, data: bytes) -> None:
        self._store.put(BUCKET, entry.key, data, entry.sha256)
        found = self._store.digest(BUCKET, entry.key)
        if found != entry.sha256:
            raise RetriableError(f"{entry.key}: the store has digest {found}, expected {entry.sha256}")
        self._journal.mark_stored(entry)

    def _stored_content(self, entry: Entry) -> dict[str, object]:
        raft, _, sensor = entry.detector.partition("_")
        return {
            "camera": CAMERA_CODE, "obsid": entry.obs_id, "raft": raft, "sensor": sensor, "groupId": entry.group,
            "key": entry.key, "sha256": entry.sha256, "size": entry.size, "site": self._store.site,
        }  # fmt: skip

    def _tell_set_aside(self) -> None:
        """Report what the journal did not give back: these pixels do not come, and somebody waits for them."""
        for aside in self._journal.set_aside():
            entry = aside.entry
            if entry.detector.partition("_")[2] and entry.key.endswith(".fits"):
                self._tell_retrieval(CAMERA_CODE, entry.obs_id, entry.group, entry.detector, 3, aside.reason)

    def _sweep(self) -> None:
        """Look whether the store still has what it took; what it lost is stored again, what was deleted is forgotten."""
        for entry in self._journal.stored():
            if self._store.digest(BUCKET, entry.key) != entry.sha256:
                if why := why_deleted(self._store, BUCKET, entry.key, entry.sha256):
                    LOG.warning("%s: not stored again: %s", entry.key, why)
                    self._journal.forget(entry)
                    continue
                LOG.error("%s: lost by the store, storing it again", entry.key)
                self._journal.mark_pending(entry)
