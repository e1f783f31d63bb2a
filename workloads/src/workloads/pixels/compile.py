"""Compile every kernel into the cache: ``python -m workloads.pixels.compile``, once, when an image is built.

The cache lies beside the sources, or in ``NUMBA_CACHE_DIR``; it holds for the processor that it was made on (set
``NUMBA_CPU_NAME=generic`` or a common model where images are built elsewhere). With ``--kept FOLDER`` a tree takes what
another one has left there of the same kernels, and leaves what it has compiled.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import multiprocessing
import pkgutil
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from numba.core.registry import CPUDispatcher

from workloads.pixels import kernels, parallel

_SOURCES = Path(kernels.__path__[0])


def compile_all() -> dict[str, tuple[int, int]]:
    """Import every kernel module, on all cores; per module, how many kernels it has and how many had to be compiled."""
    names = [module.name for module in pkgutil.iter_modules(kernels.__path__)]
    with ProcessPoolExecutor(parallel.available(), multiprocessing.get_context("spawn")) as pool:
        return dict(zip(names, pool.map(_compile, names), strict=True))


def kept_in(root: Path) -> Path:
    """Return the folder for what these kernels compile to with this Python, these libraries and this processor."""
    libraries = [f"{name} {version(name)}" for name in ("llvmlite", "numba", "numpy")]
    digest = hashlib.sha256("\n".join([sys.version, *libraries]).encode())
    digest.update(repr(CPUDispatcher.targetdescr.target_context.codegen().magic_tuple()).encode())
    for path in sorted(_SOURCES.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return root / digest.hexdigest()[:12]


def _take(folder: Path) -> None:
    """Put what is kept beside the sources: the cache asks for a file's content, not for its place."""
    beside = _SOURCES / "__pycache__"
    beside.mkdir(exist_ok=True)
    for path in folder.glob("*.nb[ci]"):
        shutil.copy(path, beside)


def _leave(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as scratch:
        partial = Path(scratch) / "kernels"
        shutil.copytree(_SOURCES / "__pycache__", partial, ignore=lambda _, names: {n for n in names if ".nb" not in n})
        with suppress(OSError):  # another has left the same
            partial.rename(folder)


def _compile(name: str) -> tuple[int, int]:
    loaded = importlib.import_module(f"{kernels.__name__}.{name}")
    found = [one for one in vars(loaded).values() if isinstance(one, CPUDispatcher) and one.nopython_signatures]
    return len(found), sum(sum(one.stats.cache_misses.values()) for one in found)


def main() -> None:
    """Compile and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--kept", type=Path, help="folder that trees share what they have compiled in")
    options = parser.parse_args()
    start = time.monotonic()
    kept = kept_in(options.kept) if options.kept else None
    if kept and kept.is_dir():
        _take(kept)
    counts = compile_all()
    if kept and not kept.is_dir():
        _leave(kept)
    seconds = round(time.monotonic() - start, 1)
    compiled = sum(missed for _, missed in counts.values())
    if options.json:
        print(json.dumps({"kernels": {name: count for name, (count, _) in counts.items()}, "compiled": compiled}))
        return
    for name, (count, _) in counts.items():
        print(f"{name}: {count}")
    print(f"{sum(count for count, _ in counts.values())} kernels, {compiled} compiled after {seconds} s")


if __name__ == "__main__":
    main()
