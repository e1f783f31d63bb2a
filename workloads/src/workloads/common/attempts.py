"""How far a group is and what it has begun, kept beside its offsets: a message that kills its process is known by its attempts."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from workloads.common.consumer import Receiver
from workloads.common.errors import RetriableError
from workloads.common.received import Place, Received, Where, after_all

LOG = logging.getLogger(__name__)
ATTEMPTS = 3
"""How often the handling of a message is begun before it is set aside."""


@dataclass
class Trouble:
    """What has gone wrong with the first of the waiting messages."""

    message: Received
    attempts: int = 0
    waits: int = 0
    waited: float = 0.0
    reason: str = ""
    trace: str = ""
    hopeless: bool = False


class Progress:
    """How far a group is in its partitions, and which messages this process or one before it has begun.

    Parameters
    ----------
    receiver
        The group's consumer.
    oldest_open
        The oldest message of a partition that is not finished: no offset behind it is committed.
    """

    def __init__(self, receiver: Receiver, oldest_open: Callable[[Where], float]) -> None:
        self._receiver, self._oldest_open = receiver, oldest_open
        self._begun: dict[Where, Note] = {}
        """What a former process noted of each partition, or this one since."""
        self._reached: dict[Where, int] = {}
        self._committed: dict[Where, Place] = {}

    def forget(self, lost: Iterable[Where]) -> None:
        """Forget partitions that others of the group have now."""
        for where in lost:
            self._begun.pop(where, None)
            self._reached.pop(where, None)
            self._committed.pop(where, None)

    def trouble(self, first: Received) -> Trouble:
        """Return what processes before this one have left of a message.

        Raises
        ------
        RetriableError
            If Kafka does not say.
        """
        begun = self._begun_at(first.where)
        trouble = Trouble(first, begun.attempts if begun.first == first.offset else 0)
        if trouble.attempts >= ATTEMPTS:
            trouble.hopeless = True
            trouble.reason = f"its process has died {trouble.attempts} times while it was handled"
        return trouble

    def cut_short(self, message: Received) -> bool:
        """Tell whether a process has ended while it handled a message together with others."""
        return message.offset < self._begun_at(message.where).until

    def begin(self, batch: Sequence[Received], attempt: int) -> None:
        """Note beside the group's offsets that the handling of messages begins."""
        notes: dict[Where, Note] = {}
        for message in batch:
            first = notes[message.where].first if message.where in notes else message.offset
            until = max(message.offset + 1, self._begun_at(message.where).until)
            notes[message.where] = Note(first, until if len(batch) == 1 else message.offset + 1, attempt)
        self._commit(notes)

    def done(self, batch: Sequence[Received], committed: Sequence[Received]) -> None:
        """Go on behind some messages, some of which were committed with what came of them."""
        self._reached |= after_all(batch)
        self._committed |= {where: Place(offset) for where, offset in after_all(committed).items()}

    def forgive(self, trouble: Trouble) -> None:
        """Take back that the handling of messages has begun: it was not they that failed."""
        where = trouble.message.where
        noted = self._committed.get(where)
        if noted is not None and noted.note:
            note = Note(trouble.message.offset, self._begun_at(where).until, trouble.attempts)
            self._committed[where] = Place(noted.offset, note.written() if trouble.attempts else "")
            self._receiver.commit({where: self._committed[where]}, wait=False)

    def commit(self) -> None:
        """Commit how far this group is; where Kafka does not take it, that is done with the next messages."""
        try:
            self._commit({})
        except RetriableError as error:
            LOG.warning("%s: %s; again with the next", self._receiver.group, error)

    def _commit(self, notes: Mapping[Where, Note]) -> None:
        """Commit how far this group is, with the notes of what begins now."""
        reached = self._reached | {where: note.first for where, note in notes.items()}
        places = {
            where: Place(int(min(offset, self._oldest_open(where))), notes[where].written() if where in notes else "")
            for where, offset in reached.items()
        }
        new = {where: place for where, place in places.items() if self._committed.get(where) != place}
        if new:
            self._receiver.commit(new)
            self._committed |= new

    def _begun_at(self, where: Where) -> Note:
        if where not in self._begun:
            place = self._receiver.place(where)
            self._begun[where] = Note.read(place.note) if place else Note()
        return self._begun[where]


@dataclass(frozen=True)
class Note:
    """What stands beside a group's offset: which messages were begun together, and how often the first of them."""

    first: int = -1
    until: int = -1
    attempts: int = 0

    def written(self) -> str:
        """Return the text that stands there."""
        return json.dumps({"first": self.first, "until": self.until, "attempts": self.attempts})

    @classmethod
    def read(cls, text: str) -> Note:
        """Read a note; what others have written there is none."""
        try:
            content = json.loads(text)
            return cls(*(int(content[name]) for name in ("first", "until", "attempts")))
        except (ValueError, TypeError, KeyError):
            return cls()
