"""What a resource costs: 300 unchanged ones against an empty program, by turns, on the same backend."""

from __future__ import annotations

import os
import time
from statistics import median

import pytest

from stacks.engine.projects import Project

RESOURCES = 300
ROUNDS = 3
MARGINAL_MS = 10.0
PROGRAM = """import pulumi


class Thing(pulumi.CustomResource):
    def __init__(self, name):
        super().__init__("ledger:index:Only", name, {"place": "here", "size": 1})


for number in range(%d):
    Thing(f"thing{number}")
"""


def measure(project: Project, stack: str, resources: int) -> tuple[float, float]:
    """Return seconds on the clock and of processors that a preview without changes takes."""
    (project.folder / "stacks/__main__.py").write_text(PROGRAM % resources)
    before, began = os.times(), time.monotonic()
    result = project.workspace(PULUMI_DEBUG_GRPC="").preview(stack)
    seconds, after = time.monotonic() - began, os.times()
    assert result.ok
    assert result.counts.get("same", 0) == (resources + 1 if resources else 0)
    return seconds, sum(after[:4]) - sum(before[:4])


@pytest.mark.slow
def test_cost_of_a_resource(ledger: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Processor time is asserted; the clock depends on who else is at work and is printed."""
    (ledger.folder / "stacks/__main__.py").write_text(PROGRAM % RESOURCES)
    assert ledger.workspace(LEDGER_PAUSE="0", PULUMI_DEBUG_GRPC="").up(ledger.stack).ok
    empty_config = (ledger.folder / f"Pulumi.{ledger.stack}.yaml").read_text()
    (ledger.folder / "Pulumi.lab.empty.yaml").write_text(empty_config)
    rounds = [(measure(ledger, ledger.stack, RESOURCES), measure(ledger, "lab.empty", 0)) for _ in range(ROUNDS)]
    clock = median(full[0] / empty[0] for full, empty in rounds)
    marginal = 1000 * median(full[1] - empty[1] for full, empty in rounds) / RESOURCES
    with capsys.disabled():
        print(f"\npreview of {RESOURCES} unchanged / empty: {clock:.2f}; {marginal:.1f} ms of processors a resource")
    assert marginal <= MARGINAL_MS
