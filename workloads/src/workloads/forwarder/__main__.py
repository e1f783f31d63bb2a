"""Forward from this site's store to the sites in ``FORWARD_TO`` (by commas).

What goes to the site in ``FORWARD_PROMPT``, where prompt processing waits for it, is marked for the routers' class of such
images; what goes elsewhere takes what they leave.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from workloads.common import log
from workloads.common.aside import TOPIC as SET_ASIDE
from workloads.common.consume import Delivery, Loop, ToTopic, avro
from workloads.common.errors import WorkloadError
from workloads.common.kafka import Bus
from workloads.common.producer import Sender
from workloads.common.s3 import Store
from workloads.common.serve import GRACE_SECONDS, Health, Stop, run_together, serve_health
from workloads.common.settings import Settings
from workloads.common.times import tai_now
from workloads.forwarder import replacements
from workloads.forwarder.forward import BUCKET, Forwarder
from workloads.forwarder.journal import TransferJournal
from workloads.forwarder.sweep import Sweep
from workloads.sal.reading import decoders

LOG = log.configure("forwarder")
_TELL_SECONDS = 0.2
STORED = "MTArchiver.logevent_imageStored"
FORWARDED = "forwarded"
_MOST = 500
"""Events that are taken at once."""
PROMPT_DSCP = 34
"""AF41 (RFC 2597): the mark of the class ``prompt-images`` of role border_router."""


def main() -> int:
    """Run the service."""
    settings = Settings.load()
    site = settings.site.site
    sites = [name for name in os.environ.get("FORWARD_TO", "ncsa,base").split(",") if name]
    prompt = os.environ.get("FORWARD_PROMPT", "ncsa")
    workers = int(os.environ.get("FORWARD_WORKERS", "3"))
    bus = Bus(settings)
    # One for each worker, the proof and who asks for replacements; from the source, for those of all sites and the sweep.
    connections = workers + 2
    source = Store(settings, site, BUCKET, connections=connections * len(sites) + 1)
    destinations = [
        Store(settings, name, BUCKET, dscp=PROMPT_DSCP if name == prompt else 0, connections=connections)
        for name in sites
    ]
    data = Path(os.environ.get("DPP_DATA", "/var/lib/dpp"))
    forwarder = Forwarder(
        source,
        destinations,
        TransferJournal(data / "forwarder" / "journal.db", sites),
        partial(_announce, bus, bus.sender(FORWARDED)),
    )
    health, stop = Health(), Stop(GRACE_SECONDS)
    serve_health(health)
    loops = {
        f"{store.site}-{number}": partial(forwarder.work, store, stop.__bool__, health, f"{store.site}-{number}")
        for store in destinations
        for number in range(workers)
    }
    proofs = {
        f"{store.site}-proof": partial(forwarder.prove, store, stop.__bool__, health, f"{store.site}-proof")
        for store in destinations
    }
    events = bus.receiver("forwarder", STORED)
    loop = Loop(
        events,
        decoders(bus, STORED),
        partial(_note, forwarder),
        ToTopic(bus, events, bus.sender(SET_ASIDE)),
        most=_MOST,
    )
    archive = Bus(settings, settings.site.topics[replacements.TOPIC].read_at)
    requests = archive.receiver(replacements.GROUP, replacements.TOPIC)
    wanted = Loop(  # the archive's Kafka is far away: a cut of the way to it is waited for
        requests,
        avro(archive, replacements.TOPIC),
        partial(replacements.take, forwarder),
        ToTopic(bus, requests, bus.sender(SET_ASIDE)),
    )
    others = {
        "news": partial(loop.run, stop, health, "news", timeout=0.2),
        "tell": partial(_tell, forwarder, stop, health),
        "sweep": partial(Sweep(source, forwarder).run, stop, health, "sweep"),
        replacements.TOPIC: partial(wanted.run, stop, health, replacements.TOPIC),
    }
    health.ready()
    return run_together(stop, loops | proofs | others)


def _note(forwarder: Forwarder, deliveries: Sequence[Delivery]) -> None:
    """Take up what the archiver has stored."""
    forwarder.note([delivery.content["key"] for delivery in deliveries])


def _announce(bus: Bus, sender: Sender, content: Mapping[str, object]) -> None:
    """Tell of one arrival, and return when Kafka has it."""
    bus.publish(sender, FORWARDED, {**content, "time": tai_now()})
    sender.flush()


def _tell(forwarder: Forwarder, stop: Stop, health: Health) -> None:
    """Announce what has arrived: one event after the other, so that nothing new waits for it."""
    while not stop.wait(_TELL_SECONDS):
        health.beat("tell")
        try:
            forwarder.tell(partial(health.beat, "tell"))
        except WorkloadError as error:
            LOG.warning("%s; again later", error)


if __name__ == "__main__":
    sys.exit(main())
