"""Reports of the nights of an instance, and how they outlive its lab."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from dpp.model.errors import UsageError
from dpp.model.folders import Folders


def reported_nights(folders: Folders) -> list[Path]:
    """Return the folders of all nights that have a report, oldest first."""
    return sorted(path.parent for path in (folders.state / "nights").glob("*/report.json"))


def keep_nights(folders: Folders, nights: Sequence[Path], target: Path) -> list[Path]:
    """Copy the folders of nights, all their records with them, below `target`; return the copies.

    Raises
    ------
    UsageError
        If `target` lies where it would go with the lab, or is no directory.
    """
    target = target.resolve()
    for folder in (folders.state, folders.run):
        if target.is_relative_to(folder.resolve()):
            raise UsageError("--keep-reports", str(target), f"a directory outside {folder}, which goes with the lab")
    if target.exists() and not target.is_dir():
        raise UsageError("--keep-reports", f"{target} is a file", "a directory")
    return [Path(shutil.copytree(night, target / night.name, dirs_exist_ok=True)) for night in nights]
