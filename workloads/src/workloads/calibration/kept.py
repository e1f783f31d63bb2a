"""Products of a version in a folder outside the archive, as Butler exports them, each file with its digest.

A laboratory that comes and goes brings what an earlier one has made: the same camera and code make the same products.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from lsst.daf.butler import Butler

from workloads.calibration.prepare import Preparation
from workloads.common.errors import NonRetriableError

LOG = logging.getLogger(__name__)
_DIGESTS, _EXPORT = "digests.json", "export.yaml"
_VERSIONS = 8
"""How many versions are kept: those of several cameras and branches, the ones that were used last."""


def exchange(archive: Butler, preparation: Preparation, root: Path) -> str:
    """Make archive and folder hold what one of them has; return ``kept``, ``brought``, ``both`` or ``neither``."""
    root.mkdir(parents=True, exist_ok=True)
    folder = root / preparation.version
    there, here = preparation.complete(archive), folder.exists()
    if here:
        os.utime(folder)
    if there and not here:
        _keep(archive, preparation, folder)
        return "kept"
    if here and not there:
        _check(folder)
        preparation.bring(archive, folder, folder / _EXPORT)
        return "brought"
    return "both" if there else "neither"


def _keep(archive: Butler, preparation: Preparation, folder: Path) -> None:
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        with archive.export(directory=str(partial), filename=str(partial / _EXPORT), transfer="copy") as export:
            for name, run in preparation.runs.items():
                found = archive.query_datasets(name, collections=run, limit=None)
                export.saveDatasets(found, elements=())  # their dimensions come from the settings
        (partial / _DIGESTS).write_text(json.dumps(_digests(partial), indent=1))
        with suppress(FileExistsError):  # another has kept the same
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    versions = sorted(folder.parent.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in versions[_VERSIONS:]:
        shutil.rmtree(old)


def _check(folder: Path) -> None:
    """Compare every file with its digest.

    Raises
    ------
    NonRetriableError
        If one differs, is missing or was added; the folder is gone then, so that the version is made anew.
    """
    recorded = json.loads((folder / _DIGESTS).read_text())
    found = _digests(folder)
    if wrong := sorted(name for name in recorded.keys() | found.keys() if recorded.get(name) != found.get(name)):
        shutil.rmtree(folder)
        raise NonRetriableError(f"{folder}: {', '.join(wrong[:3])} not as kept; the folder is deleted, make it anew")


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _DIGESTS)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
