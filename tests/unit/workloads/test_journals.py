"""What the archiver's and the forwarder's journals promise, whatever instant the power goes."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from workloads.archiver.images import journal_detector
from workloads.archiver.journal import Entry, Journal
from workloads.common.errors import NonRetriableError, RetriableError
from workloads.common.names import ExposureName
from workloads.common.s3 import sha256
from workloads.forwarder import journal as forwarder_journal
from workloads.forwarder.forward import Forwarder
from workloads.forwarder.journal import TransferJournal


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


def test_a_failing_disk_is_noticed(tmp_path):
    journal = Journal(tmp_path)
    one = entry(1, b"whole")
    journal.add(one, b"whole")
    (tmp_path / "pending" / one.key.replace("/", "+")).write_bytes(b"whale")
    with pytest.raises(RetriableError, match="the disk is failing"):
        list(journal.pending())


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


def test_transfers_resume_in_order_of_class_and_newest_first(tmp_path):
    keys = [
        f"LSSTCam/20261122/MC_S_20261122_{n:06d}/MC_S_20261122_{n:06d}_R22_S00{suffix}"
        for n in (1, 2)
        for suffix in (".fits", ".json")
    ]
    journal = TransferJournal(tmp_path / "journal.db", ["ncsa", "base"])
    assert journal.add(keys) == 8
    assert journal.add(keys) == 0
    first = [journal.take("ncsa") for _ in range(4)]
    assert [one.key[-4:] for one in first] == ["json", "json", "fits", "fits"]
    assert "000002" in first[0].key
    assert "000002" in first[2].key
    assert journal.take("ncsa") is None
    journal.proved(first[0], "ab", 10)
    again = TransferJournal(tmp_path / "journal.db", ["ncsa", "base"])
    assert again.waiting() == {"ncsa": 3, "base": 4}
    assert again.take("ncsa").key == first[1].key


def test_failed_transfers_wait_longer_each_time_to_a_limit(tmp_path, monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr(forwarder_journal.time, "time", lambda: now[0])
    journal = TransferJournal(tmp_path / "journal.db", ["ncsa"])
    journal.add(["LSSTCam/20261122/X/a.fits"])
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

    def announce(event, content):
        if deaf:
            raise RetriableError("Kafka is away")
        said.append((event, content["site"], content["sha256"], content["size"], content["everywhere"]))

    for site, everywhere in zip(sites, (False, True), strict=True):
        forwarder = Forwarder(None, [], journal, announce)
        journal.proved(journal.take(site), "ab", 10)
        deaf = True
        with pytest.raises(RetriableError):
            forwarder.tell()
        deaf, journal = False, TransferJournal(tmp_path / "journal.db", sites)
        for _ in range(2):
            Forwarder(None, [], journal, announce).tell()
        assert said == [("imageForwarded", site, "ab", 10, everywhere)]
        said.clear()


def test_one_announcement_says_that_all_sites_have_it(tmp_path):
    journal, said = TransferJournal(tmp_path / "journal.db", ["ncsa", "base"]), []
    journal.add([f"LSSTCam/20261122/MC_S_20261122_000001/MC_S_20261122_000001_R22_S0{n}.fits" for n in (0, 1)])
    for transfer in [journal.take(site) for site in ("ncsa", "base") for _ in range(2)]:
        journal.proved(transfer, "ab", 10)
    Forwarder(None, [], journal, lambda _, content: said.append((content["detector"], content["everywhere"]))).tell()
    assert said == [("R22_S00", False), ("R22_S00", True), ("R22_S01", False), ("R22_S01", True)]
