"""Pipeline tasks that prepare a night: calibrations per detector, calibrated exposures, templates per field."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import lsst.pex.config as pex_config
import lsst.pipe.base as pipe_base
import numpy as np
from lsst.daf.butler import DataCoordinate, DatasetRef, DatasetType, Registry
from lsst.pipe.base import connectionTypes

from workloads.data_backbone.instrument import field_of_visit
from workloads.pixels import calibration, chain, coadd
from workloads.pixels.wcs import Wcs


def find_reference(
    dataset_type: DatasetType, registry: Registry, data_id: DataCoordinate, collections: Iterable[str]
) -> list[DatasetRef]:
    """Return the catalogue of the field that a visit looked at."""
    field = field_of_visit(registry, data_id)
    found = (
        registry.findDataset(dataset_type, skymap=field.skymap, tract=field.number, collections=collections)
        if field
        else None
    )
    return [found] if found else []


class CalibrationConnections(pipe_base.PipelineTaskConnections, dimensions=("instrument", "detector")):
    """Raw bias, dark and flat frames in, one calibration out."""

    raws = connectionTypes.Input(
        doc="Bias, dark and flat frames.", name="raw", storageClass="RawExposure",
        dimensions=("instrument", "exposure", "detector"), multiple=True, deferLoad=True,
    )  # fmt: skip
    electronics = connectionTypes.PrerequisiteInput(
        doc="Linearity and crosstalk as measured on the bench.", name="electronics", storageClass="StructuredDataDict",
        dimensions=("instrument", "detector"),
    )  # fmt: skip
    calibration = connectionTypes.Output(
        doc="Bias, dark, flat, defects, linearity.", name="calibration", storageClass="PixelCalibration",
        dimensions=("instrument", "detector"), isCalibration=True,
    )  # fmt: skip


class CalibrationConfig(pipe_base.PipelineTaskConfig, pipelineConnections=CalibrationConnections):
    """Configuration of `CalibrationTask`."""

    minimum = pex_config.Field[int](doc="Fewest frames of each kind.", default=3)


class CalibrationTask(pipe_base.PipelineTask):
    """Build the calibration of one detector."""

    ConfigClass: ClassVar[type] = CalibrationConfig
    config: CalibrationConfig
    _DefaultName: ClassVar[str] = "calibration"

    def run(self, raws: list[Any], electronics: dict[str, Any]) -> pipe_base.Struct:
        """Sort the frames by kind and build the calibration.

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            If a kind has too few frames.
        """
        frames: dict[str, list[Any]] = {"BIAS": [], "DARK": [], "FLAT": []}
        layout: Any = None
        dark_time = 0.0
        with tempfile.TemporaryDirectory(prefix="frames-") as folder:
            for number, handle in enumerate(raws):
                raw = handle.get()
                kind = str(raw.header["IMGTYPE"])
                if kind in frames:
                    # Pixels wait on the disk: a stack does not have to fit in memory.
                    path = Path(folder) / f"{number}.npy"
                    np.save(path, raw.pixels)
                    frames[kind].append(np.load(path, mmap_mode="r"))
                    layout = raw.layout
                if kind == "DARK":
                    dark_time = float(raw.header["EXPTIME"])
            for kind, found in frames.items():
                if len(found) < self.config.minimum:
                    raise pipe_base.NoWorkFound(f"{len(found)} {kind} frames, expected at least {self.config.minimum}")
            built = calibration.build_calibration(
                frames["BIAS"], frames["DARK"], frames["FLAT"], layout, dark_time,
                linearity=electronics["linearity"], crosstalk=electronics["crosstalk"],
            )  # fmt: skip
        return pipe_base.Struct(calibration=built)


class ScienceConnections(pipe_base.PipelineTaskConnections, dimensions=("instrument", "visit", "detector")):
    """A raw and its calibration in, the calibrated exposure out."""

    raws = connectionTypes.Input(
        doc="The visit's raw exposure.", name="raw", storageClass="RawExposure",
        dimensions=("instrument", "exposure", "detector"), multiple=True,
    )  # fmt: skip
    calibration = connectionTypes.PrerequisiteInput(
        doc="Calibration of the detector.", name="calibration", storageClass="PixelCalibration",
        dimensions=("instrument", "detector"), isCalibration=True,
    )  # fmt: skip
    reference = connectionTypes.PrerequisiteInput(
        doc="Known stars of the field.", name="reference", storageClass="ArrowNumpy", dimensions=("skymap", "tract"), lookupFunction=find_reference,
    )  # fmt: skip
    science = connectionTypes.Output(
        doc="Calibrated, background-subtracted exposure.", name="science", storageClass="PixelScience",
        dimensions=("instrument", "visit", "detector"),
    )  # fmt: skip


class ScienceConfig(pipe_base.PipelineTaskConfig, pipelineConnections=ScienceConnections):
    """Configuration of `ScienceTask`."""


class ScienceTask(pipe_base.PipelineTask):
    """Calibrate one detector of one visit."""

    ConfigClass: ClassVar[type] = ScienceConfig
    _DefaultName: ClassVar[str] = "science"

    def run(self, raws: list[Any], calibration: Any, reference: Any) -> pipe_base.Struct:
        """Remove the instrument's signature and the background, measure the PSF, solve position and flux scale."""
        raw = raws[0]
        wcs, time = Wcs.from_header(raw.header), float(raw.header["EXPTIME"])
        result = chain.process_science(raw.pixels, raw.layout, calibration, wcs, time, reference=reference)
        if not np.isfinite(result.nanojansky_per_electron):
            raise pipe_base.AnnotatedPartialOutputsError(
                f"{raw.header['OBSID']}: no flux scale from {len(reference)} reference stars"
            )
        return pipe_base.Struct(science=result)


class TemplateConnections(pipe_base.PipelineTaskConnections, dimensions=("skymap", "tract", "patch", "band")):
    """All calibrated exposures of a patch in, its template out."""

    science = connectionTypes.Input(
        doc="Calibrated exposures.", name="science", storageClass="PixelScience",
        dimensions=("instrument", "visit", "detector"), multiple=True,
    )  # fmt: skip
    template = connectionTypes.Output(
        doc="Deep image of the static sky.", name="template", storageClass="PixelTemplate",
        dimensions=("skymap", "tract", "patch", "band"),
    )  # fmt: skip


class TemplateConfig(pipe_base.PipelineTaskConfig, pipelineConnections=TemplateConnections):
    """Configuration of `TemplateTask`."""

    minimum = pex_config.Field[int](doc="Fewest exposures.", default=2)


class TemplateTask(pipe_base.PipelineTask):
    """Build the template of one patch."""

    ConfigClass: ClassVar[type] = TemplateConfig
    config: TemplateConfig
    _DefaultName: ClassVar[str] = "template"

    def run(self, science: list[Any]) -> pipe_base.Struct:
        """Register and stack the exposures on the grid of the first."""
        if len(science) < self.config.minimum:
            raise pipe_base.NoWorkFound(f"{len(science)} exposures, expected at least {self.config.minimum}")
        return pipe_base.Struct(template=coadd.build_template(science, science[0].wcs))
