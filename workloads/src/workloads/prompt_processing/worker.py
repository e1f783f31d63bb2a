"""One detector's worker: waits warm, processes each exposure once, and publishes in an order that a crash cannot break.

Packets are durable first, then the alert database has its rows, then alerts, ledger and the source's offset are one Kafka
transaction. Whatever a crash leaves, the next start finds the step it stopped at.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import astropy.time

from workloads.common.aside import GIVEN_BACK_FROM
from workloads.common.aside import TOPIC as SET_ASIDE
from workloads.common.consume import Delivery, Loop, ToTopic, avro, passed_over
from workloads.common.consumer import Receiver
from workloads.common.errors import NonRetriableError, WorkloadError
from workloads.common.filters import bands_of
from workloads.common.kafka import Bus
from workloads.common.ledger import TOPIC as LEDGER
from workloads.common.ledger import Ledger, Step, Subject
from workloads.common.log import about
from workloads.common.names import ExposureName
from workloads.common.plan import field_at
from workloads.common.raw import decode_raw
from workloads.common.received import Place, Received
from workloads.common.s3 import Store
from workloads.common.serve import Stop
from workloads.common.settings import Settings
from workloads.common.slots import Slot
from workloads.common.times import tai_now
from workloads.data_backbone.instrument import MARGIN_PIXELS, detector_region, field_of, region_of
from workloads.data_backbone.repository import open_repository
from workloads.data_backbone.types import RawExposure
from workloads.prompt_processing.apdb import AlertDatabase
from workloads.prompt_processing.inputs import Inputs
from workloads.prompt_processing.packets import BUCKET as PACKETS
from workloads.prompt_processing.packets import PacketMaker, Packets, PacketStore
from workloads.prompt_processing.sources import dia_sources, why_no_alerts
from workloads.prompt_processing.tasks import DifferenceTask

LOG = logging.getLogger(__name__)
ALERTS, INGESTED, NEXT_VISIT = "alerts", "ingested", "next-visit"
RAW = "raw"
_PATIENCE_SECONDS = 240.0
"""How long an exposure waits for what only it lacks, such as its template; then those behind it have their turn."""


class Worker:
    """Processes the exposures of one detector: all, or every second where two visits are in flight.

    Parameters
    ----------
    settings
        The workload's settings.
    slot
        Which exposures.
    """

    def __init__(self, settings: Settings, slot: Slot) -> None:
        self._detector, site = slot.detector, settings.site.site
        self._bus = Bus(settings)
        group = f"prompt-processing-{slot.name}"
        self._sender = self._bus.sender(ALERTS, LEDGER, SET_ASIDE, transactional_id=group)
        self._ledger = Ledger(self._bus, "prompt-processing", self._sender)
        self._source = Receiver(settings, site, group, partitions=[(INGESTED, slot.partition)])
        self._exposures = Loop(
            self._source,
            avro(self._bus, INGESTED),
            self._take,
            ToTopic(self._bus, self._source, self._sender, self._ledger, lambda _, record: [_subject(record)]),
            commits=False,
            patience=_PATIENCE_SECONDS,
        )
        announcements = Receiver(settings, site, f"{group}-preload", partitions=[(NEXT_VISIT, 0)], start="latest")
        # What is odd there is set aside once, by the keeper of the ledger.
        self._announcements = Loop(announcements, avro(self._bus, NEXT_VISIT), self._preload, passed_over)
        self._store = Store(settings, site, RAW, PACKETS)
        self._packets, self._maker = PacketStore(self._store), PacketMaker()
        self._inputs = Inputs(open_repository(settings), slot.detector)
        self._apdb = AlertDatabase(settings)
        self._task = DifferenceTask()

    def preload(self) -> None:
        """Load what all exposures need."""
        self._inputs.preload()
        LOG.info("ready")

    def run(self, stop: Stop, beat: Callable[[], None]) -> None:
        """Work until told to stop; the exposure in hand is finished, one that waits for a new attempt is left."""
        while not stop:
            beat()
            self._announcements.turn(timeout=0.01)
            self._exposures.turn(timeout=0.2)

    def _preload(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            record = delivery.content
            ra, dec = record["position"]
            for band in bands_of(record["filters"]):
                field = field_at(ra, dec, record["survey"], band)
                if field is not None:
                    try:
                        self._inputs.calibration(field)
                        self._inputs.template(field)
                    except WorkloadError as error:
                        LOG.warning("not preloaded: %s", error)

    def _take(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            record = delivery.content
            exposure = ExposureName.from_obs_id(record["obsId"])
            with about(
                obs_id=record["obsId"], group=record["groupId"], day_obs=exposure.day_obs, detector=self._detector.name
            ):
                packets = self._result(exposure, record, delivery.message.offset)
                self._publish(exposure, record, delivery.message, packets)

    def _result(self, exposure: ExposureName, record: dict[str, Any], offset: int) -> Packets:
        """Return the packets of an exposure: those that a former attempt finished, or new ones."""
        kept = self._packets.load(exposure, self._detector.name)
        if kept is not None and (not kept.messages or self._apdb.has(exposure.exposure_id, self._detector.id)):
            LOG.info("already processed, %d alerts", len(kept.messages))
            return kept
        begun = time.monotonic()
        raw = RawExposure(
            *decode_raw(self._store.get(RAW, record["uri"].removeprefix(f"s3://{RAW}/")), record["obsId"])
        )
        field = field_of(raw.header)
        if field is None:
            raise NonRetriableError(
                f"{record['obsId']}: no template at ({float(raw.header['CRVAL1']):.4f}, {float(raw.header['CRVAL2']):.4f}) degrees"
            )
        calibration, template = self._inputs.calibration(field), self._inputs.template(field)
        loaded = time.monotonic()
        found = self._task.run([raw], calibration, template)
        pixels = time.monotonic()
        sources = dia_sources(found.result, raw.header, self._detector.id)
        when = astropy.time.Time(float(raw.header["MJD-BEG"]), format="mjd", scale="tai")
        # Where the pixels really are: the header may be off by more than the region's margin.
        size = raw.layout.width, raw.layout.height
        region = region_of(found.result.wcs, *size, MARGIN_PIXELS) if len(sources) else detector_region(raw.header)
        rows = self._apdb.associate(sources, region, when)
        associated = time.monotonic()
        messages = self._maker.make(rows.sources, rows.objects, rows.history, found.result, field.name)
        figures = found.quality | {
            "alerts": float(len(messages)),
            "load_s": loaded - begun,
            "pixels_s": pixels - loaded,
            "association_s": associated - pixels,
        }
        known = {name: value for name, value in figures.items() if value == value}  # noqa: PLR0124 - NaN is no figure
        packets = Packets(messages, known, offset)
        self._packets.save(exposure, self._detector.name, packets)
        if messages:
            self._apdb.store(when, rows)
        packets.figures["packets_s"] = time.monotonic() - associated
        return packets

    def _publish(self, exposure: ExposureName, record: dict[str, Any], message: Received, packets: Packets) -> None:
        if packets.offset != message.offset:
            if str(packets.offset).encode() != message.headers.get(GIVEN_BACK_FROM):
                LOG.info("delivered again; its %d alerts are out", len(packets.messages))
                self._source.commit({message.where: Place(message.offset + 1)})
                return
            # Set aside with its packets kept and not published: from now on they are this message's.
            packets = replace(packets, offset=message.offset)
            self._packets.save(exposure, self._detector.name, packets)
        with self._sender.transaction(self._source, message):
            for number, packet in packets.messages.items():
                self._sender.send(ALERTS, packet, key=str(number))
            figures = packets.figures | {"latency_s": tai_now() - record["endOfReadout"]}
            reason = why_no_alerts(packets.figures)
            self._ledger.stamp(Step.PROCESSED, _subject(record), reason=reason, figures=figures)
        LOG.info("%d alerts, %.1f s after the readout", len(packets.messages), tai_now() - record["endOfReadout"])


def _subject(record: dict[str, Any]) -> Subject:
    return Subject(record["obsId"], record["detectorName"], record["groupId"])
