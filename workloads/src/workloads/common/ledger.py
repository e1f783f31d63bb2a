"""The visit's ledger: every step of every detector leaves a stamp, so that any loss or delay has a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from workloads.common.kafka import Bus
from workloads.common.producer import Sender
from workloads.common.times import tai_now

TOPIC = "ledger"


class Step(StrEnum):
    """The steps, in the order of a visit that goes well; those from `CANCELLED` on are the ways in which it does not."""

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
    OFF = "off"


ARCHIVED = frozenset({Step.ARCHIVED, Step.QUARANTINED, Step.LOST})
"""Steps with which an exposure needs no more copies: all are made, or it is said why there will be none."""
ANSWERED = frozenset({Step.ALERTED, Step.FAILED, Step.QUARANTINED, Step.LOST})
"""Steps with which an exposure needs no more processing: its alerts are out, or it is said why there are none."""


@dataclass(frozen=True)
class Subject:
    """What a stamp is about: an exposure or, before its readout, a group; a detector, or all where empty."""

    obs_id: str = ""
    detector: str = ""
    group: str = ""


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
        subject: Subject,
        *,
        time: float | None = None,
        reason: str = "",
        figures: Mapping[str, float] | None = None,
    ) -> None:
        """Write one stamp; `time` is TAI seconds, now by default. It is delivered with the sender's next flush or commit."""
        record: dict[str, Any] = {
            "groupId": subject.group,
            "obsId": subject.obs_id,
            "detector": subject.detector,
            "step": str(step),
            "time": tai_now() if time is None else time,
            "service": self._service,
            "site": self._bus.settings.site.site,
            "reason": reason,
            "figures": {name: float(value) for name, value in (figures or {}).items()},
        }
        self._bus.publish(self._sender, TOPIC, record, key=subject.obs_id or subject.group)
