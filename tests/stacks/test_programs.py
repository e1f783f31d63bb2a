"""Every stack's program, against a monitor that takes notes: what it registers, under what, and what waits for what.

The graphs of the lab are kept whole, those of production by layer. ``DPP_UPDATE=1 pytest tests/stacks/test_programs.py``
writes them anew: look at the difference before it is committed.
"""

import importlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY
from dpp.model.names import snake
from dpp.model.units import UNITS
from dpp.provider.resources import KINDS

HERE = Path(__file__).parent
STACKS = [f"{environment}.{unit}" for environment in ("lab", "production") for unit in UNITS]
Row = dict[str, Any]


def run(stacks: list[str]) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    command = [sys.executable, str(HERE / "graph.py"), *stacks]
    return subprocess.run(command, capture_output=True, text=True, env=variables, timeout=300, check=False)


@pytest.fixture(scope="session")
def graphs() -> dict[str, list[Row]]:
    done = run(STACKS)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, list[Row]] = json.loads(done.stdout)
    return found


def whole(rows: list[Row]) -> list[str]:
    return [
        f"{r['type']} {r['name']} < {r['parent'] or 'stack'} | {', '.join(r['depends'])}".rstrip(" |") for r in rows
    ]


def by_layer(rows: list[Row]) -> list[str]:
    """Fold hosts of one function into one line with their number."""

    def fold(name: str) -> str:
        return re.sub(r"[0-9]+\.", "*.", name)

    lines = [f"{r['type']} {fold(r['name'])} < {fold(r['parent']) or 'stack'}" for r in rows]
    return [f"{line} x {count}" for line, count in sorted(Counter(lines).items())]


@pytest.mark.parametrize("stack", STACKS)
def test_program_registers_what_was_agreed(stack: str, graphs: dict[str, list[Row]]) -> None:
    found = (whole if stack.startswith("lab.") else by_layer)(graphs[stack])
    golden = HERE / f"data/graphs/{stack}.txt"
    if os.environ.get("DPP_UPDATE"):
        golden.write_text("".join(f"{line}\n" for line in found))

    assert found == golden.read_text().splitlines(), f"{golden} says otherwise; if that is meant, run with DPP_UPDATE=1"


@pytest.mark.parametrize("environment", ["lab", "production"])
def test_every_host_belongs_to_exactly_one_unit(environment: str, graphs: dict[str, list[Row]]) -> None:
    owners = Counter(
        row["name"]
        for stack, rows in graphs.items()
        for row in rows
        if stack.startswith(f"{environment}.") and row["type"] == "dpp:machines:Machine"
    )

    assert owners == Counter(dict.fromkeys(Environment.load(environment).hosts, 1))


def test_programs_give_each_kind_exactly_its_inputs(graphs: dict[str, list[Row]]) -> None:
    kinds = {kind.token: kind for kind in KINDS}
    for stack, rows in graphs.items():
        for row in rows:
            if row["custom"]:
                assert row["type"] in kinds, f"{stack}: no kind of the provider is {row['type']}"
                kind = kinds[row["type"]]
                assert set(row["inputs"]) - kind.outputs == set(kind.model_fields), (stack, row["name"])


def test_programs_see_exactly_the_outputs_of_each_kind() -> None:
    sys.path.append(str(REPOSITORY / "stacks"))
    resources = importlib.import_module("resources")
    for kind in KINDS:
        seen = getattr(resources, kind.__name__).__annotations__
        assert set(seen) == kind.outputs, kind


def test_a_convergence_waits_for_all_its_machines(graphs: dict[str, list[Row]]) -> None:
    for rows in graphs.values():
        for row in rows:
            if row["type"] == "dpp:hosts:Convergence":
                machines = {f"Machine {r['name']}" for r in rows if r["custom"] and r["parent"] == row["parent"]}
                assert machines - {f"Machine {row['name']}"} <= set(row["depends"])


def test_only_the_lab_has_links(graphs: dict[str, list[Row]]) -> None:
    count = {stack: sum(row["type"] == "dpp:links:Link" for row in rows) for stack, rows in graphs.items()}

    assert count["lab.wan"] == len(Environment.load("lab").circuits)
    assert sum(count.values()) == count["lab.wan"]


def test_every_unit_has_its_module() -> None:
    assert {path.stem for path in (REPOSITORY / "stacks/units").glob("*.py")} == {"__init__", *map(snake, UNITS)}


def test_an_unknown_unit_is_refused_by_name() -> None:
    done = run(["lab.sumit-storage"])

    assert done.returncode != 0
    assert "stack lab.sumit-storage: unit 'sumit-storage'; expected <environment>.<unit>" in done.stderr
