"""Figures that follow from the camera: how much of what an environment must declare, with formula, units and where it is from.

They stand here and nowhere else. Inventories and figures of clusters declare values of their own, which may be larger; what is
smaller is refused. `tests/bench/model.py` puts what was measured beside them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from dpp.model.declared import Declared
from dpp.model.problems import Finding
from dpp.model.sources import Place, Sources

GIB: Final = 1 << 30
RAW_BYTES_OF_A_PIXEL: Final = 1.2
"""Of a compressed raw file: 20 MB for 4096 x 4096 pixels of 16 bits, on the safe side of what `python -m tests.bench ingest` finds."""
CORNER_SHARE: Final = (8 + 8 / 2) / 189
"""Sensors beyond the science detectors, by these: eight guiders, and eight wavefront halves of half a sensor each."""
FILES_SHARE: Final = (189 + 8 + 8) / 189
"""Files of a visit by its science detectors."""
JOURNAL_HOURS: Final = 1.0
"""That the summit's store may be away while the archiver's journal takes all that is read out (runbook of main-camera-archiving)."""
JOURNAL_KEEPS_GIB: Final = 1
"""Of what is stored, kept as second copies (`workloads.archiver.journal.Journal`)."""
PUT_SECONDS: Final = 0.2
"""Of one object, durable in the summit's store and its digest read back."""
PUTS_WITHIN_SECONDS: Final = 2.0
"""All puts of a visit: their part of the 30 s from shutter to consumer (docs/developers/full-size.md)."""
WORKER_CONNECTIONS: Final = 3
"""Of a prompt worker to PostgreSQL at most: Butler, alert database, last versions."""
OTHER_CONNECTIONS: Final = 60
"""Of everybody else to PostgreSQL: Data Backbone, visit ledger, batch work, people, and what the server keeps for its owner."""
JOURNAL, PUTS, CONNECTIONS = "archiver-journal", "parallel_puts", "max_connections"
_SETTINGS = ("postgresql", "postgresql_settings")


class Least(NamedTuple):
    """The least that a figure must be, and why."""

    value: int
    why: str


def visit_bytes(environment: Declared) -> float:
    """Return the bytes of a visit's raw files."""
    camera = environment.camera
    sensors = len(camera.detectors) * (1 + CORNER_SHARE)
    return sensors * camera.detector_pixels**2 * RAW_BYTES_OF_A_PIXEL


def journal_gib(environment: Declared) -> Least:
    """Return the size of the archiver's journal: what is read out while the store is away, and second copies."""
    visits = 3600 * JOURNAL_HOURS / environment.camera.visit_seconds
    whole = visit_bytes(environment)
    why = (
        f"{JOURNAL_HOURS:g} h without the store x a visit each {environment.camera.visit_seconds:g} s x "
        f"{whole / 1e9:.3g} GB, and {JOURNAL_KEEPS_GIB} GiB of second copies"
    )
    return Least(math.ceil(visits * whole / GIB + JOURNAL_KEEPS_GIB), why)


def parallel_puts(environment: Declared) -> Least:
    """Return how many detectors the archiver must put at once: each file has a sidecar."""
    objects = 2 * math.ceil(len(environment.camera.detectors) * FILES_SHARE)
    why = f"{objects} objects of a visit x {PUT_SECONDS:g} s within {PUTS_WITHIN_SECONDS:g} s"
    return Least(math.ceil(round(objects * PUT_SECONDS / PUTS_WITHIN_SECONDS, 6)), why)


def connections(environment: Declared) -> Least:
    """Return how many connections PostgreSQL must allow: those of all workers that the pools hold, and everybody else's."""
    camera = environment.camera
    deployed = len(camera.detectors) * camera.visits_in_flight + camera.spare_workers
    workers = environment.prompt_capacity() or deployed
    why = f"{workers} prompt workers x {WORKER_CONNECTIONS}, and {OTHER_CONNECTIONS} of everybody else"
    return Least(workers * WORKER_CONNECTIONS + OTHER_CONNECTIONS, why)


# -- what is declared --------------------------------------------------------------------------------------------------


def findings(environment: Declared, origin: Sources) -> Iterator[Finding]:
    """Yield figures that are smaller than the camera needs."""
    if JOURNAL in environment.volumes:
        declared = environment.volumes[JOURNAL].gib
        yield from _small(("dpp_volumes", JOURNAL, "gib"), declared, "GiB", journal_gib(environment))
        yield from _puts(environment, origin)
    for variable in origin.variables:
        if (variable.scope, variable.name) == _SETTINGS and isinstance(variable.value, dict):
            allowed = variable.value.get(CONNECTIONS)
            yield from _small((*_SETTINGS, CONNECTIONS), allowed, "connections", connections(environment))


def _puts(environment: Declared, origin: Sources) -> Iterator[Finding]:
    """Yield what is wrong with the archiver's configuration: that of the environment's cluster or, without one, the common one."""
    own = sorted((origin.root / "k8s/clusters" / environment.name).glob("*/figures.yaml"))
    for path in (*own, origin.root / "k8s/archiver/job.yaml"):
        configuration = archiver_configuration(path)
        if configuration is not None:
            keys = ("archiver", PUTS)
            origin.places[keys] = Place(origin.relative(path), _line(path, PUTS))
            yield from _small(keys, configuration.get(PUTS), "at once", parallel_puts(environment))
            return


def archiver_configuration(path: Path) -> dict[str, Any] | None:
    """Return the archiver's configuration in a file of manifests; None if there is none in it."""
    import yaml  # noqa: PLC0415

    for manifest in yaml.load_all(path.read_text(), yaml.CSafeLoader) if path.is_file() else ():
        if manifest and manifest["kind"] == "ConfigMap" and manifest["metadata"]["name"] == "archiver":
            content = yaml.load(manifest["data"]["_init.yaml"], yaml.CSafeLoader)
            return content if isinstance(content, dict) else {}
    return None


def _line(path: Path, word: str) -> int | None:
    numbered = enumerate(path.read_text().splitlines(), 1)
    return next((number for number, line in numbered if line.strip().startswith(f"{word}:")), None)


def _small(keys: tuple[str, ...], declared: Any, unit: str, least: Least) -> Iterator[Finding]:
    expected = f"at least {least.value} {unit}: {least.why}"
    if not isinstance(declared, int):
        yield Finding(keys, "nothing" if declared is None else repr(declared), expected, "declare it")
    elif declared < least.value:
        yield Finding(keys, f"{declared} {unit}", expected, "raise it, or correct what it follows from")
