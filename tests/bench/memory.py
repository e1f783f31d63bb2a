"""Peak memory of one detector's reduction beside ccdproc's: what each needs above its inputs."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tests.bench.detector import ccd, ours
from tests.bench.harness import Verdict, bootstrap, memory_mib
from tests.bench.inputs import detector


def _child(function: Callable[[], Any], answer: Any) -> None:
    # What the parent has freed and kept would be taken for inputs.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = memory_mib("VmRSS")
    function()
    answer.put(memory_mib("VmHWM") - before)


def _peak(function: Callable[[], Any]) -> float:
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    process = context.Process(target=_child, args=(function, answer))
    process.start()
    value = float(answer.get())
    process.join()
    return value


def run(*, quick: bool, threads: int) -> list[Verdict]:
    """Compare peaks; each side runs in a process of its own that begins with the same inputs."""
    warnings.simplefilter("ignore")
    given = detector(1024 if quick else 4096)
    sides = {"ours": lambda: ours(given, threads), "theirs": lambda: ccd(given)}
    rounds = [{side: _peak(function) for side, function in sides.items()} for _ in range(3)]
    for row in rounds:
        print(json.dumps({"bench": "memory", **{f"{side}_mib": value for side, value in row.items()}}), flush=True)
    ratios = np.array([row["theirs"] / row["ours"] for row in rounds])
    low, high = bootstrap(ratios)
    verdict = Verdict("memory", "ccdproc + photutils", float(np.median(ratios)), low, high, 1.0, 1 / 0.35, len(rounds))
    return [verdict]
