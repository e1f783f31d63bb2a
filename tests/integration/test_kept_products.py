"""Calibrations and templates are made once for a camera and code; a second archive gets the same, and nothing else."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
import yaml
from lsst.daf.butler import Butler

from dpp.model.folders import REPOSITORY
from workloads.calibration.frames import PreNight
from workloads.calibration.kept import exchange
from workloads.calibration.prepare import Preparation
from workloads.calibration.version import version_of
from workloads.common.errors import NonRetriableError
from workloads.common.plan import FIELDS
from workloads.common.settings import Settings
from workloads.data_backbone.repository import prepare, repository_config

CAMERA = {"size": 512, "detectors": [{"id": 94, "name": "R22_S11", "column": 0, "row": 0}]}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    path = tmp_path_factory.mktemp("settings") / "site.yml"
    site = {"environment": "test", "site": "ncsa", "principal": "calibration", "camera": CAMERA}
    path.write_text(yaml.safe_dump(site))
    return Settings(path, path.parent, path.parent / "none")


def preparation(settings: Settings, scratch: Path) -> Preparation:
    night = PreNight(settings.site.camera)
    night.fields = FIELDS[:1]
    scratch.mkdir(exist_ok=True)
    return Preparation(settings, night, scratch, 1)


def archive_in(folder: Path, settings: Settings) -> Butler:
    Butler.makeRepo(str(folder), config=repository_config())
    archive = Butler.from_config(str(folder), writeable=True)
    prepare(archive, settings)
    return archive


def contents(archive: Butler, made: Preparation) -> dict[str, bytes]:
    """Return every product of a version, bit for bit."""
    return {
        f"{name} {sorted(ref.dataId.required.items())}": pickle.dumps(archive.get(ref))
        for name, run in made.runs.items()
        for ref in archive.query_datasets(name, collections=run)
    }


@pytest.fixture(scope="module")
def kept(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """Return a folder with products that were made once, and what is in them."""
    folder = tmp_path_factory.mktemp("kept")
    archive, made = archive_in(folder / "archive", settings), preparation(settings, folder / "scratch")
    assert exchange(archive, made, folder / "products") == "neither"
    made.make(archive)
    assert exchange(archive, made, folder / "products") == "kept"
    assert exchange(archive, made, folder / "products") == "both"
    return folder / "products", contents(archive, made)


def test_another_archive_gets_the_same_without_making_it(
    settings: Settings, tmp_path: Path, kept: tuple[Path, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Preparation, "_pipetask", None)  # nothing can be made
    archive, brought = archive_in(tmp_path / "archive", settings), preparation(settings, tmp_path / "scratch")

    assert exchange(archive, brought, kept[0]) == "brought"
    assert brought.complete(archive)
    assert contents(archive, brought) == kept[1]
    brought.publish(archive)
    assert archive.query_datasets("calibration", collections="LSSTCam/calib/latest")


def test_what_is_not_as_it_was_kept_is_refused_and_forgotten(
    settings: Settings, tmp_path: Path, kept: tuple[Path, dict[str, bytes]]
) -> None:
    root = Path(shutil.copytree(kept[0], tmp_path / "products"))
    file = next(path for path in sorted(root.rglob("*template*")) if path.is_file())
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    archive, wanted = archive_in(tmp_path / "archive", settings), preparation(settings, tmp_path / "scratch")

    with pytest.raises(NonRetriableError, match="not as kept"):
        exchange(archive, wanted, root)
    assert exchange(archive, wanted, root) == "neither"


@pytest.mark.parametrize(
    ("file", "another"),
    [
        ("pixels/kernels/stacking.py", True),
        ("pixels/simulator/skies.py", True),
        ("calibration/tasks.py", True),
        ("calibration/pipelines/templates.yaml", True),
        ("common/plan.py", True),
        ("camera/epochs.py", True),
        ("common/kafka.py", False),
        ("report/page.py", False),
        ("prompt_processing/worker.py", False),
    ],
)
def test_what_shapes_products_and_nothing_else_makes_another_version(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, file: str, another: bool
) -> None:
    def version() -> str:
        return version_of(settings.site.camera, "", "workloads.calibration.frames")

    before, read = version(), Path.read_bytes
    edited = REPOSITORY / "workloads/src/workloads" / file
    assert edited.exists()
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"# changed\n" * (path == edited))
    assert (version() != before) is another
