"""Copies that go bad, whenever and wherever: replaced from a good one, and archived only once read back."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from types import SimpleNamespace

import pytest

from sal_told import Told
from unit.workloads.test_detectors_off import ALL, Stamps, missing, readout
from unit.workloads.test_journals import Bucket, key_of
from unit.workloads.test_odd_exposures import NAME
from workloads.archiver.device import Archiver
from workloads.archiver.journal import Entry, Journal
from workloads.common import deletions
from workloads.common.consume import Delivery
from workloads.common.errors import AwayError, NonRetriableError, RetriableError
from workloads.common.ledger import Subject
from workloads.common.s3 import MissingObjectError, sha256
from workloads.data_backbone.arrivals import Arrival
from workloads.data_backbone.keeper import REMEMBERED_SECONDS, Keeper
from workloads.data_backbone.writer import Bad, Writer
from workloads.forwarder import journal as forwarder_journal
from workloads.forwarder import replacements
from workloads.forwarder.forward import Forwarder
from workloads.forwarder.journal import TransferJournal, class_of, exposure_of
from workloads.forwarder.sweep import Sweep

KEY, GOOD, DAMAGED = key_of(1), b"pixels", b"pixelz"


class Copies(Bucket):
    """A site's store in memory that keeps, like a real one, the digest that an object was stored with."""

    def __init__(self, site):
        super().__init__(site)
        self.away, self.puts = False, 0

    def hold(self, data, digest=None, key=KEY):
        self.objects[key], self.digests[key] = data, sha256(data) if digest is None else digest

    def get(self, bucket, key):
        return self.read(bucket, key)[0]

    def read(self, _bucket, key):
        self._ask()
        if key not in self.objects:
            raise MissingObjectError(f"{self.site}:{key}: no such object")
        if self.digests[key] not in ("", sha256(self.objects[key])):
            raise NonRetriableError(f"{self.site}:{key}: digest of what was read")
        return self.objects[key], sha256(self.objects[key])

    def digest(self, _bucket, key):
        self._ask()
        return self.digests[key] if key in self.objects else None

    def put(self, _bucket, key, data, digest=""):
        self._ask()
        self.puts += 1
        self.hold(data, digest or sha256(data), key)

    def list(self, _bucket, prefix):
        self._ask()
        return super().list(_bucket, prefix)

    def delete(self, _bucket, key):
        self._ask()
        self.objects.pop(key, None)

    def move_unchecked(self, _bucket, key, target):
        if key not in self.objects:
            raise MissingObjectError(key)
        data = self.objects.pop(key)
        self.hold(data, key=target)
        return sha256(data)

    def _ask(self):
        if self.away:
            raise RetriableError(f"{self.site} is away")


class Way:
    """A forwarder between three stores."""

    def __init__(self, folder):
        self.summit, self.ncsa, self.base = (Copies(site) for site in ("summit", "ncsa", "base"))
        self.journal, self.said = TransferJournal(folder / "journal.db", ["ncsa", "base"]), []
        self.forwarder = Forwarder(self.summit, [self.ncsa, self.base], self.journal, self._announce)

    def _announce(self, content):
        self.said.append((content["site"], content["everywhere"]))

    def send(self):
        for store in (self.ncsa, self.base):
            while (transfer := self.journal.take(store.site)) is not None:
                self.forwarder._send(transfer, store)

    def prove(self):
        for store in (self.ncsa, self.base):
            while (sent := self.journal.unproved(store.site)) is not None:
                self.forwarder._prove(sent, store)
        self.forwarder.tell()

    def archive(self, data=GOOD):
        self.summit.hold(data)
        self.forwarder.note([KEY])
        self.send()
        self.prove()


@pytest.fixture
def way(tmp_path, monkeypatch):
    made = Way(tmp_path)
    made.now = 1.8e9
    monkeypatch.setattr(forwarder_journal.time, "time", lambda: made.now)
    return made


def test_a_copy_that_the_archive_quarantines_is_sent_again_and_archived_when_it_was_read_back(way):
    way.archive()
    assert way.said == [("base", False), ("ncsa", True)]
    way.said.clear()
    del way.ncsa.objects[KEY]  # moved to quarantine
    assert way.forwarder.replace("ncsa", KEY, sha256(DAMAGED))
    assert way.journal.waiting() == {"ncsa": 1, "base": 0}
    way.send()
    way.forwarder.tell()
    assert way.said == [], "sent is not archived"
    way.prove()
    assert way.said == [("ncsa", True)]
    assert way.ncsa.objects[KEY] == GOOD


def test_a_copy_that_could_not_be_put_aside_is_replaced_where_it_stands(way):
    way.archive()
    way.ncsa.hold(DAMAGED, digest=sha256(GOOD))
    way.said.clear()
    assert way.forwarder.replace("ncsa", KEY, "")
    way.send()
    way.prove()
    assert way.said == [], "it was bad when it was read back"
    way.now += 60
    way.prove()
    assert way.said == [("ncsa", True)]
    assert way.ncsa.objects[KEY] == GOOD


@pytest.mark.parametrize(
    "harm",
    [
        lambda store: store.hold(DAMAGED, digest=sha256(GOOD)),
        lambda store: store.hold(DAMAGED),
        lambda store: store.hold(b""),
        lambda store: store.objects.pop(KEY),
    ],
    ids=["rotten", "overwritten", "emptied", "lost"],
)
def test_what_goes_bad_before_it_is_read_back_has_not_arrived(way, harm):
    way.summit.hold(GOOD)
    way.forwarder.note([KEY])
    way.send()
    harm(way.base)
    way.prove()
    assert way.said == [("ncsa", False)]
    way.now += 60
    way.prove()
    assert way.said == [("ncsa", False), ("base", True)]
    assert way.base.objects[KEY] == GOOD


def test_the_good_copy_may_be_another_sites(way):
    way.archive()
    way.summit.hold(DAMAGED, digest=sha256(GOOD))
    del way.ncsa.objects[KEY]
    assert way.forwarder.replace("ncsa", KEY, sha256(DAMAGED))
    way.send()
    way.prove()
    assert way.ncsa.objects[KEY] == GOOD


@pytest.mark.parametrize("digest", [None, ""], ids=["stored with its digest", "stored by others without"])
def test_bytes_that_are_the_same_everywhere_are_no_bad_copy_and_go_round_in_no_circle(way, digest):
    way.summit.hold(GOOD, digest=digest)
    way.forwarder.note([KEY])
    way.send()
    del way.ncsa.objects[KEY]  # quarantined: its header is wrong, say
    assert not way.forwarder.replace("ncsa", KEY, sha256(GOOD))
    puts = way.ncsa.puts
    way.prove()
    way.send()
    assert (way.ncsa.puts, way.journal.take("ncsa"), way.journal.unproved("ncsa")) == (puts, None, None)
    assert way.said == [("base", False)], "never everywhere"
    assert way.forwarder.note([KEY]) == 0, "a sweep knows it"


def test_what_no_site_has_is_not_sent_and_nobody_forwards_to_a_stranger(way):
    assert not way.forwarder.replace("ncsa", KEY, "")
    assert not way.forwarder.replace("in2p3", KEY, "")
    assert way.journal.take("ncsa") is None


def test_a_site_that_is_away_is_waited_for_before_it_counts(way):
    way.summit.hold(GOOD)
    way.forwarder.note([KEY])
    way.send()
    way.base.away = True
    way.prove()
    assert way.said == [("ncsa", False)]
    way.base.away = False
    way.now += 60
    way.prove()
    assert way.said[1:] == [("base", True)]
    assert way.base.puts == 1, "nothing was wrong with it"


def test_a_restart_proves_what_was_sent_before_it(way, tmp_path):
    way.summit.hold(GOOD)
    way.forwarder.note([KEY])
    way.send()
    way.journal = TransferJournal(tmp_path / "journal.db", ["ncsa", "base"])
    way.forwarder = Forwarder(way.summit, [way.ncsa, way.base], way.journal, way._announce)
    way.prove()
    assert way.said == [("base", False), ("ncsa", True)]


@pytest.mark.parametrize("cut_short", [False, True])
def test_a_journal_of_the_former_version_keeps_its_rows(tmp_path, cut_short):
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as old:
        old.execute(
            "CREATE TABLE transfers (site TEXT NOT NULL, key TEXT NOT NULL, class INTEGER NOT NULL, exposure TEXT NOT NULL, "
            "state TEXT NOT NULL CHECK (state IN ('waiting', 'proved', 'told')), sha256 TEXT NOT NULL DEFAULT '', "
            "size INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL DEFAULT 0, "
            "error TEXT NOT NULL DEFAULT '', PRIMARY KEY (site, key)) WITHOUT ROWID"
        )
        rows = [("ncsa", key_of(n), class_of(key_of(n)), exposure_of(key_of(n)), state) for n, state in ((1, "waiting"), (2, "proved"), (3, "told"))]  # fmt: skip
        old.executemany("INSERT INTO transfers (site, key, class, exposure, state) VALUES (?, ?, ?, ?, ?)", rows)
        old.execute("CREATE INDEX arrived ON transfers (exposure, key) WHERE state = 'proved'")
        if cut_short:
            old.execute("ALTER TABLE transfers RENAME TO former")
    for _ in range(2):
        journal = TransferJournal(path, ["ncsa"])
        assert journal.waiting() == {"ncsa": 1}
        assert journal.untold().transfer.key == key_of(2)
    transfer = journal.take("ncsa")
    journal.sent(transfer, "ab", 1)
    assert journal.unproved("ncsa").transfer.key == transfer.key == key_of(1)


# -- deletions ---------------------------------------------------------------------------------------------------------


def test_what_was_deleted_before_it_was_read_back_is_not_sent_again(way):
    way.summit.hold(GOOD)
    way.forwarder.note([KEY])
    way.send()
    deletions.delete(way.base, "raw", KEY, "not wanted")
    way.prove()
    way.now += 60
    way.send()
    way.prove()
    assert KEY not in way.base.objects
    assert (way.journal.take("base"), way.journal.unproved("base")) == (None, None), "nobody tries for ever"
    assert way.said == [("ncsa", False)]


def test_what_was_deleted_everywhere_is_asked_for_no_more(way):
    way.forwarder.note([KEY])
    way.summit.hold(GOOD)
    deletions.delete(way.summit, "raw", KEY, "a question that was answered")
    way.send()
    assert (way.journal.take("ncsa"), way.journal.waiting()) == (None, {"ncsa": 0, "base": 0})
    way.now += 60
    assert way.journal.take("base") is None


def test_a_lost_journal_brings_back_nothing_that_was_deleted(way, tmp_path):
    way.archive()
    deletions.delete(way.base, "raw", KEY, "not wanted")
    other = key_of(2)
    way.summit.hold(GOOD, key=other)
    way.journal = TransferJournal(tmp_path / "anew.db", ["ncsa", "base"])
    way.forwarder = Forwarder(way.summit, [way.ncsa, way.base], way.journal, way._announce)
    sweep = Sweep(way.summit, way.forwarder)
    for _ in range(2):
        sweep.once()
        way.send()
        way.prove()
    assert (KEY in way.base.objects, other in way.base.objects, KEY in way.ncsa.objects) == (False, True, True)


def test_a_site_that_is_away_holds_up_no_other_and_says_later_what_it_has_deleted(way):
    other = key_of(2)
    for key in (KEY, other):
        way.summit.hold(GOOD, key=key)
    deletions.delete(way.base, "raw", KEY, "not wanted")
    sweep = Sweep(way.summit, way.forwarder)
    way.base.away = True
    assert (sweep.once(), way.journal.waiting()) == (2, {"ncsa": 2, "base": 0})
    way.base.away = False
    assert (sweep.once(), way.journal.waiting()) == (1, {"ncsa": 2, "base": 1})
    assert sweep.once() == 0
    way.send()
    assert (KEY in way.base.objects, other in way.base.objects, KEY in way.ncsa.objects) == (False, True, True)


def test_a_sweep_asks_a_site_once_for_a_folder_however_much_is_new(way):
    for number in range(1000):
        way.summit.hold(GOOD, key=key_of(number))
    asked, listing = [], way.ncsa.list
    way.ncsa.list = lambda bucket, prefix: asked.append(prefix) or listing(bucket, prefix)
    sweep, beats = Sweep(way.summit, way.forwarder), []
    assert sweep.once(lambda: beats.append(1)) == 2000
    assert asked == [f"{deletions.PREFIX}LSSTCam/20261122/"]
    assert len(beats) == 5, "it goes on"
    assert sweep.once() == 0
    assert len(asked) == 1, "and not at all where nothing is"


def test_a_deletion_is_about_the_bytes_that_were_there(way):
    way.archive(DAMAGED)
    deletions.delete(way.base, "raw", KEY, "damaged")
    assert "deleted at base: damaged" in deletions.why_deleted(way.base, "raw", KEY, sha256(DAMAGED))
    assert deletions.why_deleted(way.base, "raw", KEY, sha256(GOOD)) == ""
    assert not way.forwarder.replace("base", KEY, "")
    way.base.hold(b"{", key=deletions.record_key(KEY))
    assert "cannot be read" in deletions.why_deleted(way.base, "raw", KEY)
    way.base.hold(b"{}", digest=sha256(b""), key=deletions.record_key(KEY))
    assert deletions.why_deleted(way.base, "raw", KEY) == "", (
        "a store that does not give its record has deleted nothing"
    )


def test_a_notification_of_what_was_deleted_meanwhile_is_no_bad_copy():
    store = Copies("ncsa")
    store.hold(GOOD, key=NAME.key)
    deletions.delete(store, "raw", NAME.key, "not wanted")
    writer = Writer(SimpleNamespace(get_dataset_type=lambda _: None, clone=lambda: None), store)
    assert writer.write([Arrival(NAME, 1.0, "notification")]) == ([], [])
    store.objects.clear()
    _, (bad,) = writer.write([Arrival(NAME, 1.0, "notification")])
    assert "not in the store" in bad.reason


@pytest.mark.parametrize("deleted", [True, False])
def test_the_archiver_stores_again_what_its_store_has_lost_and_not_what_was_deleted(tmp_path, deleted):
    store, journal = Copies("summit"), Journal(tmp_path)
    one = Entry(KEY, sha256(GOOD), len(GOOD), "MC_S_20261122_000001", "R22_S00")
    journal.add(one, GOOD)
    journal.mark_stored(one)
    store.hold(GOOD)
    if deleted:
        deletions.delete(store, "raw", KEY, "room is needed")
    else:
        del store.objects[KEY]
    device = Archiver(Told("MTArchiver"), SimpleNamespace(names=list), journal, None, store)
    device._sweep()
    assert (len(list(journal.pending())), len(list(journal.stored()))) == ((0, 0) if deleted else (1, 0))


@pytest.mark.parametrize("error", [RetriableError("500 for this one"), AwayError("the store is away")])
def test_a_file_that_its_store_does_not_give_now_holds_up_no_other(monkeypatch, error):
    store = Copies("ncsa")
    writer = Writer(SimpleNamespace(get_dataset_type=lambda _: None, clone=lambda: None), store)
    other = replace(NAME, detector="R22_S12")
    store.hold(b"no FITS", key=other.key)
    giving = store.read

    def read(bucket, key):
        if key == NAME.key:
            raise error
        return giving(bucket, key)

    monkeypatch.setattr(store, "read", read)
    arrivals = [Arrival(name, 1.0, "notification") for name in (NAME, other)]
    if isinstance(error, AwayError):
        with pytest.raises(AwayError):
            writer.write(arrivals)
    else:
        good, bad = writer.write(arrivals)
        assert (good, [item.arrival.name for item in bad]) == ([], [other]), (
            "the sweep finds the one that is in neither"
        )


# -- the archive asks --------------------------------------------------------------------------------------------------


def test_quarantine_says_which_bytes_it_put_aside():
    store = Copies("ncsa")
    store.hold(DAMAGED, key=NAME.key)
    writer = Writer.__new__(Writer)
    writer._store = store
    bad = Bad(Arrival(NAME, 0.0, "notification"), "damaged")
    assert writer._quarantine(bad) == sha256(DAMAGED)
    assert writer._quarantine(Bad(bad.arrival, "not in the store")) == ""
    message = Bad(bad.arrival, "damaged", sha256(DAMAGED)).message("ncsa")
    assert (message["key"], message["site"], message["sha256"]) == (NAME.key, "ncsa", sha256(DAMAGED))


def test_requests_are_taken_one_by_one_and_what_is_away_is_the_loops_to_wait_for():
    replaced = []

    def replace(site, key, bad):
        if key == "away":
            raise RetriableError("the summit's store is away")
        replaced.append((site, key, bad))

    def request(key):
        return Delivery(None, {"site": "ncsa", "key": key, "sha256": "ab"})

    forwarder = SimpleNamespace(replace=replace)
    replacements.take(forwarder, [request(KEY), request(KEY)])
    assert replaced == [("ncsa", KEY, "ab")] * 2
    with pytest.raises(RetriableError):
        replacements.take(forwarder, [request("away")])


# -- the keeper's memory -----------------------------------------------------------------------------------------------


class Written(Stamps):
    """A ledger that can be read again."""

    def __init__(self):
        super().__init__()
        self.records = []

    def stamp(self, step, subject, *, time=1.0, reason="", figures=None):
        super().stamp(step, subject, reason=reason)
        self.records.append({
            "step": str(step), "obsId": subject.obs_id, "detector": subject.detector, "groupId": subject.group, "time": time,
            "reason": reason, "figures": figures or {},
        })  # fmt: skip


def announce(keeper, group="g1", sent=900.0):
    keeper.next_visit({
        "scriptSalIndex": 1, "groupId": group, "position": [1.0, 2.0], "startTime": 960.0, "duration": 32.0, "private_sndStamp": sent,
    })  # fmt: skip


def restarted(ledger):
    keeper = Keeper(ledger)
    for record in list(ledger.records):
        keeper.recall(record)
    return keeper


def test_a_restart_forgets_nothing_and_stamps_nothing_twice():
    ledger = Written()
    keeper = Keeper(ledger)
    announce(keeper)
    announce(keeper, "g9")
    keeper.end_readout(readout(1, ALL[:8]))
    keeper.retrieved(missing(1, ALL[0]))
    before = list(ledger.rows)
    keeper = restarted(ledger)
    announce(keeper)
    keeper.end_readout(readout(1, ALL[:8]))
    assert ledger.rows == before, "what came again is known"
    keeper.arrived("MC_S_20261122_000001", ALL[1])
    keeper.check(now=5_000.0)
    ledger.stamp("arrived", Subject("MC_S_20261122_000001", ALL[1], "g1"))
    restarted(ledger).check(now=6_000.0)
    late = ledger.of("late")
    assert sorted(row[1] for row in late) == ["", *ALL[2:8]], "each once, over both"
    arrival = {"obsId": "MC_S_20261122_000001", "detector": ALL[1], "everywhere": True, "size": 10, "time": 1.0}
    restarted(ledger).forwarded(arrival)
    assert ledger.records[-1]["groupId"] == "g1", "the group is known although everything was restarted"


def test_a_visit_that_was_cancelled_or_late_before_a_restart_is_not_late_after_it():
    ledger = Written()
    keeper = Keeper(ledger)
    announce(keeper, "g1")
    announce(keeper, "g2")
    keeper.cancelled({"scriptSalIndex": 1, "groupId": "g1"})
    keeper.check(now=5_000.0)
    restarted(ledger).check(now=6_000.0)
    assert len(ledger.of("late")) == 1


def test_what_is_old_is_forgotten():
    keeper = Keeper(Written())
    announce(keeper)
    keeper.end_readout(readout(1, ALL))
    keeper.check(now=1_000.0 + REMEMBERED_SECONDS / 2)
    assert keeper._expected
    keeper.check(now=2_000.0 + REMEMBERED_SECONDS)
    assert not keeper._expected
    assert not keeper._visits
    assert not keeper._missing
