"""Calibrations and templates outlive a laboratory: what one has made is kept in the cache, and brought to the next."""

from __future__ import annotations

from dpp.adapters.progress import Reporter
from dpp.build.base_image import BaseImage
from dpp.build.workload_images import FLAVOURS, WorkloadImages
from dpp.model.environment import Environment
from dpp.model.folders import Folders
from dpp.operations.data_plane import DataPlane

ARCHIVE = "ncsa"
_SECONDS = 1800.0


def exchange_products(environment: Environment, folders: Folders, reporter: Reporter) -> None:
    """Make the archive and the cache hold what one of them has of the version that this checkout would make.

    Once both have it, this asks nobody until code or camera are others.

    Raises
    ------
    CommandFailedError
        If the archive's database or store do not answer, or what was kept is damaged, which is deleted then.
    """
    code = "".join(f"{name}\n" for name in _code(folders))
    seen = folders.state / "operators" / "products"
    if seen.exists() and seen.read_text() == code:
        return
    with reporter.step("calibrations and templates of earlier labs") as step:
        plane = DataPlane(environment, ARCHIVE, folders)
        words = ("workloads.calibration", "--kept", str(folders.cache / "calibrations"), "--make-nothing")
        found = plane.run(*words, seconds=_SECONDS).stdout.strip()
        step.advance(found)
    if found != "neither":
        seen.write_text(code)


def _code(folders: Folders) -> list[str]:
    """Return the names of the images with this checkout's code: products change with them only."""
    images = WorkloadImages(folders, BaseImage(Reporter(quiet=True)).layers[0].reference, Reporter(quiet=True))
    return [images.layout(flavour).folder.name for flavour in FLAVOURS if flavour.compiles]
