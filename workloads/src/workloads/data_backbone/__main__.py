"""Run the Data Backbone of this site."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial

from workloads.common import log
from workloads.common.aside import TOPIC as SET_ASIDE
from workloads.common.consume import Delivery, Loop, ToTopic, avro
from workloads.common.errors import RetriableError, WorkloadError
from workloads.common.kafka import Bus
from workloads.common.ledger import TOPIC as LEDGER
from workloads.common.ledger import Ledger
from workloads.common.producer import Sender
from workloads.common.serve import GRACE_SECONDS, Health, Stop, run_together, serve_health
from workloads.common.settings import Settings
from workloads.data_backbone.arrivals import parse_notification
from workloads.data_backbone.backbone import ARRIVALS, SERVICE, Backbone
from workloads.data_backbone.keeper import Keeper, subjects
from workloads.data_backbone.memory import remember
from workloads.data_backbone.writer import BUCKET
from workloads.sal.reading import decoders

SWEEP_SECONDS = 20.0
_PAUSES_PER_COST = 9.0
"""How many times as long as a sweep took the next one waits."""
_NOTIFICATIONS, _EVENTS = 200, 500
"""How many are taken at once."""
_RETRIEVED = "MTArchiver.logevent_imageRetrievalForArchiving"
LOG = log.configure(SERVICE)


def _keep(bus: Bus, keeper: Keeper, sender: Sender, stop: Stop, health: Health) -> None:
    """Feed the keeper from the observatory's and the archiver's topics."""
    handlers = {
        "next-visit": keeper.next_visit,
        "next-visit-cancelled": keeper.cancelled,
        "readouts": keeper.end_readout,
        "forwarded": keeper.forwarded,
        _RETRIEVED: keeper.retrieved,
    }

    def take(deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            handlers[delivery.message.role](delivery.content)
        sender.flush()

    def check() -> None:
        keeper.check()
        sender.flush()

    LOG.info("%d stamps of the last days recalled", remember(keeper, bus, partial(health.beat, "keeper")))
    health.ready()
    receiver = bus.receiver(f"{SERVICE}-keeper", *handlers)
    own = [role for role in handlers if role != _RETRIEVED]
    decode = avro(bus, *own) | decoders(bus, _RETRIEVED)
    aside = ToTopic(bus, receiver, sender, Ledger(bus, f"{SERVICE}-keeper", sender), subjects)
    loop = Loop(receiver, decode, take, aside, most=_EVENTS)
    loop.run(stop, health, "keeper", beside=check)


def _ingest(backbone: Backbone, stop: Stop, health: Health) -> None:
    """Take in what notifications name and what a sweep has found; what is away is waited for."""

    def swept() -> None:
        if loop.waiting:
            return
        try:
            backbone.take_swept(partial(health.beat, "ingest"))
        except RetriableError as error:
            LOG.warning("sweep: %s; again later", error)

    decode = {ARRIVALS: lambda message: parse_notification(message.value, BUCKET)}
    aside = ToTopic(backbone.bus, backbone.arrivals, backbone.sender, backbone.ledger, backbone.subjects)
    loop = Loop(backbone.arrivals, decode, backbone.take, aside, most=_NOTIFICATIONS, commits=False)
    loop.run(stop, health, "ingest", beside=swept, timeout=0.2)


def _sweep(backbone: Backbone, stop: Stop, health: Health) -> None:
    """Look for what no notification has named, at most a tenth of the time."""
    pause = SWEEP_SECONDS
    while not stop.wait(1.0):
        health.beat("sweep")
        pause -= 1.0
        if pause > 0.0:
            continue
        begun = time.monotonic()
        try:
            backbone.look(partial(health.beat, "sweep"))
        except WorkloadError as error:
            LOG.warning("sweep: %s; again later", error)
        pause = max(SWEEP_SECONDS, _PAUSES_PER_COST * (time.monotonic() - begun))


def main() -> int:
    """Run the service."""
    settings = Settings.load()
    keeper_bus = Bus(settings)
    sender = keeper_bus.sender(LEDGER, SET_ASIDE)
    keeper = Keeper(Ledger(keeper_bus, f"{SERVICE}-keeper", sender), settings.site.camera)
    backbone = Backbone(settings, keeper.arrived)
    health, stop = Health(), Stop(GRACE_SECONDS)
    serve_health(health)
    loops = {
        "ingest": partial(_ingest, backbone, stop, health),
        "sweep": partial(_sweep, backbone, stop, health),
        "keeper": partial(_keep, keeper_bus, keeper, sender, stop, health),
    }
    return run_together(stop, loops)


if __name__ == "__main__":
    sys.exit(main())
