"""What costs seconds to work out from files of the tree is kept in the cache, under the digest of those files."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Final

from dpp.model.folders import Folders

_KEPT: Final = 8
"""How many answers of one kind are kept: checkouts share the cache."""
_BY: Final = ("ansible-core", "pydantic")


def remembered(kind: str, sources: Iterable[Path], make: Callable[[], str]) -> str:
    """Return what `make` returned when `sources` last had this content; it is asked where nobody remembers.

    Parameters
    ----------
    kind
        What is asked, as a file's name.
    sources
        Files, and folders with all that is in them, that alone decide the answer.
    """
    folder = Folders.current().cache / "remembered"
    path = folder / f"{kind}-{_digest(sources)}"
    if path.exists():
        os.utime(path)
        return path.read_text()
    answer = make()
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{path.name}.{os.getpid()}"
    draft.write_text(answer)
    draft.rename(path)
    for old in sorted(folder.glob(f"{kind}-*"), key=_used, reverse=True)[_KEPT:]:
        old.unlink(missing_ok=True)
    return answer


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process tidied up
        return 0.0


def _digest(sources: Iterable[Path]) -> str:
    digest = hashlib.sha256(repr((sys.version, [version(name) for name in _BY])).encode())
    for source in sources:
        for path in [source] if source.is_file() else sorted(source.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:24]
