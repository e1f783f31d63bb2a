"""Compile every kernel into the cache: ``python -m workloads.pixels.compile``, once, when an image is built.

The cache lies beside the sources, or in ``NUMBA_CACHE_DIR``; it holds for the processor that it was made on (set
``NUMBA_CPU_NAME=generic`` or a common model where images are built elsewhere).
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import pkgutil
import time
from concurrent.futures import ProcessPoolExecutor

from numba.core.registry import CPUDispatcher

from workloads.pixels import kernels, parallel


def compile_all() -> dict[str, int]:
    """Import every kernel module, on all cores, which compiles what is not cached; kernels per module."""
    names = [module.name for module in pkgutil.iter_modules(kernels.__path__)]
    with ProcessPoolExecutor(parallel.available(), multiprocessing.get_context("spawn")) as pool:
        return dict(zip(names, pool.map(_compile, names), strict=True))


def _compile(name: str) -> int:
    loaded = importlib.import_module(f"{kernels.__name__}.{name}")
    return sum(isinstance(value, CPUDispatcher) and bool(value.nopython_signatures) for value in vars(loaded).values())


def main() -> None:
    """Compile and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args()
    start = time.monotonic()
    counts = compile_all()
    seconds = round(time.monotonic() - start, 1)
    if options.json:
        print(json.dumps({"kernels": counts, "seconds": seconds}))
        return
    for name, count in counts.items():
        print(f"{name}: {count}")
    print(f"{sum(counts.values())} kernels ready after {seconds} s")


if __name__ == "__main__":
    main()
