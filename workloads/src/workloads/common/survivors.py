"""Who has lived through the handling of a message: one that was taken from a living process has killed nobody."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import closing

from workloads.common.consumer import Receiver
from workloads.common.errors import RetriableError
from workloads.common.received import Place, Received

LOG = logging.getLogger(__name__)
_MOST = 50
"""Begins of a message that are remembered: a note beside an offset has an end."""


class Survivors:
    """Begins of messages whose process lost them alive: its slot went to another, or it was told to end.

    They stand beside the message's offset in a group that nobody is a member of, so that whoever lost its place in its own
    group can still say so. It takes no store, and no right but that to a group. What does not get there counts as a death.

    Parameters
    ----------
    consumer
        Returns a consumer of one partition, by its topic's role and number, in that group.
    """

    def __init__(self, consumer: Callable[[str, int], Receiver]) -> None:
        self._consumer = consumer

    def add(self, message: Received, begun: str) -> None:
        """Say that the process that has begun a message lives."""
        try:
            with closing(self._consumer(message.role, message.partition)) as receiver:
                known = self._read(receiver, message)
                note = json.dumps([*known, begun][-_MOST:])
                receiver.commit({message.where: Place(message.offset, note)})
        except RetriableError as error:
            LOG.warning("%s at %d: not noted that its process lives: %s", message.role, message.offset, error)

    def of(self, message: Received) -> frozenset[str]:
        """Return the begins of a message that their processes have lived through.

        Raises
        ------
        RetriableError
            If Kafka does not say.
        """
        with closing(self._consumer(message.role, message.partition)) as receiver:
            return frozenset(self._read(receiver, message))

    @staticmethod
    def _read(receiver: Receiver, message: Received) -> list[str]:
        place = receiver.place(message.where)
        if place is None or place.offset != message.offset:
            return []
        try:
            content = json.loads(place.note)
        except ValueError:
            return []
        return [str(one) for one in content] if isinstance(content, list) else []
