"""A private repository on the Job's scratch: frames in, stock `pipetask`, products to the archive's Butler."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path
from typing import Any

from astropy.io import fits
from lsst.daf.butler import Butler, CollectionType, DataCoordinate, DatasetRef, FileDataset, Timespan

from workloads.calibration.frames import PreNight
from workloads.calibration.version import version_of
from workloads.common.errors import RetriableError
from workloads.common.names import INSTRUMENT
from workloads.common.plan import Field
from workloads.common.settings import Settings
from workloads.data_backbone.formatters import RawFormatter
from workloads.data_backbone.instrument import exposure_records, visit_records
from workloads.data_backbone.repository import Products, prepare, register_places, repository_config

LOG = logging.getLogger(__name__)
_ATTEMPTS = 5
_RAW, _AUXILIARY = f"{INSTRUMENT}/raw/calib", f"{INSTRUMENT}/auxiliary"


class Preparation:
    """Makes calibrations and templates of the instance's camera, or of a replayed sky.

    Parameters
    ----------
    settings
        The workload's settings.
    night
        The exposures before the night.
    scratch
        Folder for the private repository; emptied at the end.
    processes
        How many `pipetask` may use.
    """

    def __init__(self, settings: Settings, night: PreNight, scratch: Path, processes: int) -> None:
        self._settings, self._night, self._scratch, self._processes = settings, night, scratch, processes
        self._products = Products(night.sky)
        self.version = version_of(settings.site.camera, night.sky, type(night).__module__)

    @property
    def calibration_run(self) -> str:
        """The RUN that this version's calibrations have in the archive."""
        return f"{self._products.calibrations}/{self.version}"

    @property
    def template_run(self) -> str:
        """The RUN of its templates."""
        return f"{self._products.templates}/{self.version}"

    @property
    def runs(self) -> dict[str, str]:
        """The RUNs of this version by the dataset type of their products."""
        return {"calibration": self.calibration_run, "template": self.template_run}

    def complete(self, archive: Butler) -> bool:
        """Tell whether the archive has all products of this version."""
        archive.registry.refresh()
        detectors = len(self._night.detectors)
        wanted = {"calibration": detectors, "template": detectors * len(self._night.fields)}
        for name, run in self.runs.items():
            archive.collections.register(run, CollectionType.RUN)
            if len(archive.query_datasets(name, collections=run, explain=False, limit=None)) < wanted[name]:
                return False
        return True

    def make(self, archive: Butler) -> None:
        """Make calibrations, then templates field by field, into this version's RUNs."""
        root, local = self._local(archive)
        for run in (_RAW, _AUXILIARY):
            local.collections.register(run, CollectionType.RUN)
        self._auxiliary(local)
        self._calibrations(local, root)
        self._transfer(archive, local, "calibration", f"{self._products.calibrations}/new", self.calibration_run)
        for field in self._night.fields:
            if self._count(archive, field) == len(self._night.detectors):
                continue  # a former attempt got this far
            self._templates(local, root, field)
            self._transfer(archive, local, "template", self._field_run(field), self.template_run)
        shutil.rmtree(root)

    def bring(self, archive: Butler, folder: Path, export: Path) -> None:
        """Put products that Butler has exported into this version's RUNs, instead of making them."""
        root, local = self._local(archive)
        local.import_(directory=str(folder), filename=str(export), transfer="direct")
        for name, run in self.runs.items():
            self._transfer(archive, local, name, run, run)
        shutil.rmtree(root)

    def _local(self, archive: Butler) -> tuple[Path, Butler]:
        """Return a private repository and its folder; it and the archive know the night's places."""
        root = self._scratch / "repository"
        shutil.rmtree(root, ignore_errors=True)
        Butler.makeRepo(str(root), config=repository_config())
        local = Butler.from_config(str(root), writeable=True)
        prepare(local, self._settings)
        for butler in (local, archive):
            register_places(butler, self._night.places())
        return root, local

    def _field_run(self, field: Field) -> str:
        return f"{self._products.templates}/{field.name}"

    def _count(self, archive: Butler, field: Field) -> int:
        archive.collections.register(self.template_run, CollectionType.RUN)
        where = f"skymap = '{field.skymap}' AND tract = {field.number}"
        found = archive.query_datasets(
            "template", collections=self.template_run, where=where, explain=False, limit=None
        )
        return len(found)

    def publish(self, archive: Butler) -> None:
        """Make this version the one that everybody uses, valid at all times; once more changes nothing."""
        certified = f"{self._products.valid}/{self.version}"
        for chain in self._products.chains:
            archive.collections.register(chain, CollectionType.CHAINED)
        if archive.collections.register(certified, CollectionType.CALIBRATION):
            products = archive.query_datasets("calibration", collections=self.calibration_run)
            archive.registry.certify(certified, products, Timespan(None, None))
        archive.collections.redefine_chain(self._products.valid, [certified])
        archive.collections.redefine_chain(self._products.latest, [self.calibration_run])
        archive.collections.redefine_chain(self._products.templates, [self.template_run])

    def _auxiliary(self, local: Butler) -> None:
        for index, detector in enumerate(self._night.detectors):
            local.put(
                self._night.electronics(index),
                "electronics",
                instrument=INSTRUMENT,
                detector=detector.id,
                run=_AUXILIARY,
            )
        for field in self._night.fields:
            place = {"skymap": field.skymap, "tract": field.number}
            local.put(self._night.reference(field), "reference", place, run=_AUXILIARY)

    def _calibrations(self, local: Butler, root: Path) -> None:
        begun = time.monotonic()
        for index in range(len(self._night.detectors)):
            self._ingest(local, [frame.data for frame in self._night.calibration_frames(index)])
        LOG.info("calibration frames taken in %.0f s", time.monotonic() - begun)
        run = f"{self._products.calibrations}/new"
        self._pipetask(root, "calibration.yaml", f"{_RAW},{_AUXILIARY}", run, f"instrument='{INSTRUMENT}'")
        local.registry.refresh()
        certified = self._products.calibrations
        local.collections.register(certified, CollectionType.CALIBRATION)
        local.registry.certify(certified, local.query_datasets("calibration", collections=run), Timespan(None, None))

    def _templates(self, local: Butler, root: Path, field: Field) -> None:
        begun = time.monotonic()
        for index in range(len(self._night.detectors)):
            self._ingest(local, [frame.data for frame in self._night.field_frames(field, index)])
        LOG.info("epochs of %s taken in %.0f s", field.name, time.monotonic() - begun)
        run, inputs = self._field_run(field), f"{_RAW},{_AUXILIARY},{self._products.calibrations}"
        where = f"instrument='{INSTRUMENT}' AND skymap='{field.skymap}' AND tract={field.number}"
        self._pipetask(root, "templates.yaml", inputs, run, where)
        local.registry.refresh()
        science = local.query_datasets("science", collections=run, explain=False, limit=None)
        local.pruneDatasets(science, disassociate=True, unstore=True, purge=True)

    def _ingest(self, local: Butler, files: list[bytes]) -> None:
        kind = local.get_dataset_type("raw")
        staged = self._scratch / "staged"
        staged.mkdir(parents=True, exist_ok=True)
        datasets = []
        for data in files:
            path = staged / f"{hashlib.sha256(data).hexdigest()}.fits"
            path.write_bytes(data)
            header = fits.getheader(path, 0)
            records = exposure_records(header)
            if str(header["IMGTYPE"]) == "OBJECT":
                records |= visit_records(header)
            for element, record in records.items():
                local.registry.insertDimensionData(element, record, skip_existing=True)
            key: dict[str, int | str] = {
                "instrument": INSTRUMENT,
                "exposure": int(header["EXPID"]),
                "detector": int(header["DETNUM"]),
            }
            data_id = DataCoordinate.standardize(key, dimensions=kind.dimensions)
            datasets.append(FileDataset(str(path), [DatasetRef(kind, data_id, _RAW)], formatter=RawFormatter))
        local.ingest(*datasets, transfer="move", record_validation_info=False)

    def _pipetask(self, root: Path, pipeline: str, inputs: str, run: str, where: str) -> None:
        """Run a pipeline under stock `pipetask`, with its output in this process's log.

        Raises
        ------
        RetriableError
            If it fails; its last lines are in the message.
        """
        begun = time.monotonic()
        path = resources.files("workloads.calibration").joinpath("pipelines", pipeline)
        command = [
            sys.executable,
            "-m",
            "workloads.calibration.pipetask",
            "--log-level",
            "WARNING",
            "run",
            "-b",
            str(root),
            "-p",
            str(path),
        ]
        command += [
            "-i",
            inputs,
            "--output-run",
            run,
            "-d",
            where,
            "-j",
            str(self._processes),
            "--start-method",
            "forkserver",
            "--register-dataset-types",
        ]
        # Stacks of frames wait where there is room for them.
        environment = {**os.environ, "TMPDIR": str(self._scratch)}
        finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if finished.returncode:
            raise RetriableError(f"pipetask run {pipeline}: exit code {finished.returncode}; {finished.stderr[-3000:]}")
        LOG.info("pipetask run %s took %.0f s", pipeline, time.monotonic() - begun)

    def _transfer(self, archive: Butler, local: Butler, name: str, source: str, target: str) -> None:
        """Copy products into the archive under this version's RUN; what is there already stays."""
        archive.collections.register(target, CollectionType.RUN)
        there = {ref.dataId for ref in archive.query_datasets(name, collections=target, explain=False, limit=None)}
        for ref in local.query_datasets(name, collections=source, explain=False, limit=None):
            if ref.dataId not in there:
                _put(archive, local.get(ref), name, ref.dataId, target)
        LOG.info("%s products are in %s", name, target)


def _put(archive: Butler, value: Any, name: str, data_id: DataCoordinate, run: str) -> None:
    """Put a product; the store sometimes refuses to complete an upload in parts, and takes it the next time."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            archive.put(value, name, data_id, run=run)
        except RuntimeError as error:
            if attempt == _ATTEMPTS:
                raise RetriableError(f"{name} {data_id}: {error}") from error
            LOG.warning("%s %s, attempt %d: %s", name, data_id, attempt, error)
            time.sleep(attempt)
        else:
            return
