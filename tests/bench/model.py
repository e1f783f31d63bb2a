"""From shutter to consumer at full size, on paper: measured stages, assumptions beside them, and what production needs for it.

``python -m tests.bench.model`` prints what docs/developers/full-size.md holds between its marks; ``--write`` puts it there.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dpp.model import capacity
from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY

from . import results
from .camera_files import FILES, GUIDERS, SCIENCE, WAVEFRONT

PAGE = REPOSITORY / "docs/developers/full-size.md"
BEGIN, END = "<!-- begin: python -m tests.bench.model -->", "<!-- end -->"
MEDIAN_SECONDS, MOST_SECONDS = 30.0, 60.0
VISITS, ALERTS_A_NIGHT, ALERTS_A_VISIT, MOST_ALERTS_A_VISIT, BUFFER_NIGHTS = 1000, 10_000_000, 10_000, 40_000, 10
KEYS = 2 * FILES + 1
"""Objects of a visit: each file with its sidecar, and the list of sensors."""


@dataclass(frozen=True)
class Assumption:
    """What is taken to be so and was not measured here."""

    value: float
    unit: str
    what: str


ASSUMED = {
    "readout": Assumption(2.0, "s", "the camera reads out in two seconds; LSE-61 counts from then on"),
    "camera_gbps": Assumption(100.0, "Gbit/s", "the way from the camera's memory to the archiver"),
    "archiver_cores": Assumption(16.0, "cores", "of the archiver's pod (k8s/clusters/production/summit/figures.yaml); its work divides among them, `detector` of pixel-benchmarks.md by 1.8 to 1.9 for two"),
    "event": Assumption(0.25, "s", "an event through Kafka to who waits for it, his turn of 0.2 s included"),
    "prompt_share": Assumption(0.5, "", "of a circuit that the class of prompt images has when all classes are full"),
    "alert_bytes": Assumption(82_000.0, "bytes", "of an alert with a year of history (PyPI, `lass`)"),
    "commit": Assumption(0.05, "s", "a Kafka transaction over three brokers with 45 partitions in it"),
    "crowded": Assumption(1.5, "", "how much longer a crowded field takes in the pixel core: the 98 % column"),
    "put": Assumption(capacity.PUT_SECONDS, "s", "the packets of a detector, 4 to 16 MB, durable in the archive's store"),
    "stream_gbps": Assumption(10.0, "Gbit/s", "the way of one of the five full streams to its consumer"),
    "missed": Assumption(10.0, "s", "until a lost worker's slot is another's (docs/decisions/0011-leased-slots.md)"),
    "journal_hours": Assumption(capacity.JOURNAL_HOURS, "h", "that the summit's store may be away while the archiver's journal takes what is read out"),
    "consumers": Assumption(20e6, "bytes/s", "that a consumer handles of one partition"),
    "connections": Assumption(capacity.WORKER_CONNECTIONS, "", "connections of a worker to PostgreSQL at most: Butler, alert database, last versions"),
    "others": Assumption(capacity.OTHER_CONNECTIONS, "", "connections of everybody else"),
}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """A stage's seconds for the last file of a visit: usually, and in 98 of 100 cases."""

    name: str
    median: float
    most: float
    how: str


@dataclass(frozen=True)
class Need:
    """A figure of production that follows from the model, beside the declared one."""

    name: str
    needed: float
    declared: float
    how: str

    @property
    def met(self) -> bool:
        """Whether what is declared is enough."""
        return self.declared >= self.needed


class Model:
    """The sum, and what it needs.

    Parameters
    ----------
    found
        What benches have found, see `results.read`.
    production
        The environment that is to bear it.
    """

    def __init__(self, found: dict[str, Any], production: Environment) -> None:
        self._found, self._production = found, production

    # -- what was measured ---------------------------------------------------------------------------------------------

    def _figure(self, bench: str, what: str) -> dict[str, Any]:
        try:
            figure: dict[str, Any] = self._found[bench]["figures"][what]
        except KeyError:
            raise SystemExit(f"{bench}, {what}: not measured; run `python -m tests.bench {bench} --record`") from None
        return figure

    def _seconds(self, bench: str, *what: str) -> tuple[float, float]:
        figures = [self._figure(bench, one) for one in what]
        return sum(one["median"] for one in figures), sum(one["p98"] for one in figures)

    @cached_property
    def file_bytes(self) -> float:
        """Bytes of a whole sensor's file."""
        return float(self._figure("ingest", "verification of a file, s")["file_bytes"])

    @property
    def visit_bytes(self) -> float:
        """Bytes of a visit's files; a wavefront half is half a sensor."""
        return self.file_bytes * (SCIENCE + GUIDERS + WAVEFRONT / 2)

    # -- the sum -------------------------------------------------------------------------------------------------------

    def stages(self) -> list[Stage]:
        """Return the stages of a visit, one after the other, although some overlap."""
        return [self._readout(), *self._summit(), *self._way(), self._ingest(), *self._worker(), self._stream()]

    def _readout(self) -> Stage:
        return Stage("readout", ASSUMED["readout"].value, ASSUMED["readout"].value, "assumed")

    def _summit(self) -> Iterator[Stage]:
        cores, fetch = (
            ASSUMED["archiver_cores"].value,
            8e-9 * 2 * 4096**2 * (FILES - WAVEFRONT / 2) / ASSUMED["camera_gbps"].value,
        )
        usual, most = self._seconds("archiver", "take-over of a visit, core seconds")
        yield Stage(
            "camera to journal",
            usual / cores + fetch,
            most / cores + fetch,
            f"core seconds of the bench / {cores:g}, and {fetch:.2f} s of network",
        )
        usual, most = self._seconds("archiver", "puts of a visit, s")
        used = self._figure("archiver", "puts of a visit, s")["threads"]
        yield Stage(
            "journal to the summit's store",
            usual * used / cores,
            most * used / cores,
            f"bench of {used} cores, which the store shared; {cores:g} here",
        )

    def _way(self) -> Iterator[Stage]:
        taken = self._seconds("forwarder", "take, s")
        yield Stage(
            "event to the forwarder",
            ASSUMED["event"].value + taken[0],
            2 * ASSUMED["event"].value + taken[1],
            "assumed, and the queue's take",
        )
        paths = [self._path(kind) for kind in ("primary", "secondary")]
        workers = self.forward_workers
        rounds = math.ceil(KEYS / workers)
        usual, most = (
            rounds * 3 * trip + 8e-6 * self.visit_bytes / (rate * ASSUMED["prompt_share"].value) for trip, rate in paths
        )
        how = f"{KEYS} objects by {workers} workers: {rounds} rounds of three round trips of {1e3 * paths[0][0]:.0f} ms; {self.visit_bytes / 1e9:.1f} GB; 98 %: by the secondary way"
        yield Stage("summit to archive", usual, most, how)

    def _path(self, kind: str) -> tuple[float, float]:
        """Return round trip (s) and rate (Mbit/s) of the way from the summit to the archive."""
        legs = [self._production.circuits[f"{leg}-{kind}"] for leg in ("summit-base", "base-ncsa")]
        return 2e-3 * sum(leg.delay_ms for leg in legs), min(leg.rate_mbps for leg in legs)

    def _ingest(self) -> Stage:
        usual, most = self._seconds("ingest", "a visit in the registry, s")
        slices = math.ceil(SCIENCE / 32)
        commits = slices * ASSUMED["commit"].value
        how = f"bench, on which database and store shared {self._figure('ingest', 'a visit in the registry, s')['threads']} cores; {slices} transactions; event"
        return Stage(
            "verification and ingest",
            usual + commits + ASSUMED["event"].value,
            most + 2 * commits + 2 * ASSUMED["event"].value,
            how,
        )

    def _worker(self) -> Iterator[Stage]:
        load, pixels = (
            self._seconds("worker", f"4k: {what}") for what in ("raw from bytes, s", "pixels on one core, s")
        )
        transfer = 8e-9 * self.file_bytes / ASSUMED["stream_gbps"].value
        yield Stage(
            "raw into the worker",
            load[0] + transfer + ASSUMED["event"].value,
            load[1] + transfer + 2 * ASSUMED["event"].value,
            "bench, 10 Gbit/s, event",
        )
        yield Stage(
            "pixels", pixels[0], pixels[1] * ASSUMED["crowded"].value, "bench, on one core; 98 %: a crowded field"
        )
        stored, packets = self._seconds("association", "associate", "store"), self._seconds("worker", "4k: packets, s")
        yield Stage("association and its rows", *stored, "bench, 200 sources")
        usual = packets[0] + ASSUMED["put"].value + ASSUMED["commit"].value
        yield Stage(
            "packets",
            usual,
            packets[1] + 2 * ASSUMED["put"].value + 2 * ASSUMED["commit"].value,
            "bench, store, transaction",
        )

    def _stream(self) -> Stage:
        usual, most = (
            8e-9 * number * ASSUMED["alert_bytes"].value / ASSUMED["stream_gbps"].value
            for number in (ALERTS_A_VISIT, MOST_ALERTS_A_VISIT)
        )
        return Stage(
            "stream to the consumer",
            usual + ASSUMED["event"].value,
            most + 2 * ASSUMED["event"].value,
            f"all alerts of a visit, {ALERTS_A_VISIT:,}; 98 %: {MOST_ALERTS_A_VISIT:,}",
        )

    def totals(self) -> dict[str, tuple[float, float]]:
        """Return median and 98 % of a visit, of one in which a node is lost at the worst moment, and of the one after.

        A node has more than a fiftieth of a visit's detectors, so the 98 % are theirs.
        """
        usual, most = (sum(getattr(stage, name) for stage in self.stages()) for name in ("median", "most"))
        lost = sum(stage.most for stage in self._worker())
        cold = self._figure("worker", "4k: inputs that were not announced, s")["p98"]
        return {
            "any visit": (usual, most),
            "a node is lost at the end of the worker's part": (usual, most + ASSUMED["missed"].value + cold + lost),
            "the visit after": (usual, most + cold),
        }

    # -- what production needs -----------------------------------------------------------------------------------------

    @property
    def forward_workers(self) -> int:
        """Workers of the forwarder for each site."""
        text = (REPOSITORY / "k8s/clusters/production/summit/figures.yaml").read_text(encoding="utf-8")
        return int(text.partition("FORWARD_WORKERS, value: ")[2].split('"')[1])

    def needs(self) -> list[Need]:
        """Return the figures of production that follow."""
        production, camera = self._production, self._production.camera
        hours, row = ASSUMED["journal_hours"].value, self._figure("forwarder", "bytes of a row")["median"]
        journal = (
            3600 * hours / camera.visit_seconds * self.visit_bytes + capacity.JOURNAL_KEEPS_GIB * capacity.GIB
        ) / capacity.GIB
        queue = 2 * BUFFER_NIGHTS * VISITS * KEYS * 2 * row / (1 << 30)
        rate = MOST_ALERTS_A_VISIT * ASSUMED["alert_bytes"].value / camera.visit_seconds
        volumes, topics = production.volumes, production.topics
        pool = production.pools["prompt_pool"]
        allowed = capacity.connections(production)
        puts = capacity.parallel_puts(production)
        return [
            Need("volume archiver-journal, GiB", journal, volumes["archiver-journal"].gib, f"what is read out in {hours:g} h without the store"),
            Need("volume forwarder-journal, GiB", queue, volumes["forwarder-journal"].gib, f"{BUFFER_NIGHTS} nights for two sites, twice: it is rewritten"),
            Need("partitions of ingested", len(camera.detectors) * camera.visits_in_flight, topics["ingested"].partitions, "one for each detector and visit in flight"),
            Need("partitions of alerts", math.ceil(rate / ASSUMED["consumers"].value), topics["alerts"].partitions, f"{MOST_ALERTS_A_VISIT:,} alerts of a visit at a consumer before the next"),
            Need("capacity of the summit's store, GiB", BUFFER_NIGHTS * VISITS * self.visit_bytes / (1 << 30), production.storage["summit"].capacity_gib, f"{BUFFER_NIGHTS} nights"),
            Need("detectors that the archiver puts at once", puts.value, self._puts(), puts.why),
            Need("connections of PostgreSQL", allowed.value, self._connections(), allowed.why),
            Need("memory of a worker, GiB", self._figure("worker", "4k: most memory, MiB")["median"] / 1024, (pool.memory_gib - 20) / pool.prompt_workers, "bench; a node's memory less what it keeps for itself, by workers"),
        ]  # fmt: skip

    def _puts(self) -> float:
        figures = REPOSITORY / "k8s/clusters/production/summit/figures.yaml"
        return float((capacity.archiver_configuration(figures) or {})[capacity.PUTS])

    def _connections(self) -> float:
        text = (REPOSITORY / "inventories/production/group_vars/postgresql/figures.yml").read_text(encoding="utf-8")
        return float(text.partition("max_connections: ")[2].split()[0])

    # -- the page ------------------------------------------------------------------------------------------------------

    def page(self) -> str:
        """Return what the document holds, as Markdown."""
        parts = [self._measured(), self._assumed(), self._sum(), self._needed()]
        return "\n\n".join(parts)

    def _measured(self) -> str:
        rows = []
        for bench, entry in self._found.items():
            doubt = results.doubts(entry)
            for what, figure in entry["figures"].items():
                least = what in _AT_LEAST
                rows.append(
                    (
                        bench,
                        what,
                        _short(figure["median"]),
                        _short(figure["p98"]),
                        f"{'>=' if least else '<='} {_short(figure['limit'])}",
                        "reached" if figure["reached"] else "missed",
                        doubt,
                    )
                )
        machines = sorted({f"{entry['machine']} ({entry['taken']})" for entry in self._found.values()})
        head = f"Measured on {'; '.join(machines)}. The last column says which figures are to be taken again on a quiet machine."
        return f"{head}\n\n{_table(('bench', 'figure', 'median', '98 %', 'production', '', 'again'), rows)}"

    @staticmethod
    def _assumed() -> str:
        rows = [
            (name.replace("_", " "), f"{_short(one.value)} {one.unit}".strip(), one.what)
            for name, one in ASSUMED.items()
        ]
        return f"Assumed:\n\n{_table(('name', 'value', 'what'), rows)}"

    def _sum(self) -> str:
        rows = [(stage.name, f"{stage.median:.2f}", f"{stage.most:.2f}", stage.how) for stage in self.stages()]
        totals = [
            (f"**{name}**", f"**{usual:.1f}**", f"**{most:.1f}**", "") for name, (usual, most) in self.totals().items()
        ]
        goal = (f"goal: {MEDIAN_SECONDS:g} and {MOST_SECONDS:g}", "", "", self._verdict())
        return f"Seconds of the last file of a visit, from the shutter:\n\n{_table(('stage', 'median', '98 %', 'from'), [*rows, *totals, goal])}"

    def _verdict(self) -> str:
        late = [name for name, (usual, most) in self.totals().items() if usual > MEDIAN_SECONDS or most > MOST_SECONDS]
        return f"missed: {', '.join(late)}" if late else "reached"

    def _needed(self) -> str:
        rows = [(one.name, _short(one.needed), _short(one.declared), one.how) for one in self.needs()]
        return f"What production must have for it, and declares:\n\n{_table(('figure', 'needed', 'declared', 'from'), rows)}"


_AT_LEAST = {"packets of a second and core"}


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def written(page: Path, text: str) -> str:
    """Return a page with a text between its marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def main() -> int:
    """Print the model, or write it into its page; 1 where it misses its goals or production lacks something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put it into docs/developers/full-size.md")
    options = parser.parse_args()
    model = Model(results.read(), Environment.load("production"))
    if options.write:
        PAGE.write_text(written(PAGE, model.page()), encoding="utf-8")
    else:
        print(model.page())
    return 0 if all(need.met for need in model.needs()) else 1


if __name__ == "__main__":
    sys.exit(main())
