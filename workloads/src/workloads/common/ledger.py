"""The visit's ledger: every step of every detector leaves a stamp, so that any loss or delay has a name."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from workloads.common.kafka import Bus, Sender
from workloads.common.times import tai_now

TOPIC = "dpp.visit.ledger"


class Step(StrEnum):
    """The steps, in the order of a visit that goes well; the last five are the ways in which it does not."""

    ANNOUNCED = "announced"
    EXPECTED = "expected"
    ARRIVED = "arrived"
    VERIFIED = "verified"
    INGESTED = "ingested"
    PROCESSED = "processed"
    ALERTED = "alerted"
    ARCHIVED = "archived"
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"
    FAILED = "failed"
    LATE = "late"
    LOST = "lost"


class Ledger:
    """Writes stamps.

    Parameters
    ----------
    bus
        The Kafka that is the ledger's home.
    service
        Who writes.
    sender
        Producer to use; a transactional one makes stamps part of its transactions.
    """

    def __init__(self, bus: Bus, service: str, sender: Sender) -> None:
        self._bus = bus
        self._service = service
        self._sender = sender

    def stamp(
        self,
        step: Step,
        *,
        obs_id: str = "",
        detector: str = "",
        group: str = "",
        time: float | None = None,
        reason: str = "",
        site: str = "",
        **figures: float,
    ) -> None:
        """Write one stamp; `time` is TAI seconds, now by default. It is delivered with the sender's next flush or commit."""
        record: dict[str, Any] = {
            "groupId": group,
            "obsId": obs_id,
            "detector": detector,
            "step": str(step),
            "time": tai_now() if time is None else time,
            "service": self._service,
            "site": site or self._bus.settings.site.site,
            "reason": reason,
            "figures": {name: float(value) for name, value in figures.items()},
        }
        self._bus.publish(self._sender, TOPIC, record, key=obs_id or group)
