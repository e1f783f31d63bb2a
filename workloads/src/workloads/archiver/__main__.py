"""Run the archiver as a Job: it ends with ``exitControl``."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

from workloads.archiver.device import BUCKET, CONNECTIONS, Archiver, ArchiverConfiguration
from workloads.archiver.images import CameraClient
from workloads.archiver.journal import Journal
from workloads.common import log
from workloads.common.aside import TOPIC as SET_ASIDE
from workloads.common.config import ConfigurationFolder
from workloads.common.consume import Loop, ToTopic, avro
from workloads.common.csc import Transport, run_device
from workloads.common.kafka import Bus
from workloads.common.s3 import Store
from workloads.common.serve import GRACE_SECONDS, Health, Stop, serve_health
from workloads.common.settings import Settings

READOUTS = "readouts"


def main() -> int:
    """Run the device."""
    log.configure("archiver")
    settings = Settings.load()
    site = settings.site
    data = Path(os.environ.get("DPP_DATA", "/var/lib/dpp"))
    bus = Bus(settings)
    transport = Transport(bus, "archiver")
    transport.assert_alone()
    folder = ConfigurationFolder(
        Path(os.environ.get("DPP_DEVICE_CONFIG", "/etc/dpp/archiver")), site.site, ArchiverConfiguration
    )
    device = Archiver(
        transport.emit,
        folder,
        Journal(data / "archiver"),
        CameraClient(settings.service("camera"), site.camera.detectors_off),
        Store(settings, site.site, BUCKET, connections=CONNECTIONS),
        transport.emit_all,
    )
    health, stop = Health(), Stop(GRACE_SECONDS)
    serve_health(health)
    commands = bus.receiver("archiver-commands", transport.command_topic, start="latest")
    readouts = bus.receiver("archiver", READOUTS, start="latest")
    loop = Loop(readouts, avro(bus, READOUTS), device.take_over, ToTopic(bus, readouts, bus.sender(SET_ASIDE)))
    loops = {
        "follow": partial(loop.run, stop, health, "follow", hold=lambda: not device.takes_over, timeout=0.2),
        "store": partial(device.store, stop, health),
    }
    return run_device(device, transport, commands, loops, health, stop)


if __name__ == "__main__":
    sys.exit(main())
