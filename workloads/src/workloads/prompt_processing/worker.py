"""A worker: waits warm for the slots it has, processes each exposure once, and publishes in an order that a crash cannot break.

Packets are durable first, then the alert database has its rows, then alerts, ledger and the source's offset are one Kafka
transaction. Whatever a crash leaves, the next worker of the slot finds the step it stopped at; what its last worker, if it
wakes up, would still do is refused: packets that replace others, rows that are there, transactions of another's id.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import astropy.time

from workloads.common.aside import GIVEN_BACK_FROM
from workloads.common.consume import Delivery, Loop, avro, passed_over
from workloads.common.consumer import Receiver
from workloads.common.errors import NonRetriableError, RetriableError
from workloads.common.filters import bands_of
from workloads.common.kafka import Bus, held
from workloads.common.ledger import Step
from workloads.common.log import about
from workloads.common.names import ExposureName
from workloads.common.plan import Field, field_at
from workloads.common.raw import decode_raw
from workloads.common.received import Place
from workloads.common.s3 import Store
from workloads.common.serve import Stop
from workloads.common.settings import Settings
from workloads.common.slots import slots
from workloads.common.times import tai_now
from workloads.data_backbone.instrument import MARGIN_PIXELS, detector_region, field_of, region_of
from workloads.data_backbone.repository import open_repository
from workloads.data_backbone.types import RawExposure
from workloads.prompt_processing.apdb import AlertDatabase
from workloads.prompt_processing.inputs import FIELDS_KEPT
from workloads.prompt_processing.leases import ALERTS, SERVICE, Lease, Leases, subject, survivors
from workloads.prompt_processing.packets import BUCKET as PACKETS
from workloads.prompt_processing.packets import PacketMaker, Packets, PacketStore
from workloads.prompt_processing.sources import dia_sources, why_no_alerts
from workloads.prompt_processing.tasks import DifferenceTask

LOG = logging.getLogger(__name__)
INGESTED, NEXT_VISIT = "ingested", "next-visit"
RAW = "raw"
HUNG_SECONDS = 120.0
"""A worker that has not asked for news for so long hangs, and its slots are others'. An exposure takes a tenth of it on shared
cores, and a store or broker that hangs is given up before."""
_ANNOUNCED_SECONDS = 180.0
"""Visits that were announced no longer ago may still come."""
_LOOK_SECONDS = 2.0
_PATIENCE_SECONDS = 240.0
"""How long an exposure waits for what only it lacks, such as its template; then those behind it have their turn."""


class Worker:
    """Processes the exposures of the slots that its group gives it; without one it waits, warm, until another is lost.

    Parameters
    ----------
    settings
        The workload's settings.
    name
        Which worker: unlike all others that run, and the same when it is started again in the place of one that died.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings, site = settings, settings.site.site
        self._bus = Bus(settings)
        self._store = Store(settings, site, RAW, PACKETS)
        self._packets, self._maker = PacketStore(self._store), PacketMaker()
        self._apdb, butler = AlertDatabase(settings), open_repository(settings)
        self._task = DifferenceTask()
        # Last of all it asks for slots: others have them as long as it is not warm.
        self._source = Receiver(settings, site, SERVICE, [INGESTED], hung=HUNG_SECONDS)
        self._leases = Leases(settings, self._bus, self._source, butler)
        self._exposures = Loop(
            self._source,
            avro(self._bus, INGESTED),
            self._take,
            self._leases.set_aside,
            commits=False,
            patience=_PATIENCE_SECONDS,
            survivors=survivors(settings),
        )
        announcements = Receiver(
            settings, site, f"{SERVICE}-preload-{name}", partitions=[(NEXT_VISIT, 0)], since=time.time() - _ANNOUNCED_SECONDS,
        )  # fmt: skip
        # What is odd there is set aside once, by the keeper of the ledger.
        self._announcements = Loop(announcements, avro(self._bus, NEXT_VISIT), self._announced, passed_over)
        self._fields: deque[Field] = deque(maxlen=FIELDS_KEPT)
        """Those that were announced last: a slot that is taken over needs them."""
        self._prepared, self._looked = False, 0.0

    def run(self, stop: Stop, beat: Callable[[], None], prepared: Callable[[], None]) -> None:
        """Work until told to stop; the exposure in hand is finished, one that waits for a new attempt is left.

        Parameters
        ----------
        stop
            When to end.
        beat
            Called all the time.
        prepared
            Called once there is nothing left to prepare: all slots are somebody's, and this worker's have what they need.
        """
        while not stop:
            beat()
            self._announcements.turn(timeout=0.01)
            self._exposures.turn(timeout=0.2)
            self._follow()
            if not self._prepared and self._is_prepared():
                self._prepared = True
                prepared()

    def survive(self) -> None:
        """Say that this worker is told to end: an exposure that it may not finish has not killed it."""
        self._exposures.survive()

    def leave(self) -> None:
        """Leave the group: others have the slots at once."""
        self._source.close()

    def _follow(self) -> None:
        """Take the slots that are this worker's now. One is loaded at a time: while many workers start, slots move on."""
        try:
            self._leases.follow()
        except RetriableError as error:
            LOG.warning("not taken yet: %s", error)
        else:
            self._leases.load_one(reversed(self._fields))

    def _is_prepared(self) -> bool:
        if len(self._leases) > 0:
            return self._leases.loaded
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return False
        self._looked = time.monotonic()
        try:
            given = {partition for _, partition in held(self._settings, self._bus.site, SERVICE)}
        except RetriableError as error:
            LOG.warning("%s", error)
            return False
        spare = {slot.partition for slot in slots(self._settings.site.camera)} <= given
        if spare:
            LOG.info("spare")
        return spare

    def _announced(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            record = delivery.content
            ra, dec = record["position"]
            for band in bands_of(record["filters"]):
                field = field_at(ra, dec, record["survey"], band)
                if field is None:
                    continue
                if field in self._fields:
                    self._fields.remove(field)
                self._fields.append(field)
                for lease in self._leases:
                    lease.expect(field)

    def _take(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            record, lease = delivery.content, self._leases.of(delivery.message)
            exposure = ExposureName.from_obs_id(record["obsId"])
            with about(
                obs_id=record["obsId"], group=record["groupId"], day_obs=exposure.day_obs, detector=lease.detector.name
            ):
                packets = self._result(lease, exposure, record, delivery.message.offset)
                self._publish(lease, exposure, delivery, packets)

    def _result(self, lease: Lease, exposure: ExposureName, record: dict[str, Any], offset: int) -> Packets:
        """Return the packets of an exposure: those that a former attempt finished, or new ones."""
        detector = lease.detector
        kept = self._packets.load(exposure, detector.name)
        if kept is not None and (not kept.messages or self._apdb.has(exposure.exposure_id, detector.id)):
            LOG.info("already processed, %d alerts", len(kept.messages))
            return kept
        LOG.info("begins")
        begun = time.monotonic()
        raw = RawExposure(
            *decode_raw(self._store.get(RAW, record["uri"].removeprefix(f"s3://{RAW}/")), record["obsId"])
        )
        field = field_of(raw.header)
        if field is None:
            raise NonRetriableError(
                f"{record['obsId']}: no template at ({float(raw.header['CRVAL1']):.4f}, {float(raw.header['CRVAL2']):.4f}) degrees"
            )
        calibration, template = lease.inputs.calibration(field), lease.inputs.template(field)
        loaded = time.monotonic()
        found = self._task.run([raw], calibration, template)
        pixels = time.monotonic()
        sources = dia_sources(found.result, raw.header, detector.id)
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
        packets = Packets(messages, known, offset, kept.tag if kept else "")
        self._packets.save(exposure, detector.name, packets)
        if messages:
            self._apdb.store(rows)
        packets.figures["packets_s"] = time.monotonic() - associated
        return packets

    def _publish(self, lease: Lease, exposure: ExposureName, delivery: Delivery, packets: Packets) -> None:
        record, message = delivery.content, delivery.message
        if packets.offset != message.offset:
            if str(packets.offset).encode() != message.headers.get(GIVEN_BACK_FROM):
                LOG.info("delivered again; its %d alerts are out", len(packets.messages))
                self._source.commit({message.where: Place(message.offset + 1)})
                return
            # Set aside with its packets kept and not published: from now on they are this message's.
            packets = replace(packets, offset=message.offset)
            self._packets.save(exposure, lease.detector.name, packets)
        with lease.sender.transaction(self._source, message):
            for number, packet in packets.messages.items():
                lease.sender.send(ALERTS, packet, key=str(number))
            figures = packets.figures | {"latency_s": tai_now() - record["endOfReadout"]}
            reason = why_no_alerts(packets.figures)
            lease.ledger.stamp(Step.PROCESSED, subject(record), reason=reason, figures=figures)
        LOG.info("%d alerts, %.1f s after the readout", len(packets.messages), tai_now() - record["endOfReadout"])
