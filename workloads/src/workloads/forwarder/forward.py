"""The work: find what is new in the source store, send it to every destination, prove that it arrived."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping

from prometheus_client import Counter, Gauge, Histogram

from workloads.common.errors import NonRetriableError, RetriableError
from workloads.common.s3 import Store, sha256
from workloads.common.serve import Health
from workloads.forwarder.journal import Transfer, TransferJournal

LOG = logging.getLogger(__name__)
BUCKET = "raw"
_SWEPT = 200
"""Keys that a sweep gives to the journal at once."""
SENT = Counter("forwarder_bytes", "Bytes proved to have arrived", ["site"])
FAILED = Counter("forwarder_failures", "Failed attempts", ["site"])
WAITING = Gauge("forwarder_waiting", "Objects that wait", ["site"])
SECONDS = Histogram("forwarder_seconds", "Seconds of one transfer", ["site"])

Announce = Callable[[str, Mapping[str, object]], None]


class Forwarder:
    """Sends objects from one store to others.

    Parameters
    ----------
    source, destinations
        The stores.
    journal
        What is to do and what is done.
    announce
        Where events go: ``imageForwarded`` for each arrival.
    """

    def __init__(self, source: Store, destinations: list[Store], journal: TransferJournal, announce: Announce) -> None:
        self._source, self._destinations, self._journal, self._announce = source, destinations, journal, announce
        self._wake = threading.Condition()

    def note(self, keys: list[str]) -> int:
        """Take new objects up; return how many were new."""
        new = self._journal.add(keys)
        if new:
            with self._wake:
                self._wake.notify_all()
        return new

    def sweep(self) -> int:
        """Note all that the source store holds, because an event can be lost; return how many transfers were unknown.

        Some at a time, so that nobody waits long for the journal, whatever the store holds.
        """
        keys = (item.key for item in self._source.list(BUCKET, "LSSTCam/"))
        found = 0
        while batch := list(itertools.islice(keys, _SWEPT)):
            found += self.note(batch)
        return found

    def tell(self) -> None:
        """Announce every raw image that has arrived; one that could not be announced is the next time.

        Raises
        ------
        RetriableError
            If the announcements do not get through.
        """
        while (arrival := self._journal.untold()) is not None:
            if (raw := arrival.transfer.raw) is not None:
                content = {
                    "obsid": raw.exposure.obs_id, "detector": raw.detector, "key": arrival.transfer.key, "sha256": arrival.sha256,
                    "size": arrival.size, "site": arrival.transfer.site, "everywhere": arrival.everywhere,
                }  # fmt: skip
                self._announce("imageForwarded", content)
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
            FAILED.labels(store.site).inc()
            pause = self._journal.failed(transfer, str(error))
            LOG.warning("%s to %s failed, again in %.1f s: %s", transfer.key, store.site, pause, error)
            return
        self._journal.proved(transfer, digest, size)
        SENT.labels(store.site).inc(size)
        SECONDS.labels(store.site).observe(time.monotonic() - begun)

    def _copy(self, key: str, store: Store) -> tuple[str, int]:
        """Copy one object; both ends must agree on the digest of what was read here."""
        data = self._source.get(BUCKET, key)
        expected = self._source.digest(BUCKET, key) or sha256(data)  # what others put there may have none
        if store.digest(BUCKET, key) != expected:
            store.put(BUCKET, key, data, expected)
            found = store.digest(BUCKET, key)
            if found != expected:
                raise RetriableError(f"{key}: {store.site} has digest {found}, expected {expected}")
        return expected, len(data)
