"""Files that only grow: a line is on the disk when it has been written, and one that its writer was killed over is none."""

from __future__ import annotations

import os
from pathlib import Path


def whole_lines(path: Path) -> list[bytes]:
    """Return the lines that were written to their ends; none where there is no file."""
    return _whole(path.read_bytes()).splitlines() if path.exists() else []


def append_line(path: Path, line: str) -> None:
    """Append a line; it is on the disk when this returns. There must be one writer at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("ab") as file:
        file.truncate(len(_whole(path.read_bytes())))
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if new:
        _sync(path.parent)


def _whole(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
