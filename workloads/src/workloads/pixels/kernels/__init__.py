"""Compiled loops: explicit types, no interpreter lock, cached on disk.

Signatures are explicit so that importing a module compiles all of it (once: the result is cached beside the source or
in ``NUMBA_CACHE_DIR``) and a call with other types is an error rather than a compilation in the middle of the night.
A kernel calls only helpers of its own file, because the cache notices changes of that file alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def kernel(signature: str | list[str], *, fast: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function for a signature or several; ``fast`` allows sums to be reordered (NaN and infinity stay honoured)."""
    flags = {"reassoc", "nsz", "arcp", "contract", "afn"} if fast else False
    compiler: Callable[[Callable[..., Any]], Callable[..., Any]] = njit(
        signature, nogil=True, cache=True, fastmath=flags, error_model="numpy"
    )
    return compiler


helper: Callable[[Callable[..., Any]], Callable[..., Any]] = njit(
    nogil=True, fastmath=False, error_model="numpy", inline="never"
)
