"""The archiver alone: a visit of the whole camera from the camera's memory through the journal into a store."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from workloads.archiver.device import Archiver, ArchiverConfiguration
from workloads.archiver.journal import Journal
from workloads.common.consume import Delivery
from workloads.common.names import ExposureName
from workloads.common.s3 import Store

from . import servers
from .camera_files import FILES, FocalPlane, Memory
from .harness import Footprint, Values, Verdict, against, bootstrap, skipped

CORES = 16
"""Of production's archiver, see k8s/clusters/production/summit/figures.yaml."""
TAKE_OVER_SECONDS, VISIT_SECONDS = 4.0, 37.0
"""What a visit may take from the camera into the journal with those cores; how often visits come."""


class _Device:
    """An archiver on a journal and a store of its own."""

    def __init__(self, folder: Path, plane: FocalPlane, store: Store, threads: int) -> None:
        self.journal, self.camera, self._plane = Journal(folder / "journal"), Memory(plane), plane
        self.announced = 0
        self.archiver: Any = Archiver(
            lambda *_: None, SimpleNamespace(names=list), self.journal, self.camera, store, self._announce  # type: ignore[arg-type]
        )  # fmt: skip
        self._threads = threads

    def _announce(self, _: str, contents: Any) -> None:
        self.announced += len(contents)

    def take_over(self, visit: int) -> None:
        """Take a visit over into the journal."""
        self.archiver._configuration = ArchiverConfiguration(parallel_detectors=self._threads)
        message: Any = None
        self.archiver.take_over([Delivery(message, self._plane.event(visit).model_dump())])

    def put(self, together: int) -> int:
        """Put what is journalled into the store and return how many files that was."""
        self.archiver._configuration = ArchiverConfiguration(parallel_puts=together)
        before = self.announced
        while self.archiver._put_pending(lambda: None):
            pass
        return self.announced - before


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Measure a visit, and putting at once against putting one by one; a store on the same disk and cores."""
    if lacks := servers.missing("versitygw"):
        return skipped("archiver", lacks)
    plane, visits = FocalPlane(256, 9) if quick else FocalPlane(), 3 if quick else 6
    plane.frame("R22_S11")
    with servers.scratch() as folder, servers.stores(folder, "summit") as settings:
        device = _Device(folder, plane, Store(settings, "summit", "raw", connections=64), threads)
        taken, cores, footprint = Values(), Values(), Footprint()
        numbers = iter(range(1, 1000))

        def journalled() -> None:
            number, begun = next(numbers), time.process_time()
            with taken:
                device.take_over(number)
            cores.values.append(time.process_time() - begun)
            _forget(folder, number - 2)

        for _ in range(visits):
            journalled()
            device.put(48)
        notes = {"files": len(plane.sensors), "asked": device.camera.asked, "size": plane.size, **footprint.notes()}
        rate = plane.bytes / 1e6 / min(taken.values)
        return [
            against("archiver", "take-over of a visit, core seconds", cores, CORES * TAKE_OVER_SECONDS * _share(plane), MB_per_second=round(rate), **notes),
            *_puts(device, journalled, threads, _share(plane), pairs=2 if quick else 3),
        ]  # fmt: skip


def _share(plane: FocalPlane) -> float:
    """Return which share of the whole camera's pixels a plane has."""
    return max(len(plane.sensors) / FILES * (plane.size / 4096) ** 2, 0.01)


def _puts(device: _Device, journalled: Any, threads: int, share: float, pairs: int) -> list[Verdict]:
    """Compare puts at once with puts one by one, in turn."""
    seconds, files = {48: Values(), 1: Values()}, set[int]()
    for pair in range(pairs):
        for together in (48, 1) if pair % 2 == 0 else (1, 48):
            journalled()
            with seconds[together]:
                files.add(device.put(together))
    assert len(files) == 1, f"not the same files: {files}"
    ratios = np.array(seconds[1].values) / np.array(seconds[48].values)
    ratio = Verdict(
        "archiver",
        "puts one by one",
        float(np.median(ratios)),
        *bootstrap(ratios),
        1.0,
        1.0,
        pairs,
        {"files": files.pop()},
    )
    print(json.dumps(asdict(ratio) | {"reached": ratio.reached}), flush=True)
    return [
        ratio,
        against("archiver", "puts of a visit, s", seconds[48], VISIT_SECONDS * share, threads=threads, **ratio.notes),
    ]


def _forget(folder: Path, visit: int) -> None:
    """Make room: a visit of full size is four gigabytes."""
    if visit > 0:
        shutil.rmtree(folder / "store/data/raw" / ExposureName(20261122, visit, "O").prefix, ignore_errors=True)
