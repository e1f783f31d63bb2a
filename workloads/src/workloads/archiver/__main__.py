"""Run the archiver as a Job: it ends with ``exitControl``."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from workloads.archiver.device import BUCKET, COMPONENT, CONNECTIONS, Archiver, ArchiverConfiguration
from workloads.archiver.images import CameraClient
from workloads.archiver.journal import Journal
from workloads.common import log
from workloads.common.aside import TOPIC as SET_ASIDE
from workloads.common.config import ConfigurationFolder
from workloads.common.consume import Loop, SetAside, ToTopic, avro
from workloads.common.consumer import Receiver
from workloads.common.kafka import Bus
from workloads.common.received import Received
from workloads.common.s3 import Store
from workloads.common.serve import GRACE_SECONDS, Health, Stop, serve_health
from workloads.common.settings import Settings
from workloads.sal.interfaces import component
from workloads.sal.link import Link
from workloads.sal.run import run_device

READOUTS = "readouts"
_PATIENCE_SECONDS = 120.0
"""How long a readout waits for what the camera has of it and does not hand out; then those behind it have their turn."""


def readouts_of(bus: Bus) -> Receiver:
    """Return the consumer of readouts: the first of all begins with the oldest, whose pixels the camera may still have."""
    return bus.receiver("archiver", READOUTS, start="earliest")


def owing(device: Archiver, set_aside: SetAside) -> SetAside:
    """Return what sets readouts aside and says what is missing of each: what is set aside is still owed."""

    def dealt_with(message: Received, content: Any, reason: str, trace: str, attempts: int) -> bool:
        if content is not None:
            device.give_up(content, reason)
        return set_aside(message, content, reason, trace, attempts)

    return dealt_with


def main() -> int:
    """Run the device."""
    log.configure("archiver")
    settings = Settings.load()
    site = settings.site
    data = Path(os.environ.get("DPP_DATA", "/var/lib/dpp"))
    bus = Bus(settings)
    folder = ConfigurationFolder(
        Path(os.environ.get("DPP_DEVICE_CONFIG", "/etc/dpp/archiver")), site.site, ArchiverConfiguration
    )
    health, stop = Health(), Stop(GRACE_SECONDS)
    device = Archiver(
        Link(bus, component(COMPONENT)),
        folder,
        Journal(data / "archiver"),
        CameraClient(settings.service("camera"), site.camera.detectors_off),
        Store(settings, site.site, BUCKET, connections=CONNECTIONS),
        partial(health.beat, "follow"),
    )
    serve_health(health)
    readouts = readouts_of(bus)
    aside = owing(device, ToTopic(bus, readouts, bus.sender(SET_ASIDE)))
    loop = Loop(readouts, avro(bus, READOUTS), device.take_over, aside, patience=_PATIENCE_SECONDS)
    loops = {
        "follow": partial(loop.run, stop, health, "follow", hold=lambda: not device.takes_over, timeout=0.2),
        "store": partial(device.store, stop, health),
    }
    return run_device(device, loops, health, stop)


if __name__ == "__main__":
    sys.exit(main())
