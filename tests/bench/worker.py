"""One prompt worker's memory and time: three hundred visits of a hundred fields, by its own pieces and a real Butler.

What it does of an exposure is measured as it is done: raw from disk, calibration and template by `Inputs` from a Butler, the pixel
task, sources, packets. Kafka, store and database are benches of their own.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import astropy.time
import numpy as np
import pandas as pd
from lsst.daf.butler import Butler, CollectionType, DatasetRef, FileDataset

from workloads.common.filters import band_of
from workloads.common.names import INSTRUMENT
from workloads.common.plan import Field
from workloads.common.raw import decode_raw
from workloads.common.settings import Camera
from workloads.data_backbone.fields import SKYMAP
from workloads.data_backbone.formatters import ArchiveFormatter, pack
from workloads.data_backbone.instrument import detector_region
from workloads.data_backbone.repository import PROMPT_RUN, Products, prepare, repository_config
from workloads.data_backbone.types import RawExposure
from workloads.pixels import chain, coadd
from workloads.prompt_processing.association import associate
from workloads.prompt_processing.inputs import Inputs
from workloads.prompt_processing.packets import PacketMaker
from workloads.prompt_processing.sources import dia_sources
from workloads.prompt_processing.tasks import DifferenceTask

from . import servers
from .camera_files import FocalPlane
from .harness import Footprint, Values, Verdict, against, memory_mib
from .inputs import detector

FIELDS, VISITS = 100, 300
MEMORY_MIB = 19 * 1024
"""What a worker has in production."""
GROWTH_MIB = MEMORY_MIB / 10 / 1000
"""What a visit of full size may add, so that a night of a thousand takes a tenth of that."""
LOAD_SECONDS, PIXELS_SECONDS, PACKETS_SECONDS, INPUTS_SECONDS = 1.0, 12.0, 1.0, 8.0
"""What the sum in docs/developers/full-size.md needs of raw, pixels and packets, and of inputs that nobody announced."""
_COLD = 20
"""Visits before which caches still fill."""


class Sky:
    """A repository with a calibration and with templates of many fields, which are all the same image.

    Parameters
    ----------
    folder
        Where it is.
    size
        Pixels along a side of a detector.
    fields
        How many.
    """

    def __init__(self, folder: Path, size: int, fields: int) -> None:
        self.plane, self.detector = FocalPlane(size, 1), Camera().detectors[4]
        self.fields = [Field(1000 + number, f"field {number}", 0.0, 0.0, SKYMAP, "r") for number in range(fields)]
        Butler.makeRepo(str(folder), config=repository_config())
        self.butler = Butler.from_config(str(folder), writeable=True)
        prepare(self.butler, SimpleNamespace(site=SimpleNamespace(camera=Camera(size=512))))  # type: ignore[arg-type]
        self._register()
        (folder / "template.npz").write_bytes(pack(_template(size)))
        (folder / "calibration.npz").write_bytes(pack(detector(size).calibration))
        self._ingest(
            folder / "calibration.npz", "calibration", [{"instrument": INSTRUMENT, "detector": self.detector.id}]
        )
        places = [
            {"skymap": SKYMAP, "tract": field.number, "patch": self.detector.id, "band": field.band}
            for field in self.fields
        ]
        self._ingest(folder / "template.npz", "template", places)

    def _register(self) -> None:
        registry = self.butler.registry
        registry.insertDimensionData("skymap", {"name": SKYMAP, "hash": b"bench", "tract_max": 10_000, "patch_nx_max": 256, "patch_ny_max": 1}, replace=True)  # fmt: skip
        for field in self.fields:
            registry.insertDimensionData("tract", {"skymap": SKYMAP, "id": field.number, "region": None})
            patch = {
                "skymap": SKYMAP,
                "tract": field.number,
                "id": self.detector.id,
                "cell_x": self.detector.id,
                "cell_y": 0,
            }
            registry.insertDimensionData("patch", {**patch, "region": None})
        self.butler.collections.register(PROMPT_RUN, CollectionType.RUN)
        for chained in Products().chains:
            self.butler.collections.register(chained, CollectionType.CHAINED)
            self.butler.collections.redefine_chain(chained, [PROMPT_RUN])

    def _ingest(self, path: Path, kind: str, data_ids: list[dict[str, Any]]) -> None:
        dataset_type = self.butler.get_dataset_type(kind)
        for number, data_id in enumerate(data_ids):  # a link for each: a file belongs to one dataset
            link = path.with_name(f"{number}-{path.name}")
            link.hardlink_to(path)
            full = self.butler.registry.expandDataId(data_id)
            ref = DatasetRef(dataset_type, full, PROMPT_RUN, id=uuid.uuid4())
            self.butler.ingest(FileDataset(str(link), [ref], formatter=ArchiveFormatter), transfer="direct")


def _template(size: int) -> Any:
    given = detector(size)
    epoch, reference = given.template, given.sky[given.sky["kind"] == 0]
    science = chain.process_science(epoch.raw, epoch.layout, given.calibration, epoch.wcs, 30.0, reference=reference)
    return coadd.build_template([science, science], given.exposure.wcs)


class _New:
    """An alert database that knows no object yet."""

    @staticmethod
    def getDiaObjects(_region: Any) -> pd.DataFrame:  # noqa: N802 - the stock name
        return pd.DataFrame({"diaObjectId": [], "ra": [], "dec": []})


_NEW: Any = _New()


class Worker:
    """What a worker does of an exposure, and how long each part takes."""

    def __init__(self, sky: Sky) -> None:
        self.inputs, self._task, self._maker = Inputs(sky.butler, sky.detector), DifferenceTask(), PacketMaker()
        self.inputs_seconds, self.load, self.pixels, self.packets = Values(), Values(), Values(), Values()
        self.alerts = 0

    def announce(self, field: Field) -> None:
        """Load what the exposures of a field need, as when it is announced."""
        with self.inputs_seconds:
            self.inputs.calibration(field)
            self.inputs.template(field)

    def process(self, data: bytes, field: Field) -> None:
        """Process an exposure of a field that was announced."""
        with self.load:
            raw = RawExposure(*decode_raw(data, "bench"))
            calibration, template = self.inputs.calibration(field), self.inputs.template(field)
        with self.pixels:
            found = self._task.run([raw], calibration, template)
            sources = dia_sources(found.result, raw.header, 90)
        with self.packets:
            when = astropy.time.Time(float(raw.header["MJD-BEG"]), format="mjd", scale="tai")
            rows = associate(_NEW, sources, detector_region(raw.header), when, lambda _: pd.DataFrame())
            self.alerts = len(self._maker.make(rows.sources, rows.objects, rows.history, found.result, field.name))


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Measure visits of many fields of a small detector, for memory, and of the full one, for both."""
    if quick:
        return _measure(512, 6, 8, cold=5, small=True)
    print(f'{{"bench": "worker", "threads": {threads}, "band": "{band_of("r")}"}}', flush=True)
    return [*_measure(1024, FIELDS, VISITS, cold=_COLD, small=True), *_measure(4096, 12, 36, cold=12, small=False)]


def _measure(size: int, fields: int, visits: int, *, cold: int, small: bool) -> list[Verdict]:
    with servers.scratch() as folder:
        sky = Sky(folder, size, fields)
        (one,) = sky.plane.science
        data, worker = sky.plane.file(1, one), Worker(sky)
        memory, footprint = [], Footprint()
        for field in _round(sky.fields, visits):
            worker.announce(field)
            worker.process(data, field)
            memory.append(memory_mib("VmRSS"))
    grown = float(np.polyfit(np.arange(len(memory) - cold), memory[cold:], 1)[0])
    notes = {"size": size, "fields": fields, "visits": visits, "alerts": worker.alerts, **footprint.notes()}
    name = "" if small else "4k: "
    found = [
        against(
            "worker",
            f"{name}growth of a visit, MiB",
            Values(max(grown, 1e-3)),
            GROWTH_MIB * (size / 4096) ** 2,
            **notes,
        )
    ]
    if small:
        return found
    return [
        *found,
        against("worker", "4k: most memory, MiB", Values(memory_mib("VmHWM")), MEMORY_MIB, size=size),
        against("worker", "4k: inputs that were not announced, s", worker.inputs_seconds, INPUTS_SECONDS, size=size),
        against("worker", "4k: raw from bytes, s", worker.load, LOAD_SECONDS, size=size),
        against("worker", "4k: pixels on one core, s", worker.pixels, PIXELS_SECONDS, size=size),
        against("worker", "4k: packets, s", worker.packets, PACKETS_SECONDS, alerts=worker.alerts),
    ]  # fmt: skip


def _round(fields: list[Field], visits: int) -> Iterator[Field]:
    for number in range(visits):
        yield fields[number % len(fields)]
