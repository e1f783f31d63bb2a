"""The slots that a worker has for the time being: its group gives them out and takes them back.

A slot's producer has the slot's transactional id, so whoever takes a slot ends what its last worker has left open, and that
one can publish nothing more, whether it is dead, hangs or wakes up later.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from lsst.daf.butler import Butler

from workloads.common.aside import TOPIC as SET_ASIDE
from workloads.common.consume import ToTopic
from workloads.common.consumer import Receiver
from workloads.common.errors import NonRetriableError, WorkloadError
from workloads.common.kafka import Bus
from workloads.common.ledger import TOPIC as LEDGER
from workloads.common.ledger import Ledger, Subject
from workloads.common.log import about
from workloads.common.plan import Field
from workloads.common.received import Received, Where
from workloads.common.settings import Settings
from workloads.common.slots import Slot, slots
from workloads.common.survivors import Survivors
from workloads.prompt_processing.inputs import Inputs

LOG = logging.getLogger(__name__)
ALERTS = "alerts"
SERVICE = "prompt-processing"
SURVIVORS = f"{SERVICE}-survivors"


class Lease:
    """One slot while a worker has it: what its exposures need, and the producer that nobody else has.

    Parameters
    ----------
    bus, source
        The site's Kafka, and the worker's consumer.
    butler
        The archive's.
    slot
        Which slot.
    """

    def __init__(self, bus: Bus, source: Receiver, butler: Butler, slot: Slot) -> None:
        self.detector = slot.detector
        self.sender = bus.sender(ALERTS, LEDGER, SET_ASIDE, transactional_id=f"{SERVICE}-{slot.name}")
        self.ledger = Ledger(bus, SERVICE, self.sender)
        self.set_aside = ToTopic(bus, source, self.sender, self.ledger, lambda _, record: [subject(record)])
        self.inputs = Inputs(butler, slot.detector)
        self.loaded = False

    def load(self, fields: Iterable[Field]) -> None:
        """Load what exposures of these fields need, the most wanted first; of as many as are kept, if none is announced yet."""
        with about(detector=self.detector.name):
            wanted = list(fields)
            if not wanted:
                self.inputs.preload()
            if all(self.expect(field) for field in wanted):  # what is away is asked once: exposures wait
                all(self.expect(field) for field in reversed(wanted))  # what was used last is let go last
            self.loaded = True
            LOG.info("ready")

    def expect(self, field: Field) -> bool:
        """Load what exposures of a field need; return whether it is there."""
        try:
            self.inputs.calibration(field)
            self.inputs.template(field)
        except WorkloadError as error:
            LOG.warning("not preloaded: %s", error)
            return False
        return True


class Leases:
    """All slots that a worker has.

    Parameters
    ----------
    settings, bus
        The workload's.
    source
        The worker's consumer, whose partitions are its slots.
    butler
        The archive's.
    """

    def __init__(self, settings: Settings, bus: Bus, source: Receiver, butler: Butler) -> None:
        self._bus, self._source, self._butler = bus, source, butler
        self._slots = {slot.partition: slot for slot in slots(settings.site.camera)}
        self._leases: dict[Where, Lease] = {}
        self._strays: dict[Where, ToTopic] = {}
        """What sets aside what was written to partitions of no slot."""

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._leases.values())

    def __len__(self) -> int:
        return len(self._leases)

    def follow(self) -> None:
        """Take the slots that the group has given to this worker meanwhile, and drop those that are others' now.

        Raises
        ------
        RetriableError
            If Kafka does not let it take one yet.
        """
        assigned = self._source.assigned
        for where in self._leases.keys() - assigned:
            lease = self._leases.pop(where)
            LOG.info("%s is another's", lease.detector.name)
        for where in sorted(assigned - self._leases.keys()):
            if where[1] in self._slots:
                self._take(where)

    def of(self, message: Received) -> Lease:
        """Return the lease of the slot that a message is for; errors as of `follow`.

        Raises
        ------
        NonRetriableError
            If no slot has its partition.
        """
        if message.partition not in self._slots:
            raise NonRetriableError(
                f"partition {message.partition} of {message.topic}: no detector's; expected one below {len(self._slots)}"
            )
        return self._leases.get(message.where) or self._take(message.where)

    def set_aside(self, message: Received, content: Any, reason: str, trace: str, attempts: int) -> bool:
        """Set a message aside by its slot's producer."""
        if message.partition in self._slots:
            return self.of(message).set_aside(message, content, reason, trace, attempts)
        if message.where not in self._strays:
            sender = self._bus.sender(SET_ASIDE, transactional_id=f"{SERVICE}-partition-{message.partition}")
            self._strays[message.where] = ToTopic(self._bus, self._source, sender)
        return self._strays[message.where](message, content, reason, trace, attempts)

    def load_one(self, fields: Iterable[Field]) -> None:
        """Load what one of the slots needs, if there is one that lacks it."""
        lease = next((lease for lease in self if not lease.loaded), None)
        if lease is not None:
            lease.load(fields)

    @property
    def loaded(self) -> bool:
        """Whether all of these slots have what they need."""
        return all(lease.loaded for lease in self)

    def _take(self, where: Where) -> Lease:
        slot = self._slots[where[1]]
        self._leases[where] = lease = Lease(self._bus, self._source, self._butler, slot)
        LOG.info("%s is mine", slot.name)
        return lease


def survivors(settings: Settings) -> Survivors:
    """Return where workers say that they lost an exposure alive: its slot moved on, or they were told to end."""
    return Survivors(
        lambda role, partition: Receiver(settings, settings.site.site, SURVIVORS, partitions=[(role, partition)])
    )


def subject(record: dict[str, Any]) -> Subject:
    """Return what a stamp about a record of topic `ingested` names."""
    return Subject(record["obsId"], record["detectorName"], record["groupId"])
