"""What comes from Kafka, how far a group is, and the patience with its client library."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

LOG = logging.getLogger(__name__)
TIMEOUT_SECONDS = 30.0
_GRACE_SECONDS = 5.0
Where = tuple[str, int]
"""A topic in Kafka and its partition."""


@dataclass(frozen=True)
class Received:
    """One message: where it stood, when it was written (TAI is the payload's matter, this is UTC seconds), its bytes.

    `role` is what the contract calls its topic, `topic` its name in Kafka.
    """

    role: str
    topic: str
    partition: int
    offset: int
    timestamp: float
    key: bytes | None
    value: bytes
    headers: dict[str, bytes]

    @property
    def where(self) -> Where:
        """Its topic in Kafka and its partition."""
        return self.topic, self.partition


@dataclass(frozen=True)
class Place:
    """How far a group is in a partition, as it has committed it: the next offset, and a note for whoever goes on there."""

    offset: int
    note: str = ""


def after_all(done: Sequence[Received]) -> dict[Where, int]:
    """Return the offset after the last of some messages, by topic and partition."""
    after: dict[Where, int] = {}
    for message in done:
        after[message.where] = max(after.get(message.where, 0), message.offset + 1)
    return after


@contextmanager
def returning(what: str) -> Iterator[None]:
    """End the process if the client library does not come back long after its own time-out.

    librdkafka 2.16 waits for ever for a group's coordinator whose broker was killed and is back; a new process finds it.
    """
    timer = threading.Timer(TIMEOUT_SECONDS + _GRACE_SECONDS, _give_up, (what,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _give_up(what: str) -> None:
    LOG.error("Kafka: %s does not return; the process starts again from its last commit", what)
    os._exit(1)
