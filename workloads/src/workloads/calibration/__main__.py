"""Prepare the night once: calibrations and templates in the archive, or nothing to do."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from workloads.calibration.prepare import Preparation
from workloads.common import log
from workloads.common.settings import Settings
from workloads.data_backbone.repository import ensure_repository


def main() -> int:
    """Run the Job."""
    logger = log.configure("calibration")
    settings = Settings.load()
    begun = time.monotonic()
    archive = ensure_repository(settings)
    scratch = Path(os.environ.get("DPP_SCRATCH", "/var/tmp/dpp"))  # noqa: S108 - the pod's own scratch volume
    scratch.mkdir(parents=True, exist_ok=True)
    preparation = Preparation(settings, scratch, int(os.environ.get("PIPETASK_PROCESSES", "1")))
    if preparation.complete(archive):
        logger.info("version %s is in the archive", preparation.version)
    else:
        preparation.make(archive)
        logger.info("version %s made in %.0f s", preparation.version, time.monotonic() - begun)
    preparation.publish(archive)
    return 0


if __name__ == "__main__":
    sys.exit(main())
