"""Run programs of stacks against a monitor that only takes notes, and print their graphs of resources as JSON.

In a process of its own: the SDK keeps much of a program in globals.
"""

import asyncio
import contextvars
import json
import runpy
import sys
from pathlib import Path
from typing import Any

from pulumi.runtime import mocks
from pulumi.runtime.stack import wait_for_rpcs

STACKS = Path(__file__).parents[2] / "stacks"


OUTPUTS = {
    "dpp:machines:Machine": {"identity": "an-identity"},
    "dpp:images:WorkloadImages": {
        "references": {name: f"registry/dpp/{name}@sha256:0" for name in ("services", "pixels")}
    },
}
"""What a provider would add to the inputs, as far as programs look at it."""


class Answers(mocks.Mocks):
    """Outputs that a provider would give."""

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        return args.name, {**args.inputs, **OUTPUTS.get(args.typ, {})}

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
        del args
        return {}


class Notes(mocks.MockMonitor):
    """A monitor that remembers requests."""

    def __init__(self) -> None:
        super().__init__(Answers())
        self.found: list[dict[str, Any]] = []

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        inputs = sorted(request.object.fields)
        short = [_short(urn) for urn in sorted(request.dependencies)]
        self.found.append(
            {
                "type": request.type,
                "name": request.name,
                "parent": _short(request.parent),
                "depends": sorted(set(short)),
                "inputs": inputs,
                "custom": request.custom,
            }
        )
        return super().RegisterResource(request)


def _short(urn: str) -> str:
    _, _, types, name = urn.split("::") if urn else ("", "", "", "")
    kind = types.rpartition("$")[2].rpartition(":")[2]
    return "" if kind in ("", "Stack") else f"{kind} {name}"


async def graph(stack: str) -> list[dict[str, Any]]:
    """Return the resources that the program of `stack` registers, in the order of their names."""
    sys.path.insert(0, str(STACKS))
    notes = Notes()
    preview = not stack.startswith("lab.")  # others are never applied
    mocks.set_mocks(Answers(), project="observatory", stack=stack, preview=preview, monitor=notes)
    runpy.run_path(str(STACKS / "__main__.py"), run_name="__main__")
    await wait_for_rpcs()
    found = [row for row in notes.found if row["type"] != "pulumi:pulumi:Stack"]
    return sorted(found, key=lambda row: (row["type"], row["name"]))


def graphs(stacks: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the resources of several stacks; the SDK keeps its settings per context."""
    return {stack: contextvars.copy_context().run(asyncio.run, graph(stack)) for stack in stacks}


if __name__ == "__main__":
    json.dump(graphs(sys.argv[1:]), sys.stdout)
