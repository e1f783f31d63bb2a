"""The archive's Butler: made once, opened by all, written by few."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from lsst.daf.butler import Butler, CollectionType, Config, DatasetType

from workloads.common.names import INSTRUMENT
from workloads.common.settings import Settings
from workloads.data_backbone.fields import field_records
from workloads.data_backbone.instrument import LabCam

LOG = logging.getLogger(__name__)
ROOT = "s3://butler/repo/"
_LOCK = 20260101
"""Key of the advisory lock under which the repository is made."""
RAW_RUN = f"{INSTRUMENT}/raw/all"
PROMPT_RUN = f"{INSTRUMENT}/prompt"

_ARCHIVE = "workloads.data_backbone.formatters.ArchiveFormatter"
_STORAGE_CLASSES = {
    "RawExposure": ("workloads.data_backbone.types.RawExposure", "workloads.data_backbone.formatters.RawFormatter"),
    "PixelCalibration": ("workloads.pixels.isr.Calibration", _ARCHIVE),
    "PixelImage": ("workloads.pixels.images.Image", _ARCHIVE),
    "PixelScience": ("workloads.pixels.chain.ScienceResult", _ARCHIVE),
    "PixelTemplate": ("workloads.pixels.coadd.Template", _ARCHIVE),
}

_VISIT = ("instrument", "visit", "detector")
_PATCH = ("skymap", "tract", "patch", "band")
DATASETS: dict[str, tuple[tuple[str, ...], str, bool]] = {
    "raw": (("instrument", "exposure", "detector"), "RawExposure", False),
    "calibration": (("instrument", "detector"), "PixelCalibration", True),
    "electronics": (("instrument", "detector"), "StructuredDataDict", False),
    "reference": (("skymap", "tract"), "ArrowNumpy", False),
    "science": (_VISIT, "PixelScience", False),
    "template": (_PATCH, "PixelTemplate", False),
    "difference_image": (_VISIT, "PixelImage", False),
    "dia_source": (_VISIT, "ArrowNumpy", False),
    "prompt_quality": (_VISIT, "StructuredDataDict", False),
}
"""Dataset types: dimensions, storage class, and whether they are calibrations with a validity."""


@dataclass(frozen=True)
class Products:
    """Collections of what is prepared before a night.

    Parameters
    ----------
    sky
        Name of a replayed sky, which has its own; empty for this camera's simulated fields.
    """

    sky: str = ""

    @property
    def calibrations(self) -> str:
        """Where calibration RUNs are."""
        return f"{self._root}/calib"

    @property
    def latest(self) -> str:
        """The chain that ends in the newest calibrations, to find them without a date."""
        return f"{self._root}/calib/latest"

    @property
    def valid(self) -> str:
        """The chain of certified calibrations, to find them by date."""
        return f"{self._root}/calib/valid"

    @property
    def templates(self) -> str:
        """The chain of the newest templates."""
        return f"{self._root}/templates"

    @property
    def chains(self) -> tuple[str, ...]:
        """All chains."""
        return self.templates, self.latest, self.valid

    @property
    def _root(self) -> str:
        return f"{INSTRUMENT}/{self.sky}" if self.sky else INSTRUMENT


def repository_config(database_url: str = "") -> Config:
    """Return what differs from the stock configuration: storage classes that need no C++, and the database if given."""
    return Config(
        {
            **({"registry": {"db": database_url}} if database_url else {}),
            "storageClasses": {name: {"pytype": pytype} for name, (pytype, _) in _STORAGE_CLASSES.items()},
            "datastore": {
                "formatters": {name: formatter for name, (_, formatter) in _STORAGE_CLASSES.items()},
                # Readers keep what they need in memory. Without a cache, bytes go to the store in one request: no
                # file is written first, and no upload in parts can be left half done.
                "cached": {"expiry": {"mode": "disabled", "threshold": 0}},
            },
        }
    )


def ensure_repository(settings: Settings, root: str = ROOT) -> Butler:
    """Make the archive's repository if it was never made, register what it keeps, and open it for writing.

    The first to come does so, under a lock that the others wait for; what was cut short is made again.

    Raises
    ------
    FileNotFoundError
        If the repository was made and its ``butler.yaml`` is not at `root`; nothing is made anew beside it.
    """
    _enter(settings)
    url = settings.database_url("butler")
    # Without transactions, the session holds nothing but the lock, as long as it lasts.
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({_LOCK})"))
        if not _is_made(connection):
            LOG.info("making the repository %s", root)
            _drop_what_was_cut_short(engine)
            Butler.makeRepo(root, config=repository_config(url), overwrite=True)
        butler = Butler.from_config(root, writeable=True)
        prepare(butler, settings)
        for collection in (RAW_RUN, PROMPT_RUN):
            butler.collections.register(collection, CollectionType.RUN)
        for chain in Products().chains:
            butler.collections.register(chain, CollectionType.CHAINED)
    engine.dispose()
    return butler


def _is_made(connection: sqlalchemy.Connection) -> bool:
    """Tell whether a registry was made to its end: its dimensions are written last, after all of its tables."""
    if connection.execute(sqlalchemy.text("SELECT to_regclass('butler_attributes')")).scalar() is None:
        return False
    last = sqlalchemy.text("SELECT count(*) FROM butler_attributes WHERE name = 'config:dimensions.json'")
    return connection.execute(last).scalar() == 1


def _drop_what_was_cut_short(engine: sqlalchemy.Engine) -> None:
    """Drop tables that nobody can have written to: a Butler opens no registry without its dimensions."""
    tables = sqlalchemy.MetaData()
    tables.reflect(engine)
    tables.drop_all(engine)


def _enter(settings: Settings) -> None:
    """Refuse who has no contract to use the repository, and let its libraries know who asks."""
    settings.database("butler")
    settings.require_bucket("butler", settings.site.site)
    settings.export_credentials()


def prepare(butler: Butler, settings: Settings) -> None:
    """Register the instrument, the fields and the dataset types; what is there already is right."""
    camera = settings.site.camera
    LabCam().register_detectors(butler.registry, camera.detectors)
    register_places(butler, field_records(camera.detectors, camera.size))
    for name, (dimensions, storage_class, is_calibration) in DATASETS.items():
        kind = DatasetType(name, dimensions, storage_class, universe=butler.dimensions, isCalibration=is_calibration)
        butler.registry.registerDatasetType(kind)


def register_places(butler: Butler, records: dict[str, list[dict[str, Any]]]) -> None:
    """Write the records of a sky map, its tracts and patches; what is there already is right."""
    for element, rows in records.items():
        butler.registry.insertDimensionData(element, *rows, skip_existing=True)


def open_repository(settings: Settings, *collections: str, root: str = ROOT, **options: Any) -> Butler:
    """Open the repository to read from `collections`."""
    _enter(settings)
    return Butler.from_config(root, collections=list(collections) or None, instrument=INSTRUMENT, **options)
