"""Ingest: verify each file, write what is good into the Butler in one batch, put aside what is bad, and say so."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from astropy.io.fits import Header
from lsst.daf.butler import Butler, DataCoordinate, DatasetIdGenEnum, DatasetRef, FileDataset
from prometheus_client import Counter, Histogram

from workloads.common.errors import AwayError, NonRetriableError, WorkloadError
from workloads.common.names import INSTRUMENT
from workloads.common.peers import asking
from workloads.common.raw import check_raw
from workloads.common.s3 import MissingObjectError, Store
from workloads.common.times import iso, tai_now
from workloads.data_backbone.arrivals import Arrival
from workloads.data_backbone.formatters import RawFormatter
from workloads.data_backbone.instrument import (
    check_header,
    defines_visit,
    exposure_records,
    group_of,
    visit_records,
)
from workloads.data_backbone.repository import RAW_RUN

LOG = logging.getLogger(__name__)
BUCKET = "raw"
INGESTED = Counter("backbone_ingested", "Raw files in the Butler")
QUARANTINED = Counter("backbone_quarantined", "Raw files put aside")
SECONDS = Histogram("backbone_ingest_seconds", "Seconds of one batch")


@dataclass(frozen=True)
class Verified:
    """A raw file whose digest, checksums and header are right."""

    arrival: Arrival
    header: Header
    sha256: str
    size: int
    arrived: float
    verified: float

    def message(self, detector: int) -> dict[str, Any]:
        """Return the record for the topic of ingested files."""
        exposure = self.arrival.name.exposure
        return {
            "obsId": exposure.obs_id, "exposure": exposure.exposure_id, "detector": detector, "detectorName": self.arrival.name.detector,
            "groupId": group_of(self.header), "uri": f"s3://{BUCKET}/{self.arrival.key}", "sha256": self.sha256, "size": self.size,
            "endOfReadout": float(self.header.get("ENDREAD", 0.0)), "ingested": tai_now(),
        }  # fmt: skip


@dataclass(frozen=True)
class Bad:
    """A raw file that cannot be used, and why; `sha256` is the digest of what was put aside, empty if nothing was."""

    arrival: Arrival
    reason: str
    sha256: str = ""

    def message(self, site: str) -> dict[str, Any]:
        """Return the record for the topic of bad replicas: a good one is asked for."""
        name = self.arrival.name
        return {
            "obsId": name.exposure.obs_id, "detector": name.detector, "key": self.arrival.key, "site": site,
            "sha256": self.sha256, "reason": self.reason, "time": tai_now(),
        }  # fmt: skip


class Writer:
    """Writes raw files into the Butler. Files are verified by threads of its own, beside what is written.

    Parameters
    ----------
    butler
        The repository, writeable.
    store
        The store that the files stand in.
    """

    def __init__(self, butler: Butler, store: Store) -> None:
        self._butler, self._store = butler, store
        self._reading = butler.clone()
        self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "verify")
        self._type = butler.get_dataset_type("raw")
        self._exposures: set[int] = set()
        self._visits: set[int] = set()

    def known(self, day: int) -> set[tuple[int, int]]:
        """Return exposure and detector of all raws of an observing day in the repository; another thread may ask."""
        with asking("registry"), self._reading.query() as query:
            raws = query.where(instrument=INSTRUMENT, day_obs=day).join_dataset_search("raw", RAW_RUN)
            return {(int(one["exposure"]), int(one["detector"])) for one in raws.data_ids(("exposure", "detector"))}

    def verify(self, arrivals: Iterable[Arrival]) -> list[Future[Verified | Bad]]:
        """Begin to verify files, as many at once as there are cores; the results come in their order."""
        return [self._pool.submit(self._verify, arrival) for arrival in arrivals]

    def write(self, arrivals: list[Arrival]) -> tuple[list[Verified], list[Bad]]:
        """Verify and ingest; see `ingest`."""
        different = {arrival.key: arrival for arrival in arrivals}
        return self.ingest([future.result() for future in self.verify(different.values())])

    def ingest(self, results: Sequence[Verified | Bad]) -> tuple[list[Verified], list[Bad]]:
        """Ingest what is good and put the rest aside; what is there already is a success.

        Raises
        ------
        RetriableError
            If the store cannot answer, `AwayError` if it or the registry is away; nothing is put aside for that.
        """
        begun = time.monotonic()
        good = [result for result in results if isinstance(result, Verified)]
        bad = [result for result in results if isinstance(result, Bad)]
        try:
            self._ingest(good)
        except AwayError:
            raise
        except Exception as error:  # noqa: BLE001 - one bad file must not keep the others out
            LOG.warning("batch of %d not ingested (%s); one by one", len(good), error)
            good, refused = self._one_by_one(good)
            bad += refused
        bad = [replace(item, sha256=self._quarantine(item)) for item in bad]
        INGESTED.inc(len(good))
        SECONDS.observe(time.monotonic() - begun)
        return good, bad

    def _verify(self, arrival: Arrival) -> Verified | Bad:
        arrived = tai_now()
        try:
            data, digest = self._store.read(BUCKET, arrival.key)
            header = check_raw(data, arrival.key)
            check_header(header, arrival.name)
        except MissingObjectError:
            return Bad(arrival, "announced by a notification, but not in the store")
        except NonRetriableError as error:
            return Bad(arrival, str(error))
        return Verified(arrival, header, digest, len(data), arrived, tai_now())

    def _one_by_one(self, files: list[Verified]) -> tuple[list[Verified], list[Bad]]:
        good, bad = [], []
        for file in files:
            try:
                self._ingest([file])
            except AwayError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is put aside with that reason
                bad.append(Bad(file.arrival, f"not ingested: {type(error).__name__}: {error}"))
            else:
                good.append(file)
        return good, bad

    def _ingest(self, files: list[Verified]) -> None:
        if files:
            with asking("registry"):
                self._insert_dimensions(files)
                self._insert_datasets(files)

    def _insert_datasets(self, files: list[Verified]) -> None:
        datasets = []
        for file in files:
            data_id = DataCoordinate.standardize(
                instrument="LSSTCam",
                exposure=int(file.header["EXPID"]),
                detector=int(file.header["DETNUM"]),
                dimensions=self._type.dimensions,
            )
            ref = DatasetRef(self._type, data_id, RAW_RUN, id_generation_mode=DatasetIdGenEnum.DATAID_TYPE_RUN)
            datasets.append(FileDataset(f"s3://{BUCKET}/{file.arrival.key}", [ref], formatter=RawFormatter))
        self._butler.ingest(*datasets, transfer="direct", skip_existing=True, record_validation_info=False)

    def _insert_dimensions(self, files: list[Verified]) -> None:
        regions = []
        for file in files:
            number = int(file.header["EXPID"])
            if number not in self._exposures:
                self._insert(exposure_records(file.header))
                self._exposures.add(number)
            if defines_visit(file.header):
                records = visit_records(file.header)
                regions.append(records.pop("visit_detector_region"))
                if number not in self._visits:
                    self._insert(records)
                    self._visits.add(number)
        if regions:
            self._butler.registry.insertDimensionData("visit_detector_region", *regions, skip_existing=True)

    def _insert(self, records: dict[str, dict[str, Any]]) -> None:
        for element, record in records.items():
            self._butler.registry.insertDimensionData(element, record, skip_existing=True)

    def _quarantine(self, bad: Bad) -> str:
        """Move a bad file out of the way, with its reason beside it; a later good copy is welcome under its name.

        Return the digest of what was moved, empty if nothing was.
        """
        QUARANTINED.inc()
        LOG.error("quarantined %s: %s", bad.arrival.key, bad.reason)
        target = f"quarantine/{bad.arrival.key}"
        report = {"key": bad.arrival.key, "reason": bad.reason, "time": iso(tai_now()), "noticed": bad.arrival.noticed}
        try:
            self._store.put(BUCKET, f"{target}.reason.json", json.dumps(report, indent=1).encode())
            return self._store.move_unchecked(BUCKET, bad.arrival.key, target)
        except MissingObjectError:
            return ""
        except WorkloadError as error:
            LOG.warning("%s: left in its place: %s", bad.arrival.key, error)
            return ""
