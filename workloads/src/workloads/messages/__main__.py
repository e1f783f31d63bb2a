"""``python -m workloads.messages list|give-back|dismiss [--group GROUP] [--name NAME ...]``, as the operators' principal.

What it lists, gives back or dismisses goes to standard output, one JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from workloads.common.aside import Aside, Asides
from workloads.common.errors import WorkloadError
from workloads.common.kafka import Bus
from workloads.common.settings import Settings

_SHOWN = (
    "group",
    "workload",
    "role",
    "topic",
    "partition",
    "offset",
    "timestamp",
    "size",
    "reason",
    "attempts",
    "time",
)


def shown(aside: Aside) -> dict[str, Any]:
    """Return what people want to know of a message; the bytes are for its group."""
    facts: dict[str, Any] = {"name": aside.name, **{field: getattr(aside, field) for field in _SHOWN}}
    return facts | {"begins": aside.value[:40].hex(" "), "traceback": aside.traceback}


def main() -> int:
    """Do what is asked; code 1 and the reason on standard error where that is not possible."""
    parser = argparse.ArgumentParser(prog="messages", description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=("list", "give-back", "dismiss"))
    parser.add_argument("--group", default="", help="only those of this consumer group")
    parser.add_argument("--name", action="append", default=[], help="only these")
    options = parser.parse_args()
    try:
        asides = Asides(Bus(Settings.load()), f"health-{time.time_ns()}")
        found = [
            one
            for one in asides.open()
            if options.group in ("", one.group) and (not options.name or one.name in options.name)
        ]
        if options.verb == "give-back":
            found = asides.give_back(found)
        elif options.verb == "dismiss":
            found = asides.dismiss(found)
    except WorkloadError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    for one in found:
        print(json.dumps(shown(one)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
