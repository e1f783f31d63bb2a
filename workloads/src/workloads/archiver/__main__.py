"""Run the archiver as a Job: it ends with ``exitControl``."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from workloads.archiver.device import BUCKET, Archiver, ArchiverConfiguration
from workloads.archiver.images import CameraClient
from workloads.archiver.journal import Journal
from workloads.common import log
from workloads.common.config import ConfigurationFolder
from workloads.common.csc import Transport, run_device
from workloads.common.kafka import Bus
from workloads.common.s3 import Store
from workloads.common.serve import GRACE_SECONDS, Health, Stop, serve_health
from workloads.common.settings import Settings


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
        Store(settings, site.site, BUCKET),
    )
    health, stop = Health(), Stop(GRACE_SECONDS)
    serve_health(health)
    ended = threading.Event()
    commands = bus.receiver("archiver-commands", transport.command_topic, start="latest")
    readouts = bus.receiver("archiver", "readouts", start="latest")
    threads = [
        threading.Thread(target=device.follow, args=(readouts, bus.codec.decode, ended.is_set), name="follow"),
        threading.Thread(target=device.store, args=(ended.is_set,), name="store"),
    ]
    for thread in threads:
        thread.start()
    try:
        return run_device(device, transport, commands, health, stop)
    finally:
        ended.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    sys.exit(main())
