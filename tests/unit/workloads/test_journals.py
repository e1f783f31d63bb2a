"""What the archiver's and the forwarder's journals promise, whatever instant the power goes."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from sal_told import Told
from workloads.archiver.device import Archiver
from workloads.archiver.images import journal_detector
from workloads.archiver.journal import Entry, Journal
from workloads.common.errors import NonRetriableError, RetriableError
from workloads.common.names import ExposureName
from workloads.common.s3 import MissingObjectError, sha256
from workloads.forwarder import journal as forwarder_journal
from workloads.forwarder.forward import Forwarder
from workloads.forwarder.journal import TransferJournal
from workloads.forwarder.sweep import Sweep

FEW_STEPS = 1000
"""Of the database, for a question that looks through no backlog; one of 150,000 rows takes a million."""


def entry(number, data, suffix=".fits"):
    return Entry(
        f"LSSTCam/20261122/MC_S_20261122_{number:06d}/MC_S_20261122_{number:06d}_R22_S00{suffix}",
        sha256(data),
        len(data),
        f"MC_S_20261122_{number:06d}",
        "R22_S00",
    )


def test_entries_survive_and_small_files_come_first(tmp_path):
    journal = Journal(tmp_path)
    journal.add(entry(1, b"pixels"), b"pixels")
    journal.add(entry(1, b"{}", ".json"), b"{}")
    found = [(one.key.rsplit(".", 1)[-1], data) for one, data in Journal(tmp_path).pending()]
    assert found == [("json", b"{}"), ("fits", b"pixels")]


def test_stored_entries_are_kept_up_to_the_limit_and_can_come_back(tmp_path):
    journal = Journal(tmp_path, keep_bytes=10)
    for number in (1, 2, 3):
        one = entry(number, b"123456")
        journal.add(one, b"123456")
        journal.mark_stored(one)
        os.utime(tmp_path / "stored" / (one.key.replace("/", "+") + ".entry"), (number, number))
    kept = list(journal.stored())
    assert len(kept) == 1
    journal.mark_pending(kept[0])
    assert [one for one, _ in journal.pending()] == kept


class EmptyCamera:
    """A camera that has released what was asked of it."""

    def __init__(self):
        self.released = []

    def describe(self, _obs_id):
        return {}

    def release(self, obs_id, detector):
        self.released.append((obs_id, detector))


def test_a_readout_told_again_after_a_restart_is_no_loss(tmp_path):
    journal, camera = Journal(tmp_path), EmptyCamera()
    one = entry(1, b"pixels")
    event = SimpleNamespace(imageName=one.obs_id, exposure=ExposureName.from_obs_id(one.obs_id), additional={})
    with pytest.raises(NonRetriableError, match="the camera has no such image"):
        journal_detector(journal, camera, event, one.detector)
    journal.add(one, b"pixels")
    journal_detector(journal, camera, event, one.detector)
    journal.mark_stored(one)
    journal_detector(journal, camera, event, one.detector)
    assert camera.released == [(one.obs_id, one.detector)] * 2


def test_what_a_crash_cut_short_is_dropped(tmp_path):
    journal = Journal(tmp_path)
    journal.add(entry(1, b"whole"), b"whole")
    (tmp_path / "pending" / "half.fits.part").write_bytes(b"ha")
    (tmp_path / "pending" / "no+facts.fits").write_bytes(b"data")
    assert [data for _, data in Journal(tmp_path).pending()] == [b"whole"]
    assert sorted(path.suffix for path in (tmp_path / "pending").iterdir()) == [".entry", ".fits"]


def test_a_move_cut_between_its_two_files_is_finished(tmp_path):
    journal = Journal(tmp_path)
    one = entry(1, b"whole")
    journal.add(one, b"whole")
    name = one.key.replace("/", "+")
    (tmp_path / "pending" / name).rename(tmp_path / "stored" / name)
    assert [(found, data) for found, data in Journal(tmp_path).pending()] == [(one, b"whole")]


def _flip(path):
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "a byte of its data": lambda data, _: _flip(data),
    "data cut short": lambda data, _: data.write_bytes(data.read_bytes()[:3]),
    "data gone": lambda data, _: data.unlink(),
    "facts cut short": lambda _, facts: facts.write_bytes(facts.read_bytes()[:20]),
    "facts empty": lambda _, facts: facts.write_bytes(b""),
    "facts of something else": lambda _, facts: facts.write_bytes(b"[1, 2]"),
    "facts of another entry": lambda _, facts: facts.write_bytes(facts.read_bytes().replace(b"000002", b"000003")),
    "facts with a value of another kind": lambda _, facts: facts.write_bytes(
        facts.read_bytes().replace(b'"R22_S00"', b"7")
    ),
    "facts that are no text": lambda _, facts: facts.write_bytes(b"\xff\xfe{}"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_entry_is_set_aside_with_its_reason_and_the_rest_is_stored(tmp_path, damage):
    journal = Journal(tmp_path)
    for number in (1, 2, 3):
        journal.add(entry(number, b"whole"), b"whole")
    bad = tmp_path / "pending" / entry(2, b"").key.replace("/", "+")
    DAMAGES[damage](bad, bad.with_name(f"{bad.name}.entry"))
    for _ in range(2):
        assert sorted(one.obs_id[-1] for one, _ in journal.pending()) == ["1", "3"]
    (aside,) = journal.set_aside()
    assert (aside.entry.obs_id, aside.entry.detector) == ("MC_S_20261122_000002", "R22_S00")
    assert journal.set_aside() == []
    said = json.loads((tmp_path / "aside" / f"{bad.name}.reason.json").read_text())
    assert said["key"] == entry(2, b"").key
    assert said["reason"] in aside.reason
    assert not journal.holds(entry(2, b"").key), "the camera may still have it"
    assert len(list(Journal(tmp_path).pending())) == 2


def test_a_copy_that_the_disk_lost_is_found_when_the_store_has_lost_it_too(tmp_path):
    journal = Journal(tmp_path)
    one = entry(1, b"whole")
    journal.add(one, b"whole")
    journal.mark_stored(one)
    (tmp_path / "stored" / one.key.replace("/", "+")).unlink()
    journal.mark_pending(one)
    assert list(journal.pending()) == []
    assert [aside.reason for aside in journal.set_aside()] == [
        "set aside by the archiver's journal: its data are not there"
    ]


def test_what_cannot_be_read_now_is_left_for_the_next_time(tmp_path, monkeypatch):
    journal = Journal(tmp_path)
    for number in (1, 2):
        journal.add(entry(number, b"whole"), b"whole")
    reading = Path.read_bytes

    def failing(path):
        if "000001_R22_S00.fits" in path.name and path.suffix == ".fits":
            raise OSError(5, "Input/output error")
        return reading(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    assert [one.obs_id[-1] for one, _ in journal.pending()] == ["2"]
    monkeypatch.undo()
    assert [one.obs_id[-1] for one, _ in journal.pending()] == ["1", "2"]
    assert journal.set_aside() == []


def test_the_archiver_reports_what_was_set_aside(tmp_path):
    journal = Journal(tmp_path)
    journal.add(entry(1, b"whole"), b"whole")
    journal.add(entry(1, b"{}", ".json"), b"{}")
    for path in (tmp_path / "pending").glob("*[ns]"):
        _flip(path)
    folder = SimpleNamespace(names=list)
    told = Told("MTArchiver")
    device = Archiver(told, folder, journal, None, None)
    assert list(journal.pending()) == []
    device._tell_set_aside()
    (content,) = told.of("imageRetrievalForArchiving")
    assert (content["obsid"], content["raft"], content["sensor"]) == ("MC_S_20261122_000001", "R22", "S00")
    assert content["statusCode"] != 0
    assert "set aside by the archiver's journal" in content["description"]


class Parallel:
    """A store that notes in which order objects came, and how many at once; each put waits until `together` are there."""

    site = "summit"

    def __init__(self, together):
        self.keys, self.digests, self.most, self.now = [], {}, 0, 0
        self._together, self._lock = threading.Barrier(together), threading.Lock()

    def put(self, _bucket, key, _data, digest):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        if key.endswith(".fits"):
            self._together.wait(60)
        with self._lock:
            self.now -= 1
            self.keys.append(key)
            self.digests[key] = digest

    def digest(self, _bucket, key):
        return self.digests.get(key)


def test_detectors_are_put_at_once_and_pixels_after_what_lies_beside_them(tmp_path):
    journal, store = Journal(tmp_path), Parallel(4)
    folder = SimpleNamespace(names=list)
    told = Told("MTArchiver")
    device = Archiver(told, folder, journal, None, store)
    for number in (1, 2):
        name = ExposureName(20261122, number, "SO"[number == 1])
        for detector in ("R22_S00", "R22_S01", "R22_S02", "R22_S10"):
            for suffix in (".fits", ".json"):
                journal.add(Entry(name.key(detector, suffix), sha256(b"x"), 1, name.obs_id, detector), b"x")
        journal.add(Entry(name.expected_sensors_key, sha256(b"x"), 1, name.obs_id), b"x")
    device._put_pending(lambda: None)
    assert list(journal.pending()) == []
    assert sum(told.reports) == len(told.of("imageStored")) == len(store.keys) == 18
    newest, oldest = store.keys[:9], store.keys[9:]
    for keys, obs_id in ((newest, "MC_S_20261122_000002"), (oldest, "MC_O_20261122_000001")):
        assert all(f"/{obs_id}/" in key for key in keys), "the newest exposure first"
        assert keys[0].endswith("expectedSensors.json")
        for key in keys:
            if key.endswith(".fits"):
                assert keys.index(key.replace(".fits", ".json")) < keys.index(key)
    assert store.most == 4


def test_a_store_that_refuses_one_detector_has_the_others_and_all_are_announced(tmp_path):
    journal, store = Journal(tmp_path), Parallel(1)

    def put(bucket, key, data, digest, whole=store.put):
        if "R22_S01" in key:
            raise RetriableError("refused")
        whole(bucket, key, data, digest)

    store.put = put
    folder = SimpleNamespace(names=list)
    told = Told("MTArchiver")
    device = Archiver(told, folder, journal, None, store)
    name = ExposureName(20261122, 1)
    for detector in ("R22_S01", "R22_S00"):
        journal.add(Entry(name.key(detector), sha256(b"x"), 1, name.obs_id, detector), b"x")
    with pytest.raises(RetriableError, match="refused"):
        device._put_pending(lambda: None)
    assert [one.detector for one, _ in journal.pending()] == ["R22_S01"]
    assert [(one["raft"], one["sensor"]) for one in told.of("imageStored")] == [("R22", "S00")]


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path, monkeypatch):
    journal = Journal(tmp_path)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RetriableError, match="No space left on device"):
        journal.add(entry(1, b"whole"), b"whole")
    assert list((tmp_path / "pending").iterdir()) == []


def _write_and_die(folder, acknowledgements, writes):
    """Journal three images, acknowledge each, and die at a system call that changes the disk: the one after so many writes."""
    left = itertools.count(writes, -1)

    def dying(function):
        def call(*args, **more):
            if next(left) <= 0:
                os._exit(9)
            return function(*args, **more)

        return call

    os.fsync, Path.rename = (
        dying(lambda _: None),
        dying(Path.rename),
    )  # a process dies here, no disk: that keeps what it has
    journal = Journal(folder)
    for number in range(3):
        one = entry(number, bytes([number]) * 1000)
        journal.add(one, bytes([number]) * 1000)
        os.write(acknowledgements, bytes([number]))
        journal.mark_stored(one)


def test_killed_at_any_write_nothing_acknowledged_is_lost(tmp_path):
    forked = multiprocessing.get_context("fork")
    for writes in itertools.count():
        folder = tmp_path / str(writes)
        reading, writing = os.pipe()
        process = forked.Process(target=_write_and_die, args=(folder, writing, writes))
        process.start()
        os.close(writing)
        process.join()
        with os.fdopen(reading, "rb") as said:
            acknowledged = set(said.read())
        journal = Journal(folder)
        held = {data[0] for _, data in journal.pending()} | {int(one.obs_id[-6:]) for one in journal.stored()}
        assert acknowledged <= held, f"killed after {writes} writes"
        if process.exitcode == 0:
            break
        assert process.exitcode == 9
    assert writes > 10
    assert acknowledged == {0, 1, 2}


def key_of(number, suffix="_R22_S00.fits", day=20261122, controller="S"):
    obs_id = f"MC_{controller}_{day}_{number:06d}"
    return f"LSSTCam/{day}/{obs_id}/{obs_id}{suffix}"


def test_transfers_resume_with_the_newest_exposure_and_there_by_class(tmp_path):
    keys = [key_of(number, suffix) for number in (1, 2) for suffix in ("_R22_S00.fits", "_R22_S00.json")]
    journal = TransferJournal(tmp_path / "journal.db", ["ncsa", "base"])
    assert journal.add(keys) == 8
    assert journal.add(keys) == 0
    first = [journal.take("ncsa") for _ in range(4)]
    assert [one.key[-16:] for one in first] == [
        "002_R22_S00.json",
        "002_R22_S00.fits",
        "001_R22_S00.json",
        "001_R22_S00.fits",
    ]
    assert journal.take("ncsa") is None
    journal.sent(first[0], "ab", 10)
    again = TransferJournal(tmp_path / "journal.db", ["ncsa", "base"])
    assert again.waiting() == journal.waiting() == {"ncsa": 3, "base": 4}
    assert again.take("ncsa").key == first[1].key


def test_tonights_pixels_go_before_a_backlog_whatever_triggered_them(tmp_path):
    journal = TransferJournal(tmp_path / "journal.db", ["ncsa"])
    journal.add([key_of(number, suffix) for number in range(1, 20) for suffix in ("_R22_S00.json", "_R22_S00.fits")])
    tonight = [
        key_of(3, "_R00_SG0_guider.fits", 20261123, "O"),
        key_of(3, "_R22_S00 (1).fits", 20261123, "O"),
        key_of(3, "_R22_S00.fits", 20261123, "O"),
        key_of(3, "_R22_S00.json", 20261123, "O"),
    ]
    journal.add(tonight)
    assert [journal.take("ncsa").key for _ in range(4)] == [tonight[3], tonight[2], tonight[0], tonight[1]]


@pytest.mark.parametrize("attempts", [0, 12, 1023, 1024, 1025, 1440, 10**9, -3])
def test_a_pause_has_an_end_whatever_the_number_of_attempts(tmp_path, attempts):
    journal = TransferJournal(tmp_path / "journal.db", ["ncsa", "base"])
    journal.add([key_of(1)])
    journal._database.execute("UPDATE transfers SET attempts = ? WHERE site = 'base'", (attempts,))
    assert 0.5 <= journal.failed(journal.take("base"), "away") <= 30.0
    assert journal.take("base") is None
    assert journal.take("ncsa").key == key_of(1), "only the site that is away waits"


def steps_of(journal: TransferJournal, ask: Callable[[], object]) -> int:
    """Return how many instructions the database takes for a question: what grows with the rows that are looked through."""
    taken = [0]

    def count() -> int:
        taken[0] += 1
        return 0

    connections = (journal._database, journal._reading)
    for connection in connections:
        connection.set_progress_handler(count, 1)
    ask()
    for connection in connections:
        connection.set_progress_handler(None, 0)
    return taken[0]


def test_a_large_backlog_costs_a_take_nothing(tmp_path, monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr(forwarder_journal.time, "time", lambda: now[0])
    journal = TransferJournal(tmp_path / "journal.db", ["ncsa"])
    for night in range(10):
        journal.add([key_of(n, day=20261101 + night) for n in range(1, 15_001)])
    journal.add([key_of(1, day=20261122)])
    for _ in range(200):
        journal.failed(journal.take("ncsa"), "cut")
    assert steps_of(journal, lambda: journal.take("ncsa")) < FEW_STEPS
    journal._database.execute("UPDATE transfers SET not_before = 5000")
    assert steps_of(journal, lambda: journal.take("ncsa")) < FEW_STEPS, "a backlog that waits is not looked through"
    assert journal.take("ncsa") is None
    now[0] = 6_000.0
    assert all(journal.take("ncsa") for _ in range(60))
    assert journal.waiting() == {"ncsa": 150_001}


@pytest.mark.parametrize("state", ["waiting", "sent", "proved", "told", "refused"])
@pytest.mark.parametrize("not_before", [0.0, 4e9])
def test_whatever_state_a_large_journal_is_in_nobody_waits_for_it(
    tmp_path: Path, state: str, not_before: float
) -> None:
    journal = TransferJournal(tmp_path / "journal.db", ["ncsa"])
    numbers = (
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 151000) "
        "INSERT INTO transfers (site, key, class, exposure, state, not_before) "
        "SELECT 'ncsa', 'LSSTCam/20261101/' || n, 1, printf('20261101_%06d', n), ?, ? FROM numbers"
    )
    journal._database.execute(numbers, (state, not_before))
    journal.add([key_of(1)])
    for ask in (lambda: journal.take("ncsa"), lambda: journal.unproved("ncsa"), journal.untold, journal.waiting):
        assert steps_of(journal, ask) < FEW_STEPS


def test_a_journal_of_the_former_version_goes_on_in_the_new_order(tmp_path):
    path = tmp_path / "journal.db"
    journal = TransferJournal(path, ["ncsa"])
    journal.add([key_of(1), key_of(2, controller="O", day=20261123)])
    journal._database.execute("UPDATE transfers SET exposure = substr(key, 18, 20), class = 1")
    journal._database.execute("CREATE INDEX waiting ON transfers (site, state, class, exposure, key)")
    journal._database.execute("PRAGMA user_version = 0")
    again = TransferJournal(path, ["ncsa"])
    assert [again.take("ncsa").key for _ in range(2)] == [key_of(2, controller="O", day=20261123), key_of(1)]


class Bucket:
    """A site's store in memory."""

    def __init__(self, site="ncsa", **objects):
        self.site, self.objects, self.digests = site, dict(objects), {}

    def list(self, _bucket, prefix):
        return iter([SimpleNamespace(key=key) for key in self.objects if key.startswith(prefix)])

    def directly(self, bucket, prefix):
        return (item for item in self.list(bucket, prefix) if "/" not in item.key.removeprefix(prefix))

    def folders(self, bucket, prefix):
        below = (item.key.removeprefix(prefix).split("/") for item in self.list(bucket, prefix))
        return {f"{prefix}{parts[0]}/" for parts in below if len(parts) > 1}

    def get(self, _bucket, key):
        if key not in self.objects:
            raise MissingObjectError(key)
        return self.objects[key]

    def digest(self, _bucket, key):
        return self.digests.get(key, "") if key in self.objects else None

    def put(self, _bucket, key, data, digest):
        self.objects[key], self.digests[key] = data, digest or sha256(data)


def test_files_of_every_kind_arrive_as_they_are_and_raws_are_announced(tmp_path):
    names = [
        "_R22_S00.fits",
        "_R00_SG0.fits",
        "_R00_SG0_guider.fits",
        "_R22_S00 (1).fits",
        "_R22_S00.json",
        "_notes.txt",
    ]
    keys = [key_of(1, name) for name in names]
    keys += ["LSSTCam/20261122/TS_C_20261122_000001/TS_C_20261122_000001_R22_S00.fits", "LSSTCam/readme", "LSSTCam/"]
    source, target = Bucket(**{key: key.encode() for key in keys}), Bucket()
    journal, said = TransferJournal(tmp_path / "journal.db", ["ncsa"]), []
    forwarder = Forwarder(source, [target], journal, lambda content: said.append(content["detector"]))
    sweep = Sweep(source, forwarder)
    assert sweep.once() == len(keys)
    assert sweep.once() == 0
    while (transfer := journal.take("ncsa")) is not None:
        forwarder._send(transfer, target)
    assert target.objects == source.objects
    assert journal.untold() is None, "nothing has arrived that was not read back"
    while (sent := journal.unproved("ncsa")) is not None:
        forwarder._prove(sent, target)
    forwarder.tell()
    assert sorted(said) == ["R00_SG0", "R22_S00"]
    assert journal.untold() is None


@pytest.mark.parametrize(
    "name",
    [
        "MC_S_20261122_000001_R00_SG0_guider.fits", "MC_O_20261122_000001_R44_SG1_guider.fits",
        "TS_C_20261122_000001_R22_S00.fits", "AT_O_20261122_000001_R22_S00.fits",
        "MC_O_20261122_000001_R22_S00 (1).fits", "MC_O_20261122_000001_R22_S00 (2).fits",
        "MC_O_20261122_100001_R22_S00.fits",
    ],
)  # fmt: skip
def test_a_row_of_a_file_that_is_no_raw_stops_no_forwarder_whenever_it_starts(tmp_path: Path, name: str) -> None:
    odd, raw = f"LSSTCam/20261122/{name[:20]}/{name}", key_of(2)
    source, target = Bucket(**{odd: b"odd", raw: b"raw"}), Bucket()
    said: list[str] = []
    for _ in range(2):
        journal = TransferJournal(tmp_path / "journal.db", ["ncsa"])
        forwarder = Forwarder(source, [target], journal, lambda content: said.append(content["obsId"]))
        forwarder.note([odd, raw])
        while (transfer := journal.take("ncsa")) is not None:
            forwarder._send(transfer, target)
        while (sent := journal.unproved("ncsa")) is not None:
            forwarder._prove(sent, target)
        forwarder.tell()
    assert target.objects == source.objects
    assert said == ["MC_S_20261122_000002"]
    assert journal.waiting() == {"ncsa": 0}


def slow():
    """Return a clock by which everything takes four seconds."""
    return itertools.count(0.0, 4.0).__next__


def test_a_sweep_takes_at_most_a_tenth_of_the_time_and_finds_what_is_in_any_folder(tmp_path):
    days = [f"LSSTCam/{day}/" for day in (20250101, 20260719, 20261001)]
    source = Bucket(**{f"{day}MC_O_{day[8:16]}_000001/{number}.fits": b"" for day in days for number in range(450)})
    journal = TransferJournal(tmp_path / "journal.db", ["ncsa", "base"])
    forwarder = Forwarder(source, [Bucket("ncsa"), Bucket("base")], journal, lambda *_: None)
    sweep = Sweep(source, forwarder, slow())
    assert [sweep.once() for _ in range(len(days) + 1)] == [900, 900, 900, 0]
    assert Sweep(source, forwarder, lambda: 0.0).once() == 0
    anew = Forwarder(source, [Bucket("ncsa")], TransferJournal(tmp_path / "anew.db", ["ncsa"]), lambda *_: None)
    assert Sweep(source, anew, lambda: 0.0).once() == 450 * len(days), "a store that is small is looked at as a whole"
    assert [Sweep.pause(cost) for cost in (0.1, 60.0)] == [30.0, 540.0]


def test_what_the_store_gave_up_is_forgotten_unless_it_is_owed(tmp_path):
    old, new = [f"LSSTCam/20250101/MC_O_20250101_{number:06d}/x" for number in range(450)], [key_of(1)]
    source, target = Bucket(**dict.fromkeys([*old, *new], b"")), Bucket()
    journal = TransferJournal(tmp_path / "journal.db", ["ncsa"])
    forwarder = Forwarder(source, [target], journal, lambda *_: None)
    sweep = Sweep(source, forwarder, slow())
    assert [sweep.once(), sweep.once()] == [1, 450]
    for _ in range(len(old)):
        forwarder._send(journal.take("ncsa"), target)
    while (sent := journal.unproved("ncsa")) is not None:
        forwarder._prove(sent, target)
    forwarder.tell()
    (owed,) = set(old) - set(target.objects)
    for key in old:
        del source.objects[key]
    sweep.once()
    assert journal.folders() == {"LSSTCam/20250101/", "LSSTCam/20261122/"}
    assert [row[0] for row in journal._database.execute("SELECT key FROM transfers ORDER BY key")] == [owed, *new]
    assert journal.add([*old, *new]) == len(old) - 1


def test_failed_transfers_wait_longer_each_time_to_a_limit(tmp_path, monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr(forwarder_journal.time, "time", lambda: now[0])
    journal = TransferJournal(tmp_path / "journal.db", ["ncsa"])
    journal.add([key_of(1)])
    pauses = []
    for _ in range(9):
        pauses.append(journal.failed(journal.take("ncsa"), "cut"))
        assert journal.take("ncsa") is None
        assert journal.waiting() == {"ncsa": 1}
        now[0] += pauses[-1]
    assert pauses[:7] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0]
    assert pauses[7:] == [30.0, 30.0]
    many = replace(journal.take("ncsa"), attempts=5_000)  # a cut of two days
    assert journal.failed(many, "cut") == 30.0


def test_arrivals_are_told_until_somebody_was_told(tmp_path):
    """An announcement that did not get through, and one that a crash came before, are made again."""
    key = "LSSTCam/20261122/MC_S_20261122_000001/MC_S_20261122_000001_R22_S00.fits"
    sites = ["ncsa", "base"]
    journal = TransferJournal(tmp_path / "journal.db", sites)
    journal.add([key])
    said, deaf = [], True

    def announce(content):
        if deaf:
            raise RetriableError("Kafka is away")
        said.append((content["site"], content["sha256"], content["size"], content["everywhere"]))

    for site, everywhere in zip(sites, (False, True), strict=True):
        forwarder = Forwarder(None, [], journal, announce)
        journal.sent(journal.take(site), "ab", 10)
        journal.proved(journal.unproved(site))
        deaf = True
        with pytest.raises(RetriableError):
            forwarder.tell()
        deaf, journal = False, TransferJournal(tmp_path / "journal.db", sites)
        for _ in range(2):
            Forwarder(None, [], journal, announce).tell()
        assert said == [(site, "ab", 10, everywhere)]
        said.clear()


def test_one_announcement_says_that_all_sites_have_it(tmp_path):
    journal, said = TransferJournal(tmp_path / "journal.db", ["ncsa", "base"]), []
    journal.add([f"LSSTCam/20261122/MC_S_20261122_000001/MC_S_20261122_000001_R22_S0{n}.fits" for n in (0, 1)])
    for transfer in [journal.take(site) for site in ("ncsa", "base") for _ in range(2)]:
        journal.sent(transfer, "ab", 10)
        journal.proved(journal.unproved(transfer.site))
    Forwarder(None, [], journal, lambda content: said.append((content["detector"], content["everywhere"]))).tell()
    assert said == [("R22_S00", False), ("R22_S00", True), ("R22_S01", False), ("R22_S01", True)]
