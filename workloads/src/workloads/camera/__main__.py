"""Take a night: ``python -m workloads.camera --night NAME --visits N --interval S``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from workloads.camera.commander import Commander
from workloads.camera.daq import ImageBuffer, serve
from workloads.camera.exposures import RealSky
from workloads.camera.frames import Sky
from workloads.camera.night import Faults, Night, Plan
from workloads.camera.records import NightRecords
from workloads.camera.replay import ReplayedSky
from workloads.camera.synthetic import SYNTHETIC, SyntheticSky
from workloads.common import log
from workloads.common.errors import WorkloadError
from workloads.common.kafka import Bus
from workloads.common.settings import Camera, Settings
from workloads.common.times import tai_now


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="camera", description="Take a night of visits.")
    parser.add_argument("--night", required=True, help="name of the night: its folder of records")
    parser.add_argument("--visits", type=int, default=6)
    parser.add_argument("--interval", type=float, default=45.0, help="seconds from visit to visit")
    parser.add_argument("--detectors", type=int, default=0, help="how many are read out (default: all)")
    parser.add_argument("--sky", default=SYNTHETIC, help="what is exposed: synthetic, or a directory of real exposures")
    parser.add_argument("--seed", type=int, default=None, help="of the night; by default a new one each night")
    parser.add_argument(
        "--first-seq",
        type=int,
        default=None,
        help="sequence number of the first exposure (default: seconds of the day)",
    )
    parser.add_argument(
        "--fault", action="append", default=[], help="cancel:N, unannounced:N, missing:N:DETECTOR (for tests)"
    )
    parser.add_argument(
        "--records", type=Path, default=Path("/var/lib/dpp/night"), help="folder of the nights' records"
    )
    return parser.parse_args()


def _sky(what: str, camera: Camera, seed: int) -> Sky:
    if what == SYNTHETIC:
        return SyntheticSky(camera, seed)
    return ReplayedSky(camera, RealSky.read(Path(what)), seed)


def main() -> int:
    """Run the night."""
    logger = log.configure("camera")
    options = _arguments()
    settings = Settings.load()
    seed = time.time_ns() % 2**31 if options.seed is None else options.seed
    camera = settings.site.camera
    try:
        sky = _sky(options.sky, camera, seed)
    except WorkloadError as error:
        logger.error("%s", error)  # noqa: TRY400 - the text says it all
        return 1
    names = [name for name in sky.detectors if name not in camera.detectors_off][: options.detectors or None]
    first = options.first_seq or 1 + int(time.time()) % 86400
    plan = Plan(options.night, options.visits, options.interval, names, first, Faults.parse(options.fault))
    records = NightRecords(options.records / options.night)
    records.night(
        {
            "night": options.night,
            "seed": seed,
            "sky": sky.name,
            "skyFacts": sky.describe(),
            "visits": plan.visits,
            "interval": plan.interval,
            "detectors": names,
            "detectorNumbers": {d.name: d.id for d in camera.detectors},
            "begun": tai_now(),
        }
    )
    buffer = ImageBuffer()
    server = serve(buffer, int(os.environ.get("PORT", "8080")))
    bus = Bus(settings)
    try:
        archiver = Commander(bus, "MTArchiver")
        archiver.wait_alive(120.0)
        archiver.command("start")
        archiver.command("enable")
        Night(plan, sky, bus, buffer, records).run()
        left = buffer.wait_empty(600.0)
        for command in ("disable", "standby", "exitControl"):
            archiver.command(command)
    except WorkloadError as error:
        logger.error("%s", error)  # noqa: TRY400 - the text says it all
        return 1
    finally:
        server.shutdown()
    records.done()
    if left:
        logger.error("not taken over by the archiver: %s", ", ".join(left))
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
