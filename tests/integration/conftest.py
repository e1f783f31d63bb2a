"""One miniature data plane with all workloads for the tests of this folder."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dpp.model.folders import Folders
from integration import odd
from integration.miniature import HUNG_SECONDS, Miniature, missing

DETECTOR = "R22_S11"
_CAMERA = {"size": 512, "detectors": [{"id": 94, "name": DETECTOR, "column": 0, "row": 0}]}


class System:
    """The miniature with its workloads, and nights through it."""

    def __init__(self, miniature: Miniature) -> None:
        self.miniature = miniature
        self.nights = miniature.folder / "nights"
        self.config = miniature.folder / "archiver"
        self._number = 0

    def start(self) -> None:
        """Start what runs all the time, after calibrations and templates are made."""
        self.config.mkdir()
        (self.config / "_init.yaml").write_text("sweep_seconds: 5.0\n")
        self.miniature.start()
        self.miniature.registry()
        kept, scratch = Folders.current().cache / "calibrations", self.miniature.folder / "scratch"
        self.miniature.run("calibration", "ncsa", "--kept", str(kept), DPP_SCRATCH=str(scratch))
        self.miniature.workload("forwarder", "summit")
        for service in ("data_backbone", "visit_ledger", "prompt_processing", "broker"):
            self.miniature.workload(service, "ncsa")
        self.miniature.workload("alert_distribution", "ncsa", PORT="0")
        self.wait(lambda: '"ready"' in self.miniature.log("prompt_processing-ncsa"), "the worker is ready")

    def night(self, visits: int, *arguments: str, during: Any = None, interval: float = 8.0) -> Path:
        """Take a night and return its folder, with the report built."""
        self._number += 1
        folder = self.nights / f"night{self._number}"
        folder.mkdir(parents=True)
        self.miniature.workload("report", "ncsa", "follow", str(folder), name=folder.name)
        self.wait((folder / "following").exists, "the consumer follows")
        self.miniature.workload(
            "archiver", "summit", name=f"archiver-{folder.name}", DPP_DEVICE_CONFIG=str(self.config)
        )
        options = [
            "--night",
            folder.name,
            "--visits",
            str(visits),
            "--interval",
            str(interval),
            "--records",
            str(self.nights),
        ]
        camera = self.miniature.workload(
            "camera", "summit", *options, *arguments, name=f"camera-{folder.name}", PORT=str(self.miniature.camera_port)
        )
        if during:
            during(folder)
        assert camera.wait(HUNG_SECONDS) == 0, self.miniature.log(f"camera-{folder.name}")[-2000:]
        self.miniature.run("report", "ncsa", "settle", str(folder))
        assert self.miniature.end(folder.name) == 0, self.miniature.log(folder.name)[-2000:]
        self.report(folder)
        return folder

    def report(self, folder: Path) -> dict[str, Any]:
        """Read the stores back, build the report again and return it."""
        self.miniature.run("report", "ncsa", "stores", str(folder))
        code = self.miniature.workload("report", "ncsa", "build", str(folder), name="build").wait(HUNG_SECONDS)
        assert code in (0, 1), self.miniature.log("build")[-2000:]
        content: dict[str, Any] = json.loads((folder / "report.json").read_text())
        return content

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = HUNG_SECONDS) -> None:
        """Wait until a condition holds; `seconds` only end what hangs."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}; logs: {self.tails()}"
            time.sleep(0.3)

    def tails(self) -> str:
        """Return the end of every log."""
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-600:]}"
            for path in (self.miniature.folder / "logs").iterdir()
        )


def rows(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a file."""
    return (
        [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        if path.exists()
        else []
    )


def stamped(folder: Path, *steps: str) -> set[tuple[str, str]]:
    """Return exposures and detectors that have one of these stamps."""
    return {(row["obsId"], row["detector"]) for row in rows(folder / "ledger.jsonl") if row["step"] in steps}


@pytest.fixture(scope="package")
def system() -> Iterator[System]:
    """Return the whole data plane with all workloads, for all tests of this folder: the lab's come when it is gone."""
    if lacks := missing():
        pytest.skip(f"this machine lacks {lacks}")
    with tempfile.TemporaryDirectory(prefix="dpp-miniature-") as folder:  # not pytest's own: PostgreSQL must get in
        made = System(Miniature(Path(folder), _CAMERA))
        try:
            made.start()
            yield made
        finally:
            made.miniature.stop()


@pytest.fixture(scope="package")
def night(system: System) -> Path:
    """Return a night of three visits in which nothing goes wrong."""
    return system.night(3, "--seed", "4711")


@dataclass(frozen=True)
class Fed:
    """A night into which odd messages were written, and the processes before and after it."""

    folder: Path
    before: dict[str, Any]
    after: dict[str, Any]


@pytest.fixture(scope="package")
def fed(system: System) -> Fed:
    """Return a night of three visits in which whatever is odd is written to every topic, and all must go as without it."""

    def processes() -> dict[str, Any]:
        return system.miniature.pids() | {"worker": system.miniature.children("prompt_processing-ncsa")}

    def during(folder: Path) -> None:
        before.update(processes())
        system.wait(lambda: bool(stamped(folder, "ingested")), "the first exposure is ingested")
        odd.feed(system)

    odd.messages(system, "dismiss")
    before: dict[str, Any] = {}
    folder = system.night(3, "--seed", "4711", during=during)
    return Fed(folder, before, processes())
