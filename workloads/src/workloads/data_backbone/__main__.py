"""Run the Data Backbone of this site."""

from __future__ import annotations

import sys
import time
from functools import partial

from workloads.common import log
from workloads.common.errors import AwayError, WorkloadError
from workloads.common.kafka import Bus, Received, Sender
from workloads.common.ledger import TOPIC as LEDGER
from workloads.common.ledger import Ledger
from workloads.common.serve import GRACE_SECONDS, Health, Stop, run_together, serve_health
from workloads.common.settings import Settings
from workloads.data_backbone.backbone import SERVICE, Backbone
from workloads.data_backbone.keeper import Keeper
from workloads.data_backbone.memory import remember

SWEEP_SECONDS = 20.0
AWAY_SECONDS = 2.0
"""Pause before store and registry are asked again that did not answer."""
LOG = log.configure(SERVICE)


def _keep(bus: Bus, keeper: Keeper, sender: Sender, stop: Stop, health: Health) -> None:
    """Feed the keeper from the observatory's and the archiver's topics."""
    handlers = {
        "next-visit": keeper.next_visit,
        "next-visit-cancelled": keeper.cancelled,
        "readouts": keeper.end_readout,
        "archiver-events": keeper.archiver_event,
    }
    LOG.info("%d stamps of the last days recalled", remember(keeper, bus, partial(health.beat, "keeper")))
    receiver = bus.receiver(f"{SERVICE}-keeper", *handlers)
    while not stop:
        health.beat("keeper")
        messages = receiver.receive(timeout=0.5)
        for message in messages:
            try:
                handlers[message.role](bus.codec.decode(message.value))
            except (WorkloadError, ValueError) as error:
                LOG.warning("%s offset %d: %s", message.role, message.offset, error)
        keeper.check()
        sender.flush()
        receiver.commit(*messages)


def _ingest(backbone: Backbone, keeper: Keeper, stop: Stop, health: Health) -> None:
    """Take in what notifications name and, now and then, what a sweep finds; what is away is waited for."""
    swept, messages = time.monotonic(), list[Received]()
    while not stop:
        health.beat()
        messages = messages or backbone.arrivals.receive(timeout=0.2, most=200)
        sweeps = time.monotonic() - swept > SWEEP_SECONDS
        try:
            missed = backbone.sweep() if sweeps else []
            if messages or missed:
                backbone.take(messages, missed, keeper.arrived)
        except AwayError as error:
            LOG.warning("%d notifications wait: %s", len(messages), error)
            stop.wait(AWAY_SECONDS)
        else:
            messages = []
            swept = time.monotonic() if sweeps else swept


def main() -> int:
    """Run the service."""
    settings = Settings.load()
    backbone = Backbone(settings)
    keeper_bus = Bus(settings)
    sender = keeper_bus.sender(LEDGER)
    keeper = Keeper(Ledger(keeper_bus, f"{SERVICE}-keeper", sender), settings.site.camera)
    health, stop = Health(), Stop(GRACE_SECONDS)
    serve_health(health)
    loops = {
        "ingest": partial(_ingest, backbone, keeper, stop, health),
        "keeper": partial(_keep, keeper_bus, keeper, sender, stop, health),
    }
    return run_together(stop, loops)


if __name__ == "__main__":
    sys.exit(main())
