"""What of the workloads' images is made again after a change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dpp.adapters.progress import Reporter
from dpp.build import workload_images as images
from dpp.model.folders import REPOSITORY, Folders


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copied = tmp_path / "src"
    shutil.copytree(REPOSITORY / "workloads/src", copied, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(images, "_SOURCE", copied)
    return copied / "workloads"


def names(lock: str = "numpy==2") -> dict[str, str]:
    found = images.WorkloadImages(Folders("unit"), "base", Reporter(quiet=True))
    found.requirements = lambda _: lock  # type: ignore[method-assign]
    *environments, kernels = found.stages()
    whole = {flavour.name: found.layout(flavour).folder.name for flavour in images.FLAVOURS}
    return whole | {"environments": " ".join(environments), "kernels": kernels}


@pytest.mark.parametrize(
    ("file", "redone"),
    [
        ("report/page.py", {"pixels", "services"}),
        ("pixels/chain.py", {"pixels"}),
        ("pixels/kernels/rice.py", {"pixels", "kernels"}),
        ("pixels/compile.py", {"pixels", "kernels"}),
    ],
)
def test_a_change_of_code_compiles_no_kernel_but_its_own(source: Path, file: str, redone: set[str]) -> None:
    before = names()
    with (source / file).open("a") as stream:
        stream.write("# changed\n")
    after = names()
    assert {name for name in after if after[name] != before[name]} == redone


@pytest.mark.usefixtures("source")
def test_another_lock_redoes_all() -> None:
    before, after = names(), names("numpy==3")
    assert all(before[name] != after[name] for name in before)


def test_kernels_need_nothing_else_of_the_code() -> None:
    package = REPOSITORY / "workloads/src/workloads"
    files = [*(package / name for name in images._COMPILER), *(package / images._KERNELS).glob("*.py")]
    words = [line.split() for file in files for line in file.read_text().splitlines() if line.startswith("from work")]
    assert {module for _, module, *_ in words} == {"workloads.pixels", "workloads.pixels.kernels"}
    assert {" ".join(names) for _, module, _, *names in words if module == "workloads.pixels"} == {"kernels, parallel"}
