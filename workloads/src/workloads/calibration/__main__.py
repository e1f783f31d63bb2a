"""Prepare the night once: calibrations and templates in the archive, or nothing to do.

``--sky NAME`` does so for real exposures that ``--deliver DIRECTORY`` put into the site's object store. With
``--kept FOLDER`` products come from a folder that has them, and are kept in one that has not; with ``--make-nothing`` as
well that is all that happens, and one word of standard output says what it was.
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
from workloads.calibration.kept import exchange
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
    parser.add_argument("--kept", type=Path, help="folder with the products of versions")
    parser.add_argument("--make-nothing", action="store_true", help="only exchange products with that folder")
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
        return _prepare(settings, options, logger)
    except WorkloadError as error:
        logger.error("%s", error)  # noqa: TRY400 - the text says it all
        return 1


def _prepare(settings: Settings, options: argparse.Namespace, logger: Logger) -> int:
    begun = time.monotonic()
    archive = ensure_repository(settings)
    scratch = Path(os.environ.get("DPP_SCRATCH", "/var/tmp/dpp"))  # noqa: S108 - the pod's own scratch volume
    scratch.mkdir(parents=True, exist_ok=True)
    camera = settings.site.camera
    night = ReplayedPreNight(camera, fetch(settings, options.sky, scratch)) if options.sky else PreNight(camera)
    preparation = Preparation(settings, night, scratch, int(os.environ.get("PIPETASK_PROCESSES", "1")))
    if options.kept:
        exchanged = exchange(archive, preparation, options.kept)
        logger.info("version %s: %s after %.0f s", preparation.version, exchanged, time.monotonic() - begun)
        if options.make_nothing:
            print(exchanged)
            return 0
    if preparation.complete(archive):
        logger.info("version %s is in the archive", preparation.version)
    else:
        preparation.make(archive)
        logger.info("version %s made in %.0f s", preparation.version, time.monotonic() - begun)
    preparation.publish(archive)
    if options.kept:
        exchange(archive, preparation, options.kept)
    return 0


if __name__ == "__main__":
    sys.exit(main())
