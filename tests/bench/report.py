"""The report of a full night: what ``python -m workloads.report build`` takes of time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from . import servers
from .harness import Values, Verdict, against
from .night_folder import Night

SECONDS, MIB = 300.0, 2048.0


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Measure the step that builds, in a process of its own, over a night's folder from one seed."""
    night = Night(20, 9, 20, 5, 50) if quick else Night()
    with servers.scratch() as folder:
        night.write(folder)
        size = sum(file.stat().st_size for file in folder.iterdir())
        begun = time.perf_counter()
        command = [sys.executable, "-m", "workloads.report", "build", str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        _, _, used = os.wait4(process.pid, 0)
        taken = time.perf_counter() - begun
        report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    made = night.visits * night.detectors
    odd = made // night.odd
    assert report["exposures"]["expected"] == made
    assert report["alerts"]["decoded"] == made * night.alerts + odd, report["alerts"]
    assert (report["alerts"]["duplicates"], report["alerts"]["not_at_brokers"], report["exposures"]["lost"]) == (
        odd,
        odd,
        odd,
    )
    assert sum(len(visit["detectors"]) for visit in report["visits"]) == made
    notes = {
        "alerts": report["alerts"]["decoded"],
        "visits": night.visits,
        "folder_GB": round(size / 1e9, 3),
        "threads": threads,
    }
    return [
        against("report", "a night, s", Values(taken), SECONDS, cpu_s=round(used.ru_utime + used.ru_stime, 1), **notes),
        against("report", "most memory, MiB", Values(used.ru_maxrss / 1024), MIB, **notes),
    ]  # fmt: skip
