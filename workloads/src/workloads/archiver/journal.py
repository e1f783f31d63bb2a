"""Files that are safe on this disk before anybody is told so, and stay until the object store has proved that it has them."""

from __future__ import annotations

import itertools
import json
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prometheus_client import Counter

from workloads.common.errors import RetriableError
from workloads.common.names import classify
from workloads.common.s3 import sha256

LOG = logging.getLogger(__name__)
SET_ASIDE = Counter("journal_set_aside", "Entries of the journal that the disk did not give back")
_FACTS = ".entry"


@dataclass(frozen=True)
class Entry:
    """One object to store: its key, the digest of its bytes, and the facts that events repeat."""

    key: str
    sha256: str
    size: int
    obs_id: str
    detector: str = ""
    group: str = ""


@dataclass(frozen=True)
class Aside:
    """An entry that cannot be used any more: what is known of it, and why."""

    entry: Entry
    reason: str


class Journal:
    """A folder of entries, `pending` until stored, then `stored` until room is needed.

    An entry is two files, data and then facts, each written aside, synced, renamed, and its folder synced: one that has
    its facts is whole. What a crash cut short has none and is dropped at the next start. What the disk does not give back
    as it took it is set aside, bytes and reason, in `aside`; whatever lies behind it goes on.

    Parameters
    ----------
    folder
        Where; made if it is not there.
    keep_bytes
        How much of what is stored is kept as a second copy.
    """

    def __init__(self, folder: Path, keep_bytes: int = 1 << 30) -> None:
        self._pending, self._stored, self._aside = folder / "pending", folder / "stored", folder / "aside"
        self._keep_bytes = keep_bytes
        self._to_tell: list[Aside] = []
        self._known: dict[Path, tuple[int, Entry]] = {}
        """Facts that were read, with the time of their file: a backlog is looked through with every new exposure."""
        self._room = threading.Lock()
        for path in (self._pending, self._stored, self._aside):
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
            _write(self._pending / f"{name}{_FACTS}", json.dumps(asdict(entry)).encode())
            _sync(self._pending)
        except OSError as error:
            (self._pending / name).unlink(missing_ok=True)
            raise RetriableError(
                f"journal {self._pending}: {entry.key} of {entry.size} bytes not written: {error.strerror}"
            ) from error

    def holds(self, key: str) -> bool:
        """Say whether an object is durable here, stored already or not."""
        name = f"{_file_name(key)}{_FACTS}"
        return any((folder / name).exists() for folder in (self._pending, self._stored))

    def pending(self) -> Iterator[tuple[Entry, bytes]]:
        """Yield what is not stored yet, oldest first; small files of an exposure come before its pixels.

        What the disk does not give back is set aside, see `set_aside`; what it cannot read now is left for the next time.
        """
        for entry in self._entries(self._pending):
            data = self.read(entry)
            if data is not None:
                yield entry, data

    def exposures(self) -> list[list[Entry]]:
        """Return what is not stored yet, the newest exposure first: somebody waits for it; each in the order of `pending`."""
        entries = self._entries(self._pending)
        exposures = [list(group) for _, group in itertools.groupby(entries, lambda entry: entry.obs_id)]
        return sorted(exposures, key=lambda group: group[0].obs_id.split("_")[2:], reverse=True)

    def read(self, entry: Entry) -> bytes | None:
        """Return the bytes of an entry that is not stored yet; None if the disk does not give them, see `pending`."""
        return self._read(self._pending, entry)

    def stored(self) -> Iterator[Entry]:
        """Yield what is stored and still kept here."""
        yield from self._entries(self._stored)

    def set_aside(self) -> list[Aside]:
        """Return what was set aside since the last call."""
        told, self._to_tell = self._to_tell, []
        return told

    def mark_stored(self, entry: Entry) -> None:
        """Note that the store has proved to hold an entry, and make room."""
        self._move(entry, self._pending, self._stored)
        with self._room:
            self._make_room()

    def _make_room(self) -> None:
        kept = sorted(self._stored.glob(f"*{_FACTS}"), key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for facts in kept:
            data = facts.with_suffix("")
            total += data.stat().st_size if data.exists() else 0
            if total > self._keep_bytes:
                facts.unlink()
                data.unlink(missing_ok=True)

    def mark_pending(self, entry: Entry) -> None:
        """Note that the store has lost an entry: it will be stored again."""
        self._move(entry, self._stored, self._pending)

    def _move(self, entry: Entry, source: Path, target: Path) -> None:
        name = _file_name(entry.key)
        for file in (name, f"{name}{_FACTS}"):
            if (source / file).exists():  # data that is not there is found by who reads it
                (source / file).rename(target / file)
        _sync(target)
        _sync(source)

    def _entries(self, folder: Path) -> list[Entry]:
        found = list[tuple[int, Entry]]()
        known, there = self._known, dict[Path, tuple[int, Entry]]()
        for path in folder.glob(f"*{_FACTS}"):
            try:
                written = path.stat().st_mtime_ns
                there[path] = known[path] if path in known and known[path][0] == written else (written, _entry(path))
                found.append(there[path])
            except FileNotFoundError:
                continue  # moved by another thread meanwhile
            except (ValueError, TypeError) as error:
                self._put_aside(folder, _guess(path), f"its facts cannot be read: {error}")
            except OSError as error:
                LOG.error("journal %s: %s not read, again later: %s", folder, path.name, error)  # noqa: TRY400 - the text says it all
        if folder == self._pending:
            self._known = there
        return [
            entry
            for _, entry in sorted(found, key=lambda item: (item[1].obs_id, not item[1].key.endswith(".json"), item[0]))
        ]

    def _read(self, folder: Path, entry: Entry) -> bytes | None:
        """Return the bytes of an entry; None if the disk does not give them."""
        try:
            data = (folder / _file_name(entry.key)).read_bytes()
        except FileNotFoundError:
            self._put_aside(folder, entry, "its data are not there")
            return None
        except OSError as error:
            LOG.error("journal %s: %s not read, again later: %s", folder, entry.key, error)  # noqa: TRY400 - the text says it all
            return None
        if sha256(data) != entry.sha256:
            self._put_aside(
                folder,
                entry,
                f"{len(data)} bytes with digest {sha256(data)}, expected {entry.size} with {entry.sha256}",
            )
            return None
        return data

    def _put_aside(self, folder: Path, entry: Entry, reason: str) -> None:
        """Move what is left of an entry out of the way, with its reason beside it."""
        LOG.error("journal %s: %s set aside in %s, the disk may be failing: %s", folder, entry.key, self._aside, reason)
        name = _file_name(entry.key)
        try:
            for file in (name, f"{name}{_FACTS}"):
                if (folder / file).exists():
                    (folder / file).rename(self._aside / file)
            said = json.dumps({**asdict(entry), "reason": reason}, indent=1)
            _write(self._aside / f"{name}.reason.json", said.encode())
        except OSError as error:
            LOG.error("journal %s: %s left where it is: %s", folder, entry.key, error)  # noqa: TRY400 - the text says it all
        SET_ASIDE.inc()
        if folder == self._pending:
            self._to_tell.append(Aside(entry, f"set aside by the archiver's journal: {reason}"))

    def _recover(self) -> None:
        """Drop what a crash cut short, and finish moves of which only the data file was made."""
        for folder, other in ((self._pending, self._stored), (self._stored, self._pending)):
            for path in folder.iterdir():
                if path.suffix == ".part" or (path.suffix != _FACTS and not Path(f"{path}{_FACTS}").exists()):
                    facts = other / f"{path.name}{_FACTS}"
                    if facts.exists():
                        path.rename(other / path.name)
                    else:
                        path.unlink()


def _entry(path: Path) -> Entry:
    """Read the facts of an entry.

    Raises
    ------
    ValueError, TypeError
        They are none, or those of another entry.
    """
    facts: Any = json.loads(path.read_bytes())
    entry = Entry(**facts)
    texts = (entry.key, entry.sha256, entry.obs_id, entry.detector, entry.group)
    if not all(isinstance(text, str) for text in texts) or f"{_file_name(entry.key)}{_FACTS}" != path.name:
        raise ValueError(f"they are those of {entry.key!r}")
    return entry


def _guess(path: Path) -> Entry:
    """Return what the file name of an entry says of it."""
    key = path.name.removesuffix(_FACTS).replace("+", "/")
    raw = classify(key).raw
    return Entry(key, "", 0, raw.exposure.obs_id if raw else "", raw.detector if raw else "")


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
