"""One question per service, from the archive: the smallest proof through its own interface that it does its work."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import cached_property

import sqlalchemy

from workloads.common import deletions
from workloads.common.aside import Asides
from workloads.common.consume import readable
from workloads.common.consumer import Receiver
from workloads.common.errors import NonRetriableError, RetriableError
from workloads.common.kafka import Bus
from workloads.common.ledger import TOPIC as LEDGER
from workloads.common.ledger import Ledger, Step, Subject
from workloads.common.names import ExposureName
from workloads.common.s3 import Item, Store
from workloads.common.settings import Settings
from workloads.common.slots import slots

ARCHIVE, SUMMIT, BASE = "ncsa", "summit", "base"
BUCKET = "raw"
INGESTED = "ingested"
DAY = 20160101
"""Observing day of everything that is asked: before the camera was built, so no night has it."""
PATIENCE_SECONDS = 45.0
"""How long an answer may take; the slowest question waits for a sweep that comes every 30 s."""
_LEFT_SECONDS = 3600.0
"""Objects of questions that were not answered stay so long: the service may be back, and answers them then."""
_RECORDED_SECONDS = 7 * 86400.0
"""Records of their deletion stay longer than any way is cut."""


class Asked:
    """What a question is about: an exposure that nobody has taken.

    Parameters
    ----------
    settings
        Those of a workload at the archive.
    number
        Number of the exposure.
    """

    def __init__(self, settings: Settings, number: int) -> None:
        self.settings, self.number, self.exposure = settings, number, ExposureName(DAY, number)
        self._stores: dict[str, Store] = {}

    @cached_property
    def bus(self) -> Bus:
        """The archive's Kafka; its topics need no schema registry, which has a question of its own."""
        return Bus(self.settings)

    def store(self, site: str) -> Store:
        """Return the object store of a site."""
        if site not in self._stores:
            self._stores[site] = Store(self.settings, site, BUCKET)
        return self._stores[site]

    def await_stamp(self, tell: Callable[[], None], step: Step) -> None:
        """Call `tell` and wait until the ledger has a stamp of the exposure."""
        receiver = Receiver(
            self.settings, ARCHIVE, f"health-{time.time_ns()}", partitions=[(LEDGER, 0)], start="latest"
        )

        def seen() -> bool:
            records = readable(self.bus.codec, receiver.receive(timeout=0.5))
            return any(record["obsId"] == self.exposure.obs_id and record["step"] == step for _, record in records)

        try:
            tell()
            await_answer(seen, f"{self.exposure.obs_id} {step} in the ledger")
        finally:
            receiver.close()

    def dismiss(self) -> None:
        """Dismiss the messages that were set aside because of what was asked, now or long ago."""
        asides = Asides(self.bus, f"health-{time.time_ns()}")
        own = f"_{DAY}_".encode()
        asides.dismiss(one for one in asides.open() if one.role == INGESTED and own in one.value)

    def tidy(self) -> None:
        """Delete what was made by asking, now or long ago, in the stores that were asked.

        With a record of each deletion, so that no sweep brings it back; records go in their turn.
        """
        for store in self._stores.values():
            for item in self._left(store, "", _LEFT_SECONDS):
                deletions.delete(store, BUCKET, item.key, "an answered question of `dpp service check`")
            for item in self._left(store, "quarantine/", _LEFT_SECONDS):
                store.delete(BUCKET, item.key)
            for item in self._left(store, deletions.PREFIX, _RECORDED_SECONDS, own=False):
                store.delete(BUCKET, item.key)

    def _left(self, store: Store, prefix: str, seconds: float, *, own: bool = True) -> list[Item]:
        """Return what was made by asking below a prefix of a store: older than so many seconds, or by this question."""
        items = list(store.list(BUCKET, f"{prefix}LSSTCam/{DAY}/"))
        return [
            item
            for item in items
            if (own and self.exposure.obs_id in item.key) or time.time() - item.modified > seconds
        ]


def await_answer(condition: Callable[[], bool], what: str) -> None:
    """Wait until `condition` holds.

    Raises
    ------
    RetriableError
        If it does not in `PATIENCE_SECONDS`.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RetriableError(f"not within {PATIENCE_SECONDS:g} s: {what}")
        time.sleep(0.5)


def ingest(asked: Asked) -> None:
    """Deliver a broken raw file: it must be put aside, with the reason beside it."""
    store = asked.store(ARCHIVE)
    key = asked.exposure.key(asked.settings.site.camera.detectors[0].name)
    reason = f"quarantine/{key}.reason.json"
    if store.digest(BUCKET, reason) is None:
        store.put(BUCKET, key, b"no FITS file")
        await_answer(lambda: store.digest(BUCKET, reason) is not None, f"a reason at {reason}")
    if (found := json.loads(store.get(BUCKET, reason))["key"]) != key:
        raise NonRetriableError(f"{reason}: about {found}; expected about {key}")


def forward(asked: Asked) -> None:
    """Store an object at the summit: it must arrive at the base and at the archive, with its digest."""
    key = asked.exposure.expected_sensors_key
    digest = asked.store(SUMMIT).put(BUCKET, key, json.dumps({"asked": asked.number}).encode())
    targets = [asked.store(site) for site in (BASE, ARCHIVE)]
    await_answer(lambda: all(store.digest(BUCKET, key) == digest for store in targets), f"{key} at both sites")


def process(asked: Asked) -> None:
    """Announce a raw image that no store has: its worker must say in the ledger that it has failed, and why."""
    slot = next(one for one in slots(asked.settings.site.camera) if one.lane == 0)
    obs_id = asked.exposure.obs_id
    record = {
        "obsId": obs_id, "exposure": asked.exposure.exposure_id, "detector": slot.detector.id, "detectorName": slot.detector.name,
        "groupId": f"asked-{asked.number}", "uri": f"s3://{BUCKET}/{asked.exposure.key(slot.detector.name)}", "sha256": "0" * 64, "size": 0,
        "endOfReadout": 0.0, "ingested": 0.0,
    }  # fmt: skip
    sender = asked.bus.sender(INGESTED)

    def announce() -> None:
        asked.bus.publish(sender, INGESTED, record, key=obs_id, partition=slot.partition)
        sender.flush()

    asked.await_stamp(announce, Step.FAILED)
    asked.dismiss()


def publish(asked: Asked) -> None:
    """Write a record to a topic and read it back."""
    sender = asked.bus.sender(LEDGER)

    def stamp() -> None:
        ledger = Ledger(asked.bus, "health", sender)
        ledger.stamp(Step.LATE, Subject(asked.exposure.obs_id), reason="asked whether event streaming works")
        sender.flush()

    asked.await_stamp(stamp, Step.LATE)


def keep(asked: Asked) -> None:
    """Store an object and read it back."""
    store, key, data = asked.store(BASE), f"LSSTCam/{DAY}/{asked.exposure.obs_id}", str(asked.number).encode()
    store.put(BUCKET, key, data)
    if (found := store.get(BUCKET, key)) != data:
        raise NonRetriableError(f"{key}: {found!r} was read; expected {data!r}, as it was stored")


def query(asked: Asked) -> None:
    """Count the instruments that the Butler knows."""
    asked.settings.export_credentials()
    engine = sqlalchemy.create_engine(
        asked.settings.database_url("butler"), poolclass=sqlalchemy.NullPool, connect_args={"connect_timeout": 10}
    )
    with engine.connect() as connection:
        if not connection.execute(sqlalchemy.text("SELECT count(*) FROM instrument")).scalar():
            raise NonRetriableError("the Butler's registry: no instrument; expected the camera")


QUESTIONS: dict[str, Callable[[Asked], None]] = {
    "data-backbone": ingest,
    "event-streaming": publish,
    "main-camera-archiving": forward,
    "main-camera-prompt-processing": process,
    "object-storage": keep,
    "relational-databases": query,
}
"""By service of the catalogue."""
