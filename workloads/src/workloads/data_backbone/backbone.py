"""One batch after the other: arrivals in, the Butler, the ledger and the topic of ingested files out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from workloads.common.errors import NonRetriableError, RetriableError
from workloads.common.kafka import Bus, Received, Receiver, Sender
from workloads.common.ledger import Ledger, Step, Subject
from workloads.common.names import RawName
from workloads.common.s3 import Store
from workloads.common.settings import Settings
from workloads.common.slots import slots
from workloads.common.times import day_obs, tai_now, utc_to_tai
from workloads.data_backbone.arrivals import Arrival, parse_notification
from workloads.data_backbone.repository import ensure_repository
from workloads.data_backbone.writer import BUCKET, Bad, Verified, Writer

LOG = logging.getLogger(__name__)
SERVICE = "data-backbone"
INGESTED_TOPIC = "dpp.raw.ingested"
SETTLED_SECONDS = 10.0


class Backbone:
    """Takes arrivals in and reports them, one Kafka transaction a batch."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.store = Store(settings, settings.site.site)
        self.writer = Writer(ensure_repository(settings), self.store)
        self.bus = Bus(settings)
        self.sender: Sender = self.bus.sender(SERVICE)
        self.ledger = Ledger(self.bus, SERVICE, self.sender)
        self.arrivals: Receiver = self.bus.receiver(SERVICE, "dpp.raw.arrivals")
        names = {detector.id: detector.name for detector in settings.site.camera.detectors}
        self._reported = {(exposure, names.get(detector, "")) for exposure, detector in self.writer.known()}
        self._partitions = {(slot.detector.name, slot.lane): slot.partition for slot in slots(settings.site.camera)}

    def take(self, messages: list[Received], swept: list[Arrival], on_arrival: Callable[[str, str], None]) -> None:
        """Ingest what messages and sweep name; the messages' offsets are committed with all that was written.

        Raises
        ------
        AwayError
            If store or registry are away: nothing was reported, the same call may be made again.
        RetriableError
            If Kafka does not take the report: what restarts the process begins at its last commit.
        """
        arrivals = [arrival for message in messages for arrival in self._named(message)] + swept
        good, bad = self.writer.write(arrivals)
        self.sender.begin()
        try:
            for file in good:
                self._report(file)
                on_arrival(file.arrival.name.exposure.obs_id, file.arrival.name.detector)
            for item in bad:
                self._report_bad(item)
            self.sender.commit(self.arrivals, messages[-1] if messages else None)
        except RetriableError:
            self.sender.abort()
            raise
        if good:
            LOG.info("ingested %d, quarantined %d", len(good), len(bad))

    def sweep(self) -> list[Arrival]:
        """Return raw files of this observing day and the last that stand in the store and not in the Butler."""
        today = day_obs(tai_now())
        found = []
        for day in (today, day_obs(tai_now() - 86400)):
            for item in self.store.list(BUCKET, f"LSSTCam/{day}/"):
                if item.key.endswith(".fits") and time.time() - item.modified > SETTLED_SECONDS:
                    name = RawName.from_key(item.key)
                    if (name.exposure.exposure_id, name.detector) not in self._reported:
                        found.append(Arrival(name, utc_to_tai(item.modified), "sweep"))
        return found

    def _named(self, message: Received) -> list[Arrival]:
        try:
            keys = parse_notification(message.value, BUCKET)
        except NonRetriableError as error:
            LOG.warning("%s", error)
            return []
        arrivals = []
        for key in keys:
            try:
                arrivals.append(Arrival(RawName.from_key(key), utc_to_tai(message.timestamp), "notification"))
            except NonRetriableError as error:
                LOG.warning("%s", error)
        return arrivals

    def _report(self, file: Verified) -> None:
        name = file.arrival.name
        subject = Subject(name.exposure.obs_id, name.detector, str(file.header["GROUPID"]))
        reason = "" if file.arrival.noticed == "notification" else "found by the sweep: its notification was lost"
        self.ledger.stamp(Step.ARRIVED, subject, time=file.arrival.time, reason=reason, figures={"bytes": file.size})
        self.ledger.stamp(Step.VERIFIED, subject, time=file.verified)
        self.ledger.stamp(Step.INGESTED, subject)
        detector = self._settings.site.detector(name.detector)
        if str(file.header["IMGTYPE"]) == "OBJECT":
            lane = name.exposure.seq_num % self._settings.site.camera.visits_in_flight
            partition = self._partitions[name.detector, lane]
            self.bus.publish(
                self.sender, INGESTED_TOPIC, file.message(detector.id), key=name.exposure.obs_id, partition=partition
            )
        self._reported.add((name.exposure.exposure_id, name.detector))

    def _report_bad(self, item: Bad) -> None:
        name = item.arrival.name
        self.ledger.stamp(Step.QUARANTINED, Subject(name.exposure.obs_id, name.detector), reason=item.reason)
