"""Calibrations and templates outlive a laboratory: what one has made is kept in the cache, and brought to the next."""

from __future__ import annotations

import hashlib

from dpp.adapters.progress import Reporter
from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY, Folders
from dpp.operations.data_plane import DataPlane

ARCHIVE, PRINCIPAL = "ncsa", "calibration"
_SECONDS = 1800.0


def exchange_products(environment: Environment, folders: Folders, reporter: Reporter) -> None:
    """Make the archive and the cache hold what one of them has of the version that this checkout would make.

    Once both have it, this asks nobody until code or camera are others.

    Raises
    ------
    CommandFailedError
        If the archive's database or store do not answer, or what was kept is damaged, which is deleted then.
    """
    seen, shape = folders.state / "operators" / "products", _shape(environment)
    if seen.exists() and seen.read_text() == shape:
        return
    with reporter.step("calibrations and templates of earlier labs") as step:
        plane = DataPlane(environment, PRINCIPAL, ARCHIVE, folders)
        words = ("workloads.calibration", "--kept", str(folders.cache / "calibrations"), "--make-nothing")
        found = plane.run(*words, seconds=_SECONDS).stdout.strip()
        step.advance(found)
    if found != "neither":
        seen.write_text(shape)


def _shape(environment: Environment) -> str:
    """Return a digest of all that a version may be made of; the workload itself knows what shapes one."""
    digest = hashlib.sha256(environment.camera.model_dump_json().encode())
    for path in [REPOSITORY / "uv.lock", *sorted((REPOSITORY / "workloads/src").rglob("*.*"))]:
        if path.suffix in {".lock", ".py", ".yaml"}:
            digest.update(path.read_bytes())
    return digest.hexdigest()
