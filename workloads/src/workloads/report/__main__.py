"""``python -m workloads.report follow|settle|stores|build FOLDER``: the four steps of a night's report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from workloads.common import log
from workloads.report.build import build
from workloads.report.follow import follow
from workloads.report.settle import settle
from workloads.report.stores import read_stores


def main() -> int:
    """Run one step; `build` exits with 1 where a requirement is not met."""
    parser = argparse.ArgumentParser(prog="report", description="The night's report.")
    parser.add_argument("step", choices=("follow", "settle", "stores", "build"))
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    log.configure("report")
    if options.step == "follow":
        return follow(options.folder)
    if options.step == "settle":
        return settle(options.folder)
    if options.step == "stores":
        return read_stores(options.folder)
    report = build(options.folder)
    print((options.folder / "report.json").resolve())
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
