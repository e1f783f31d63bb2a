"""Run benches: ``python -m tests.bench [NAME ...] [--quick] [--threads N] [--record]`` from the project's root.

Those of `FULL` drive one stage of the way of a visit alone at full size, against the figure that production needs of it;
`--record` keeps what they found for the model, see docs/developers/full-size.md.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

import yaml

NAMES = (
    "detector",
    "signature",
    "differencing",
    "quality",
    "sky",
    "files",
    "packets",
    "watch",
    "stacks",
    "memory",
    "cores",
)
FULL = ("archiver", "forwarder", "ingest", "worker", "association", "alert_watch", "report", "lab_night")
"""Minutes each, and gigabytes of memory and disk: they are run when they are named."""


def main() -> int:
    """Run the named benches; 0 only if every goal is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (default: all), {', '.join(FULL)}"
    )
    parser.add_argument("--quick", action="store_true", help="small input, three pairs")
    parser.add_argument("--record", action="store_true", help="keep the figures of a full size")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="cores for either side")
    options = parser.parse_args()
    unknown = set(options.names) - {*NAMES, *FULL}
    if unknown:
        parser.error(f"unknown benches {sorted(unknown)}; there are {', '.join((*NAMES, *FULL))}")
    _as_deployed()
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest has it
    from tests.bench import harness, results

    verdicts = []
    for name in options.names or NAMES:
        load = os.getloadavg()[0]
        found = importlib.import_module(f"tests.bench.{name}").run(quick=options.quick, threads=options.threads)
        verdicts += found
        if options.record and name in FULL:
            results.keep(name, found, "smoke" if options.quick else "full", load)
    harness.summary(verdicts)
    return 0 if all(v.reached for v in verdicts) else 1


def _as_deployed() -> None:
    """Start anew with memory kept as prompt processing keeps it, for both sides: the C library reads that at start only."""
    deployment = yaml.safe_load(Path("k8s/prompt-processing/deployment.yaml").read_text(encoding="utf-8"))
    environment = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    tunables = next(variable["value"] for variable in environment if variable["name"] == "GLIBC_TUNABLES")
    if os.environ.get("GLIBC_TUNABLES") != tunables:
        os.execve(sys.executable, sys.orig_argv, os.environ | {"GLIBC_TUNABLES": tunables})  # noqa: S606


if __name__ == "__main__":
    sys.exit(main())
