"""Paired, interleaved timing: A B B A ..., the ratio with its bootstrap interval, one JSON line per run.

On a shared machine absolute times mean little; the ratio of neighbours in time does. A pair during which the hypervisor
took more than a twentieth of the time is marked, and left out while enough others remain.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Run:
    """One execution of one side."""

    bench: str
    side: str
    pair: int
    wall: float
    cpu: float
    steal: float
    max_rss_mib: float


@dataclass(frozen=True)
class Verdict:
    """What a pairing came to: how many times faster ours is."""

    bench: str
    peer: str
    ratio: float
    low: float
    high: float
    cpu_ratio: float
    goal: float
    pairs: int
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        """Whether even the interval's bad end reaches the goal."""
        return self.low >= self.goal


def compare(
    bench: str,
    peer: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    goal: float,
    *,
    equal: Callable[[Any, Any], dict[str, Any]],
    pairs: int = 7,
) -> Verdict:
    """Check that both sides agree, then time them in turn.

    ``equal`` gets both results of the warm-up, raises `AssertionError` if they differ and returns figures to print.
    """
    notes = equal(ours(), theirs())
    ratios, cpu, calm = [], [], []
    for pair in range(pairs):
        order = (("ours", ours), ("theirs", theirs)) if pair % 2 == 0 else (("theirs", theirs), ("ours", ours))
        runs = {side: _run(bench, side, pair, function) for side, function in order}
        ratios.append(runs["theirs"].wall / runs["ours"].wall)
        cpu.append(runs["theirs"].cpu / max(runs["ours"].cpu, 1e-6))
        calm.append(max(run.steal for run in runs.values()) <= 0.05)
    kept = np.array(ratios)[calm] if sum(calm) >= 3 else np.array(ratios)
    low, high = bootstrap(kept)
    verdict = Verdict(bench, peer, float(np.median(kept)), low, high, float(np.median(cpu)), goal, len(kept), notes)
    print(json.dumps(asdict(verdict) | {"reached": verdict.reached}), flush=True)
    return verdict


def bootstrap(values: np.ndarray, level: float = 0.95, rounds: int = 4000) -> tuple[float, float]:
    """Interval of the median by resampling."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (rounds, len(values))), axis=1)
    low, high = np.quantile(medians, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


class Values:
    """Measured values of one figure; ``with`` measures the seconds of its body."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)
        self.cpu = list[float]()
        """Processor time of this process for each body: what is left of a figure where others use the machine."""
        self._begun = (0.0, 0.0)

    def __enter__(self) -> None:
        self._begun = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        wall, cpu = self._begun
        self.values.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


class Footprint:
    """Memory of this process from now on: how much it grows, and the most that it has."""

    def __init__(self) -> None:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before and kept would hide what is taken now
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._begin = memory_mib("VmRSS")

    def notes(self) -> dict[str, float]:
        """Return growth and peak, MiB."""
        return {"grown_mib": round(memory_mib("VmRSS") - self._begin, 1), "peak_mib": round(memory_mib("VmHWM"), 1)}


def memory_mib(name: str) -> float:
    """Return what the kernel counts of this process's memory under a name, MiB."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found
    return int(found.group(1)) / 1024


def against(bench: str, what: str, values: Values, limit: float, *, at_least: bool = False, **notes: Any) -> Verdict:
    """Compare measured values with a figure of production: its ratio to theirs is to be 1 or more.

    `limit` is the most that the value may be, or, with `at_least`, the least.
    """
    found = np.array(values.values)
    ratios = found / limit if at_least else limit / np.maximum(found, 1e-9)
    low, high = bootstrap(ratios) if len(ratios) > 1 else (float(ratios[0]), float(ratios[0]))
    spread = {"median": float(np.median(found)), "p98": float(np.quantile(found, 0.02 if at_least else 0.98))}
    worst = float(found.min() if at_least else found.max())
    cpu = {"cpu_median": float(np.median(values.cpu))} if values.cpu else {}
    own = {"what": what, "limit": limit, **spread, "worst": worst, "count": len(found), **cpu, **notes}
    peer = f"{what} {'>=' if at_least else '<='} {limit:g}"
    verdict = Verdict(bench, peer, float(np.median(ratios)), low, high, 1.0, 1.0, len(found), own)
    print(json.dumps(asdict(verdict) | {"reached": verdict.reached}), flush=True)
    return verdict


def skipped(bench: str, why: str) -> list[Verdict]:
    """Say that a bench cannot run here, and return no verdicts."""
    print(json.dumps({"bench": bench, "skipped": f"this machine lacks {why}"}), flush=True)
    return []


def versions(*names: str) -> dict[str, str]:
    """Versions of the packages compared."""
    return {name: version(name) for name in names}


def summary(verdicts: list[Verdict]) -> None:
    """Print one line per pairing for people."""
    for v in verdicts:
        state = "reached" if v.reached else "NOT reached"
        line = f"{v.bench:28} vs {v.peer:26} {v.ratio:7.2f}x  [{v.low:.2f}, {v.high:.2f}]  cpu {v.cpu_ratio:.2f}x  goal {v.goal:g}x {state}"
        print(line, file=sys.stderr)


def _run(bench: str, side: str, pair: int, function: Callable[[], Any]) -> Run:
    before, steal, start = resource.getrusage(resource.RUSAGE_SELF), _steal(), time.perf_counter()
    function()
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    stolen = (_steal() - steal) / max(wall * (os.cpu_count() or 1), 1e-9)
    run = Run(bench, side, pair, wall, cpu, stolen, after.ru_maxrss / 1024)
    print(json.dumps(asdict(run)), flush=True)
    return run


def _steal() -> float:
    """Seconds that the hypervisor has taken from all cores."""
    with open("/proc/stat", encoding="ascii") as file:  # noqa: PTH123
        return int(file.readline().split()[8]) / os.sysconf("SC_CLK_TCK")
