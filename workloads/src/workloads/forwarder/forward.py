"""The work: find what is new in the source store, send it to every destination, prove that it arrived."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping

from prometheus_client import Counter, Gauge, Histogram

from workloads.common.deletions import deleted_keys, why_deleted
from workloads.common.errors import NonRetriableError, RetriableError
from workloads.common.s3 import MissingObjectError, Store, sha256
from workloads.common.serve import Health
from workloads.forwarder.journal import Sent, Transfer, TransferJournal

LOG = logging.getLogger(__name__)
BUCKET = "raw"
_SWEPT = 200
"""Keys that a sweep gives to the journal at once."""
SENT = Counter("forwarder_bytes", "Bytes that a site took", ["site"])
FAILED = Counter("forwarder_failures", "Failed attempts", ["site"])
WAITING = Gauge("forwarder_waiting", "Objects that wait", ["site"])
REPLACED = Counter("forwarder_replaced", "Bad copies that were replaced by a good one", ["site"])
SECONDS = Histogram("forwarder_seconds", "Seconds of one transfer", ["site"])

Announce = Callable[[Mapping[str, object]], None]


class Forwarder:
    """Sends objects from one store to others.

    Parameters
    ----------
    source, destinations
        The stores.
    journal
        What is to do and what is done.
    announce
        Whom each arrival is told.
    """

    def __init__(self, source: Store, destinations: list[Store], journal: TransferJournal, announce: Announce) -> None:
        self._source, self._destinations, self._journal, self._announce = source, destinations, journal, announce
        self._wake = threading.Condition()

    def note(self, keys: list[str], later: Container[tuple[str, str]] = ()) -> int:
        """Take new objects up, but not those sites and objects that come `later`; return how many were new."""
        new = self._journal.add(keys, later)
        if new:
            with self._wake:
                self._wake.notify_all()
        return new

    def note_swept(self, folder: str, keys: Iterable[str], beat: Callable[[], None] = lambda: None) -> int:
        """Note what a sweep finds in a folder, because an event can be lost; return how many transfers were unknown.

        Some at a time, so that nobody waits long for the journal, whatever the store holds, and `beat` is called with each.
        What was deleted at a site is not brought back there, if the journal was lost and all is compared again; what a site
        that is away has deleted, it says at a later sweep.
        """
        deleted: dict[str, frozenset[str] | None] = {}
        number, left = 0, iter(keys)
        while batch := list(itertools.islice(left, _SWEPT)):
            beat()
            new = self._journal.unknown(batch)
            for site in {site for site, _ in new} - deleted.keys():
                deleted[site] = self._deleted(site, folder)
            later = {(site, key) for site, key in new if deleted[site] is None}
            for site, key in new:
                if key in (deleted[site] or ()):
                    self._refuse(site, key, f"deleted at {site}")
            if new:
                number += self.note(list(dict.fromkeys(key for _, key in new)), later)
        return number

    def _deleted(self, site: str, folder: str) -> frozenset[str] | None:
        """Return what was deleted at a site of a folder; None if it does not answer."""
        try:
            return frozenset(deleted_keys(self._at(site), BUCKET, folder))
        except RetriableError as error:
            LOG.warning("%s: %s; what is new goes there later", site, error)
            return None

    def keep_only(self, folders: set[str]) -> int:
        """Forget what is over of all folders but these, those that the source store has; return how many transfers that was.

        The journal is then as large as the store, and not as all nights that ever were.
        """
        return sum(self._journal.forget(folder) for folder in sorted(self._journal.folders() - folders))

    def _at(self, site: str) -> Store:
        return next(store for store in self._destinations if store.site == site)

    def _refuse(self, site: str, key: str, why: str) -> None:
        LOG.warning("%s: not sent to %s: %s", key, site, why)
        self._journal.refused(site, key, why)

    def tell(self, beat: Callable[[], None] = lambda: None) -> None:
        """Announce every raw image that was read back from a site; one that could not be announced is the next time.

        `beat` is called as it goes on.

        Raises
        ------
        RetriableError
            If the announcements do not get through.
        """
        while (arrival := self._journal.untold()) is not None:
            beat()
            if (raw := arrival.transfer.raw) is not None:
                content = {
                    "obsId": raw.exposure.obs_id, "detector": raw.detector, "key": arrival.transfer.key, "sha256": arrival.sha256,
                    "size": arrival.size, "site": arrival.transfer.site, "everywhere": arrival.everywhere,
                }  # fmt: skip
                self._announce(content)
            self._journal.told(arrival)

    def work(self, store: Store, stopped: Callable[[], bool], health: Health, name: str) -> None:
        """Send to one destination until told to stop."""
        while not stopped():
            health.beat(name)
            transfer = self._journal.take(store.site)
            if transfer is None:
                with self._wake:
                    self._wake.wait(0.5)
                WAITING.labels(store.site).set(self._journal.waiting()[store.site])
                continue
            self._send(transfer, store)

    def _send(self, transfer: Transfer, store: Store) -> None:
        begun = time.monotonic()
        try:
            digest, size = self._copy(transfer.key, store)
        except (RetriableError, NonRetriableError) as error:
            if isinstance(error, MissingObjectError) and (why := self._why_gone(transfer.key, self._source)):
                self._refuse(store.site, transfer.key, why)
                return
            FAILED.labels(store.site).inc()
            pause = self._journal.failed(transfer, str(error))
            LOG.warning("%s to %s failed, again in %.1f s: %s", transfer.key, store.site, pause, error)
            return
        self._journal.sent(transfer, digest, size)
        SENT.labels(store.site).inc(size)
        SECONDS.labels(store.site).observe(time.monotonic() - begun)

    def _copy(self, key: str, store: Store) -> tuple[str, int]:
        """Copy one object, unless the store says that it has it; what it really has is for `prove` to see."""
        data, expected = self._good(key, store)
        if store.digest(BUCKET, key) != expected:
            store.put(BUCKET, key, data, expected)
        return expected, len(data)

    def _good(self, key: str, target: Store) -> tuple[bytes, str]:
        """Return an object's bytes and digest from the source or, where its copy is bad or lost, from another site."""
        refused: NonRetriableError | None = None
        for store in (self._source, *(one for one in self._destinations if one.site != target.site)):
            try:
                data = store.get(BUCKET, key)
            except NonRetriableError as error:
                refused = refused or error
            else:
                if refused:
                    LOG.error("%s: taken from %s, because %s", key, store.site, refused)
                return data, sha256(data)
        raise refused or NonRetriableError(f"{key}: no site to take it from")

    @staticmethod
    def _why_gone(key: str, store: Store) -> str:
        """Return why an object that no site has was deleted; empty if it was not, or nobody can tell now."""
        try:
            return why_deleted(store, BUCKET, key)
        except RetriableError:
            return ""

    # -- proof ---------------------------------------------------------------------------------------------------------

    def prove(self, store: Store, stopped: Callable[[], bool], health: Health, name: str) -> None:
        """Read back what one destination took, until told to stop: only that counts as arrived.

        It takes the way that nothing else takes, from the archive to the summit, and nobody waits for it.
        """
        while not stopped():
            health.beat(name)
            sent = self._journal.unproved(store.site)
            if sent is None:
                with self._wake:
                    self._wake.wait(0.5)
                continue
            self._prove(sent, store)

    def _prove(self, sent: Sent, store: Store) -> None:
        key = sent.transfer.key
        try:
            if wrong := self._wrong(sent, store):
                if why := why_deleted(store, BUCKET, key, sent.sha256):
                    self._refuse(store.site, key, why)
                    return
                data, digest = self._good(key, store)
                store.put(BUCKET, key, data, digest)
                REPLACED.labels(store.site).inc()
                wrong += "; replaced, to be read back"
        except (RetriableError, NonRetriableError) as error:
            wrong = str(error)
        if not wrong:
            self._journal.proved(sent)
            return
        pause = self._journal.failed(sent.transfer, wrong)
        LOG.error("%s at %s not proved, again in %.1f s: %s", key, store.site, pause, wrong)

    @staticmethod
    def _wrong(sent: Sent, store: Store) -> str:
        """Return what is wrong with a copy; nothing if its bytes have the digest of what was sent."""
        try:
            found = sha256(store.get(BUCKET, sent.transfer.key))
        except NonRetriableError as error:
            return str(error)
        return "" if found == sent.sha256 else f"digest {found}, expected {sent.sha256}"

    def replace(self, site: str, key: str, bad: str) -> bool:
        """Send an object to a site again that found its copy bad; return whether there is a better one.

        Parameters
        ----------
        bad
            Digest of what the site found; empty where it found nothing or could not tell.

        Raises
        ------
        RetriableError
            If a store that may have a better one cannot answer.
        """
        stores = [self._source, *(one for one in self._destinations if one.site != site)]
        if site not in {one.site for one in self._destinations}:
            LOG.warning("%s: %s asks for it, which nothing is forwarded to", key, site)
            return False
        if why := why_deleted(self._at(site), BUCKET, key):
            self._refuse(site, key, why)
            return False
        others = [digest for one in stores if (digest := self._stored(one, key)) is not None]
        if not others or (bad and set(others) == {bad}):
            why = "all sites have the same bytes" if others else "no other site has it"
            LOG.error("%s: bad at %s and not sent again: %s", key, site, why)
            self._journal.refused(site, key, why)
            return False
        LOG.warning("%s: bad at %s; sent again", key, site)
        self._journal.again(site, key)
        with self._wake:
            self._wake.notify_all()
        return True

    @staticmethod
    def _stored(store: Store, key: str) -> str | None:
        """Return the digest that an object has at a site; None if there is none, or none that can be read."""
        digest = store.digest(BUCKET, key)
        if digest != "":
            return digest
        try:
            return sha256(store.get(BUCKET, key))  # others put it there, without a digest
        except NonRetriableError:
            return None
