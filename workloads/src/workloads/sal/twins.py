"""No two processes are one device: a twin is listened for at the start, and again while both may have started at once."""

from __future__ import annotations

import logging
import time

from workloads.common.consumer import Receiver
from workloads.common.errors import NonRetriableError, WorkloadError
from workloads.sal.interfaces import EVENT
from workloads.sal.link import Link

LOG = logging.getLogger(__name__)
LISTEN_SECONDS = 3.0
"""A device beats once a second."""
SETTLE_SECONDS = 3 * LISTEN_SECONDS
"""Two that began to listen at the same time have heard each other by then."""


class Twins:
    """Listens for heartbeats of the same name and index that are not this process's.

    Parameters
    ----------
    link
        The device's topics.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._receiver: Receiver = link.receiver(f"twins-{link.origin}", [link.component.topics[f"{EVENT}heartbeat"]])
        self._settled = time.monotonic() + SETTLE_SECONDS

    def require_none(self) -> None:
        """Listen, and refuse to start beside a twin.

        Raises
        ------
        NonRetriableError
            If one beats.
        """
        end = time.monotonic() + LISTEN_SECONDS
        while time.monotonic() < end:
            if origin := self._heard(0.2):
                raise NonRetriableError(
                    f"{self._link.identity}: another one is alive (process {origin}); stop it with exitControl first"
                )

    def watch(self) -> None:
        """Hear whether there is a twin now; of two that started at once, the one with the larger number ends.

        Raises
        ------
        NonRetriableError
            If it is this one.
        """
        origin = self._heard(0.0)
        if not origin:
            return
        text = f"{self._link.identity}: another one is alive (process {origin}, this is {self._link.origin})"
        if time.monotonic() < self._settled and self._link.origin > origin:
            raise NonRetriableError(f"{text}; both started at once, and this one ends")
        LOG.error("%s; it should end by itself", text)

    def _heard(self, seconds: float) -> int:
        """Return the number of another process; 0 if none was heard."""
        messages = self._receiver.receive(timeout=seconds)
        for message in messages:
            try:
                record = self._link.decode(message)
            except WorkloadError as error:
                LOG.warning("a heartbeat at %d cannot be read: %s", message.offset, error)
                continue
            if record["private_identity"] == self._link.identity and record["private_origin"] != self._link.origin:
                return int(record["private_origin"]) or -1
        return 0

    def close(self) -> None:
        """Listen no more."""
        self._receiver.close()
