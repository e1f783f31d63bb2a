"""Threads over bands of rows: the kernels release the interpreter lock, so plain threads use all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

Result = TypeVar("Result")
Numbers = TypeVar("Numbers", bound=np.ndarray[Any, Any])


def available(threads: int | None = None) -> int:
    """Threads to use: the given number, or the cores that this process may run on."""
    return threads or len(os.sched_getaffinity(0))


@cache
def _pool(threads: int, _process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="pixels")


def run(
    function: Callable[..., Result], jobs: Iterable[tuple[object, ...]], threads: int | None = None
) -> list[Result]:
    """Call ``function(*job)`` for every job, on several threads; results in order, the first error raised."""
    count = available(threads)
    if count == 1:
        return [function(*job) for job in jobs]
    # The process id in the key keeps a forked child from waiting for its parent's threads.
    futures = [_pool(count, os.getpid()).submit(function, *job) for job in jobs]
    return [future.result() for future in futures]


def stream(
    function: Callable[..., Result], jobs: Iterable[tuple[object, ...]], threads: int | None = None
) -> Iterator[Result]:
    """As `run`, but each result is handed out as soon as it and all before it are there."""
    count = available(threads)
    if count == 1:
        yield from (function(*job) for job in jobs)
        return
    for future in [_pool(count, os.getpid()).submit(function, *job) for job in jobs]:
        yield future.result()


def copied(array: Numbers, threads: int | None = None) -> Numbers:
    """Copy an array; fresh memory is first touched by the threads that fill it."""
    result: Numbers = np.empty_like(array)
    jobs = [(result[first:last], array[first:last]) for first, last in bands(len(array), threads)]
    run(np.copyto, jobs, threads)
    return result


def bands(rows: int, threads: int | None = None, minimum: int = 64) -> list[tuple[int, int]]:
    """Split rows into bands, a few per thread: an uneven load evens out, and a band stays in the processor's caches."""
    pieces = max(1, min(rows // minimum, 4 * available(threads)))
    edges = [rows * i // pieces for i in range(pieces + 1)]
    return list(pairwise(edges))
