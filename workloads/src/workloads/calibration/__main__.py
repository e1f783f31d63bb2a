"""Prepare the night once: calibrations and templates in the archive, or nothing to do.

``--sky NAME`` does so for real exposures that ``--deliver DIRECTORY`` put into the site's object store.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from logging import Logger
from pathlib import Path

from workloads.calibration.delivery import deliver, fetch
from workloads.calibration.frames import PreNight
from workloads.calibration.prepare import Preparation
from workloads.calibration.replay import ReplayedPreNight
from workloads.common import log
from workloads.common.errors import WorkloadError
from workloads.common.settings import Settings
from workloads.data_backbone.repository import ensure_repository


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="calibration", description="Prepare calibrations and templates.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--sky", default="", help="name of a delivered sky to prepare for")
    what.add_argument("--deliver", type=Path, help="put a directory of real exposures into the store, print its facts")
    return parser.parse_args()


def main() -> int:
    """Run the Job."""
    logger = log.configure("calibration")
    options = _arguments()
    settings = Settings.load()
    try:
        if options.deliver:
            print(json.dumps(deliver(settings, options.deliver)))
            return 0
        return _prepare(settings, options.sky, logger)
    except WorkloadError as error:
        logger.error("%s", error)  # noqa: TRY400 - the text says it all
        return 1


def _prepare(settings: Settings, sky: str, logger: Logger) -> int:
    begun = time.monotonic()
    archive = ensure_repository(settings)
    scratch = Path(os.environ.get("DPP_SCRATCH", "/var/tmp/dpp"))  # noqa: S108 - the pod's own scratch volume
    scratch.mkdir(parents=True, exist_ok=True)
    camera = settings.site.camera
    night = ReplayedPreNight(camera, fetch(settings, sky, scratch)) if sky else PreNight(camera)
    preparation = Preparation(settings, night, scratch, int(os.environ.get("PIPETASK_PROCESSES", "1")))
    if preparation.complete(archive):
        logger.info("version %s is in the archive", preparation.version)
    else:
        preparation.make(archive)
        logger.info("version %s made in %.0f s", preparation.version, time.monotonic() - begun)
    preparation.publish(archive)
    return 0


if __name__ == "__main__":
    sys.exit(main())
