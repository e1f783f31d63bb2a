"""The pipeline task of the night; the warm workers call its `run`, stock `pipetask` runs it on the same repository."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, ClassVar

import lsst.pex.config as pex_config
import lsst.pipe.base as pipe_base
from lsst.daf.butler import DataCoordinate, DatasetRef, DatasetType, Registry
from lsst.pipe.base import connectionTypes

from workloads.common.errors import NonRetriableError, WorkloadError
from workloads.data_backbone.instrument import field_of_visit
from workloads.pixels import chain
from workloads.pixels.errors import InvalidValueError, PixelError
from workloads.pixels.wcs import Wcs

LOG = logging.getLogger(__name__)


def find_template(
    dataset_type: DatasetType, registry: Registry, data_id: DataCoordinate, collections: Iterable[str]
) -> list[DatasetRef]:
    """Return the template of a visit's detector: the patch of its field that is numbered like the detector."""
    field = field_of_visit(registry, data_id)
    if field is None:
        return []
    where = {"skymap": field.skymap, "tract": field.number, "patch": data_id["detector"], "band": data_id["band"]}
    found = registry.findDataset(dataset_type, where, collections=collections)
    return [found] if found else []


class DifferenceConnections(pipe_base.PipelineTaskConnections, dimensions=("instrument", "visit", "detector")):
    """A raw, its calibration and the template in; sources of the difference out."""

    raws = connectionTypes.Input(
        doc="The visit's raw exposure.", name="raw", storageClass="RawExposure",
        dimensions=("instrument", "exposure", "detector"), multiple=True,
    )  # fmt: skip
    calibration = connectionTypes.PrerequisiteInput(
        doc="Calibration of the detector.", name="calibration", storageClass="PixelCalibration",
        dimensions=("instrument", "detector"), isCalibration=True,
    )  # fmt: skip
    template = connectionTypes.PrerequisiteInput(
        doc="Deep image of the static sky.", name="template", storageClass="PixelTemplate",
        dimensions=("skymap", "tract", "patch", "band"), lookupFunction=find_template,
    )  # fmt: skip
    difference_image = connectionTypes.Output(
        doc="Science minus template.", name="difference_image", storageClass="PixelImage", dimensions=("instrument", "visit", "detector"),
    )  # fmt: skip
    dia_source = connectionTypes.Output(
        doc="Sources detected on the difference.", name="dia_source", storageClass="ArrowNumpy", dimensions=("instrument", "visit", "detector"),
    )  # fmt: skip
    quality = connectionTypes.Output(
        doc="Figures of the processing.", name="prompt_quality", storageClass="StructuredDataDict", dimensions=("instrument", "visit", "detector"),
    )  # fmt: skip


class DifferenceConfig(pipe_base.PipelineTaskConfig, pipelineConnections=DifferenceConnections):
    """Configuration of `DifferenceTask`."""

    threads = pex_config.Field[int](
        doc="Cores for one detector; workers share a machine, so one is the default.", default=1
    )


class DifferenceTask(pipe_base.PipelineTask):
    """Find what changed on one detector of one visit."""

    ConfigClass: ClassVar[type] = DifferenceConfig
    config: DifferenceConfig
    _DefaultName: ClassVar[str] = "difference"

    def run(self, raws: list[Any], calibration: Any, template: Any) -> pipe_base.Struct:
        """Calibrate, subtract the template, detect and measure.

        Returns
        -------
        lsst.pipe.base.Struct
            The three outputs and ``result``, all of what the chain found.

        Raises
        ------
        NonRetriableError
            If the pixels cannot be processed; the same pixels never can.
        """
        raw = raws[0]
        name = f"{raw.header.get('OBSID')}_{raw.layout.name}"
        try:
            result = chain.process_difference(
                raw.pixels,
                raw.layout,
                calibration,
                template,
                wcs=Wcs.from_header(raw.header),
                exposure_time=_seconds(raw.header),
                threads=self.config.threads,
            )
        except (MemoryError, WorkloadError):
            raise
        except PixelError as error:
            raise NonRetriableError(f"{name}: {error}") from error
        except Exception as error:
            # What these pixels do to an algorithm, they do each time; the next exposure has other pixels.
            LOG.exception("%s cannot be processed", name)
            raise NonRetriableError(f"{name}: {type(error).__name__} in the pixel core: {error}") from error
        quality = {name: float(value) for name, value in result.quality.items()}
        return pipe_base.Struct(
            difference_image=result.difference, dia_source=result.sources, quality=quality, result=result
        )


def _seconds(header: Any) -> float:
    """Return the exposure time of a header."""
    found = header.get("EXPTIME")
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise InvalidValueError("EXPTIME", repr(found), "seconds")
    return float(found)
