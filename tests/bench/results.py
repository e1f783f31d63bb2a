"""What benches of full size have found, with the machine that they ran on: a file that is committed and that the model reads."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .harness import Verdict

FILE = Path(__file__).with_name("full_size.json")
QUIET = 0.7
"""Load of a core from which on figures are to be taken again: somebody else is at work."""


def read(file: Path = FILE) -> dict[str, Any]:
    """Return what is kept, by bench."""
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return content


def keep(name: str, verdicts: Sequence[Verdict], size: str, load: float, file: Path = FILE) -> None:
    """Keep the figures of a bench in the place of former ones; `load` is what the machine had when it began."""
    if not verdicts:
        return
    figures = {
        one.notes["what"]: {key: _short(value) for key, value in {**one.notes, "reached": one.reached}.items() if key != "what"}
        for one in verdicts
        if "what" in one.notes
    }  # fmt: skip
    ratios = {one.peer: {"ratio": _short(one.ratio), "goal": one.goal} for one in verdicts if "what" not in one.notes}
    entry = {
        "taken": f"{datetime.now(UTC):%Y-%m-%d}", "size": size, "machine": machine(), "load": _short(load), "figures": figures, "ratios": ratios,
    }  # fmt: skip
    file.write_text(json.dumps(dict(sorted((read(file) | {name: entry}).items())), indent=1) + "\n", encoding="utf-8")


def machine() -> str:
    """Describe this machine: processor, cores, memory."""
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(encoding="utf-8"))
    cores = len(os.sched_getaffinity(0))
    return f"{cpu[1] if cpu else 'unknown processor'}, {cores} cores, {int(memory[1]) >> 20 if memory else 0} GiB"


def doubts(entry: dict[str, Any]) -> str:
    """Say why figures are to be taken again; empty if they need not be."""
    if entry["size"] != "full":
        return "smoke size"
    cores = re.search(r"(\d+) cores", entry["machine"])
    return f"load {entry['load']:g}" if entry["load"] > QUIET * int(cores[1] if cores else 1) else ""


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
