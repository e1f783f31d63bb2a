"""Ingest alone: a visit of the whole camera from the store into a registry that has ten million raws."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lsst.daf.butler import Butler, CollectionType

from workloads.common.names import ExposureName, RawName
from workloads.common.raw import check_raw, decode_raw
from workloads.common.s3 import Store
from workloads.common.settings import Camera
from workloads.data_backbone import backbone
from workloads.data_backbone.arrivals import Arrival
from workloads.data_backbone.repository import RAW_RUN, prepare, repository_config
from workloads.data_backbone.writer import BUCKET, Writer

from . import servers
from .camera_files import DAY, FILES, SCIENCE, FocalPlane
from .harness import Footprint, Values, Verdict, against, compare, skipped
from .registry import multiply

VISIT_SECONDS, DAY_SECONDS = 5.0, 60.0
"""Of a visit's files from the store to the registry; of asking which raws of a day there are, which a sweep waits for."""
_SEEDS = 4


class Archive:
    """A repository on PostgreSQL whose files stand in an object store.

    Parameters
    ----------
    folder, url, settings
        Where its configuration is, its database, and the store's.
    plane
        The camera.
    """

    def __init__(self, folder: Path, url: str, settings: Any, plane: FocalPlane) -> None:
        self.plane, self._store = plane, Store(settings, "ncsa", BUCKET)
        settings.export_credentials()
        camera = Camera(size=plane.size, detectors=plane.science)
        Butler.makeRepo(str(folder / "repository"), config=repository_config(url))
        self._butler = Butler.from_config(str(folder / "repository"), writeable=True)
        prepare(self._butler, SimpleNamespace(site=SimpleNamespace(camera=camera)))  # type: ignore[arg-type]
        self._butler.collections.register(RAW_RUN, CollectionType.RUN)
        self.writer = Writer(self._butler, self._store)

    def stand(self, visit: int, detectors: int) -> list[Arrival]:
        """Put the files of a visit into the store and return their arrivals."""
        name = ExposureName(DAY, visit, "O")
        found = []
        for one in self.plane.science[:detectors]:
            raw = RawName(name, one.name)
            self._store.put(BUCKET, raw.key, self.plane.file(visit, one))
            found.append(Arrival(raw, 1.8e9, "notification"))
        return found

    def take(self, arrivals: list[Arrival]) -> tuple[float, float]:
        """Take a visit in as the service does, some files at a time; return the seconds to the first and to the last of them."""
        moments = Values()
        slices = [arrivals[at : at + backbone._TOGETHER] for at in range(0, len(arrivals), backbone._TOGETHER)]
        verified = [self.writer.verify(part) for part in slices]
        for files in verified:
            with moments:
                good, bad = self.writer.ingest([file.result() for file in files])
            assert not bad, bad[0].reason
            assert len(good) == len(files)
        return moments.values[0], sum(moments.values)


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Measure visits against a registry of full size; database and store on the same disk and cores."""
    if lacks := servers.missing("postgresql", "versitygw"):
        return skipped("ingest", lacks)
    plane, copies, visits = (FocalPlane(256, 9), 20, 2) if quick else (FocalPlane(), 10_000_000 // SCIENCE // _SEEDS, 4)
    with servers.scratch() as folder, servers.postgresql(folder) as url, servers.stores(folder, "ncsa") as settings:
        archive = Archive(folder, url, settings, plane)
        for visit in range(1, _SEEDS + 1):
            archive.take(archive.stand(visit, plane.detectors))
        raws = multiply(url, copies, _SEEDS)
        first, last, footprint = Values(), Values(), Footprint()
        for visit in range(_SEEDS + 1, _SEEDS + 1 + visits):
            for values, seconds in zip((first, last), archive.take(archive.stand(visit, plane.detectors)), strict=True):
                values.values.append(seconds)
        asked = Values()
        with asked:
            day = len(archive.writer.known(20200102))
        verified = _verification(archive, quick=quick)
        notes = {"raws": raws, "ingested": plane.detectors, "files": FILES, "size": plane.size, "threads": threads}
    return [
        against("ingest", "a visit in the registry, s", last, VISIT_SECONDS, **notes, **footprint.notes()),
        against("ingest", "the first 32 in the registry, s", first, VISIT_SECONDS / 5, **notes),
        against("ingest", "raws of a day asked for, s", asked, DAY_SECONDS, of_day=day),
        *verified,
    ]


def _verification(archive: Archive, *, quick: bool) -> list[Verdict]:
    """Compare the verification of a file with decoding it, and measure it."""
    (one, *_), taken = archive.plane.science, Values()
    data = archive.plane.file(1, one)

    def equal(a: Any, b: Any) -> dict[str, Any]:
        assert repr(a) == repr(b), "headers differ"
        return {"MB": round(len(data) / 1e6, 2)}

    ratio = compare("ingest", "decoding a file", lambda: check_raw(data), lambda: decode_raw(data)[2], 1.0 if quick else 3.0, equal=equal, pairs=5)  # fmt: skip
    (arrival,) = archive.stand(1, 1)
    for _ in range(5):
        with taken:
            archive.writer._verify(arrival)
    return [
        ratio,
        against("ingest", "verification of a file, s", taken, VISIT_SECONDS * 4 / SCIENCE, file_bytes=len(data)),
    ]
