"""Forward from this site's store to the sites in ``FORWARD_TO`` (by commas).

What goes to the site in ``FORWARD_PROMPT``, where prompt processing waits for it, is marked for the routers' class of such
images; what goes elsewhere takes what they leave.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from workloads.common import log
from workloads.common.csc import Transport
from workloads.common.errors import WorkloadError
from workloads.common.kafka import Bus
from workloads.common.s3 import Store
from workloads.common.serve import GRACE_SECONDS, Health, Stop, serve_health
from workloads.common.settings import Settings
from workloads.forwarder.forward import Forwarder
from workloads.forwarder.journal import TransferJournal

SWEEP_SECONDS = 30.0
PROMPT_DSCP = 34
"""AF41 (RFC 2597): the mark of the class ``prompt-images`` of role border_router."""


def main() -> None:
    """Run the service."""
    logger = log.configure("forwarder")
    settings = Settings.load()
    site = settings.site.site
    sites = [name for name in os.environ.get("FORWARD_TO", "ncsa,base").split(",") if name]
    prompt = os.environ.get("FORWARD_PROMPT", "ncsa")
    workers = int(os.environ.get("FORWARD_WORKERS", "3"))
    bus = Bus(settings)
    transport = Transport(bus, "archiver")
    transport.identity = f"forwarder:{site}"
    destinations = [Store(settings, name, PROMPT_DSCP if name == prompt else 0) for name in sites]
    data = Path(os.environ.get("DPP_DATA", "/var/lib/dpp"))
    forwarder = Forwarder(
        Store(settings, site), destinations, TransferJournal(data / "forwarder" / "transfers.db", sites), transport.emit
    )
    health, stop = Health(), Stop(GRACE_SECONDS)
    serve_health(health)
    events = bus.receiver("forwarder", transport.event_topic)
    threads = [
        threading.Thread(
            target=forwarder.work,
            args=(store, stop.__bool__, health, f"{store.site}-{number}"),
            name=f"{store.site}-{number}",
        )
        for store in destinations
        for number in range(workers)
    ]
    for thread in threads:
        thread.start()
    swept = -1e9
    while not stop:
        health.beat()
        messages = events.receive(timeout=0.2)
        records = [bus.codec.decode(message.value) for message in messages]
        forwarder.note([record["content"]["key"] for record in records if record["event"] == "imageStored"])
        events.commit(*messages)
        if time.monotonic() - swept > SWEEP_SECONDS:
            swept = time.monotonic()
            try:
                if found := forwarder.sweep():
                    logger.info("sweep found %d transfers to make", found)
            except WorkloadError as error:
                logger.warning("sweep: %s", error)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
