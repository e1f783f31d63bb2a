"""Files that are safe on this disk before anybody is told so, and stay until the object store has proved that it has them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from workloads.common.errors import RetriableError
from workloads.common.s3 import sha256


@dataclass(frozen=True)
class Entry:
    """One object to store: its key, the digest of its bytes, and the facts that events repeat."""

    key: str
    sha256: str
    size: int
    obs_id: str
    detector: str = ""
    group: str = ""


class Journal:
    """A folder of entries, `pending` until stored, then `stored` until room is needed.

    An entry is two files, data and then facts, each written aside, synced, renamed, and its folder synced: one that has
    its facts is whole. What a crash cut short has none and is dropped at the next start.

    Parameters
    ----------
    folder
        Where; made if it is not there.
    keep_bytes
        How much of what is stored is kept as a second copy.
    """

    def __init__(self, folder: Path, keep_bytes: int = 1 << 30) -> None:
        self._pending, self._stored = folder / "pending", folder / "stored"
        self._keep_bytes = keep_bytes
        for path in (self._pending, self._stored):
            path.mkdir(parents=True, exist_ok=True)
        self._recover()

    def add(self, entry: Entry, data: bytes) -> None:
        """Make an entry durable; when this returns, a power cut cannot lose it.

        Raises
        ------
        RetriableError
            If the disk does not take it (full, for example); nothing is left of it then.
        """
        name = _file_name(entry.key)
        try:
            _write(self._pending / name, data)
            _write(self._pending / f"{name}.entry", json.dumps(asdict(entry)).encode())
            _sync(self._pending)
        except OSError as error:
            (self._pending / name).unlink(missing_ok=True)
            raise RetriableError(
                f"journal {self._pending}: {entry.key} of {entry.size} bytes not written: {error.strerror}"
            ) from error

    def holds(self, key: str) -> bool:
        """Say whether an object is durable here, stored already or not."""
        name = f"{_file_name(key)}.entry"
        return any((folder / name).exists() for folder in (self._pending, self._stored))

    def pending(self) -> Iterator[tuple[Entry, bytes]]:
        """Yield what is not stored yet, oldest first; small files of an exposure come before its pixels.

        Raises
        ------
        RetriableError
            If the disk gives back other bytes than it took.
        """
        for entry in self._entries(self._pending):
            yield entry, self._read(self._pending, entry)

    def stored(self) -> Iterator[Entry]:
        """Yield what is stored and still kept here."""
        yield from self._entries(self._stored)

    def mark_stored(self, entry: Entry) -> None:
        """Note that the store has proved to hold an entry, and make room."""
        self._move(entry, self._pending, self._stored)
        kept = sorted(self._stored.glob("*.entry"), key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for facts in kept:
            data = facts.with_suffix("")
            total += data.stat().st_size
            if total > self._keep_bytes:
                facts.unlink()
                data.unlink()

    def mark_pending(self, entry: Entry) -> None:
        """Note that the store has lost an entry: it will be stored again."""
        self._move(entry, self._stored, self._pending)

    def _move(self, entry: Entry, source: Path, target: Path) -> None:
        name = _file_name(entry.key)
        for file in (name, f"{name}.entry"):
            (source / file).rename(target / file)
        _sync(target)
        _sync(source)

    def _entries(self, folder: Path) -> list[Entry]:
        found = [(path.stat().st_mtime_ns, Entry(**json.loads(path.read_text()))) for path in folder.glob("*.entry")]
        return [
            entry
            for _, entry in sorted(found, key=lambda item: (item[1].obs_id, not item[1].key.endswith(".json"), item[0]))
        ]

    def _read(self, folder: Path, entry: Entry) -> bytes:
        data = (folder / _file_name(entry.key)).read_bytes()
        if sha256(data) != entry.sha256:
            raise RetriableError(
                f"journal {folder}: {entry.key} has digest {sha256(data)}, expected {entry.sha256}: the disk is failing"
            )
        return data

    def _recover(self) -> None:
        """Drop what a crash cut short, and finish moves of which only the data file was made."""
        for folder, other in ((self._pending, self._stored), (self._stored, self._pending)):
            for path in folder.iterdir():
                if path.suffix == ".part" or (path.suffix != ".entry" and not Path(f"{path}.entry").exists()):
                    facts = other / f"{path.name}.entry"
                    if facts.exists():
                        path.rename(other / path.name)
                    else:
                        path.unlink()


def _file_name(key: str) -> str:
    return key.replace("/", "+")


def _write(path: Path, data: bytes) -> None:
    aside = path.with_name(f"{path.name}.part")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
