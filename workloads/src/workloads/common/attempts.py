"""How far a group is and what it has begun, kept beside its offsets: a message that kills its process is known by its attempts."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from uuid import uuid4

from workloads.common.consumer import Receiver
from workloads.common.errors import RetriableError
from workloads.common.received import Place, Received, Where, after_all
from workloads.common.survivors import Survivors

LOG = logging.getLogger(__name__)
ATTEMPTS = 3
"""How often the handling of a message is begun before it is set aside."""


@dataclass
class Trouble:
    """What has gone wrong with the first of the waiting messages."""

    message: Received
    attempts: int = 0
    begun: list[str] = field(default_factory=list)
    """Names of those attempts of which nobody knows better than that they were begun."""
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
    survivors
        Where processes say that they lost a message alive, if others of their group may take it from them.
    """

    def __init__(
        self, receiver: Receiver, oldest_open: Callable[[Where], float], survivors: Survivors | None = None
    ) -> None:
        self._receiver, self._oldest_open, self._survivors = receiver, oldest_open, survivors
        self._in_hand: dict[Where, tuple[Received, str]] = {}
        """What this process has begun and not finished, and the name of that attempt."""
        self._begun: dict[Where, Note] = {}
        """What a former process noted of each partition, or this one since."""
        self._reached: dict[Where, int] = {}
        self._committed: dict[Where, Place] = {}

    def forget(self, lost: Iterable[Where]) -> None:
        """Forget partitions that others of the group have now; what was in hand there did not kill this process."""
        lost = list(lost)
        self.survive(lost)
        for where in lost:
            self._in_hand.pop(where, None)
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
        trouble = Trouble(first)
        if begun.first == first.offset:
            trouble.attempts, trouble.begun = begun.attempts, list(begun.begun)
        if trouble.attempts >= ATTEMPTS and self._survivors is not None:
            self._discount(trouble, self._survivors.of(first))
        if trouble.attempts >= ATTEMPTS:
            trouble.hopeless = True
            trouble.reason = f"its process has died {trouble.attempts} times while it was handled"
        return trouble

    def cut_short(self, message: Received) -> bool:
        """Tell whether a process has ended while it handled a message together with others."""
        return message.offset < self._begun_at(message.where).until

    @staticmethod
    def _discount(trouble: Trouble, lived: frozenset[str]) -> None:
        """Take back the attempts that their processes have lived through."""
        died = [name for name in trouble.begun if name not in lived]
        trouble.attempts -= len(trouble.begun) - len(died)
        trouble.begun = died

    def survive(self, places: Iterable[Where] | None = None) -> None:
        """Say of what is in hand, here or in some partitions, that this process lives, whatever becomes of it there.

        It may be called from another thread than all else.
        """
        if self._survivors is None:
            return
        in_hand = dict(self._in_hand)
        for where in in_hand if places is None else places:
            if where in in_hand:
                self._survivors.add(*in_hand[where])

    def begin(self, batch: Sequence[Received], trouble: Trouble) -> None:
        """Note beside the group's offsets that the handling of messages begins."""
        name = uuid4().hex[:12]
        begun = (*trouble.begun, name)
        notes: dict[Where, Note] = {}
        firsts: dict[Where, Received] = {}
        for message in batch:
            first = firsts.setdefault(message.where, message).offset
            until = max(message.offset + 1, self._begun_at(message.where).until)
            until = until if len(batch) == 1 else message.offset + 1
            notes[message.where] = Note(first, until, trouble.attempts + 1, begun)
        self._commit(notes)
        self._in_hand = {where: (message, name) for where, message in firsts.items()}
        trouble.begun = [*begun]

    def failed(self) -> None:
        """Say that what is in hand has failed by itself: no matter who has it next, that was an attempt."""
        self._in_hand = {}

    def done(self, batch: Sequence[Received], committed: Sequence[Received]) -> None:
        """Go on behind some messages, some of which were committed with what came of them."""
        self._in_hand = {}
        self._reached |= after_all(batch)
        self._committed |= {where: Place(offset) for where, offset in after_all(committed).items()}

    def forgive(self, trouble: Trouble) -> None:
        """Take back that the handling of messages has begun: it was not they that failed."""
        where = trouble.message.where
        noted = self._committed.get(where)
        if noted is not None and noted.note:
            in_hand = self._in_hand.get(where)
            trouble.begun = [name for name in trouble.begun if in_hand is None or name != in_hand[1]]
            note = Note(trouble.message.offset, self._begun_at(where).until, trouble.attempts, tuple(trouble.begun))
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
    """What stands beside a group's offset: which messages were begun together, how often the first of them, and by which names."""  # fmt: skip

    first: int = -1
    until: int = -1
    attempts: int = 0
    begun: tuple[str, ...] = ()

    def written(self) -> str:
        """Return the text that stands there."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Note:
        """Read a note; what others have written there is none."""
        try:
            content = json.loads(text)
            first, until, attempts = (int(content[name]) for name in ("first", "until", "attempts"))
            return cls(first, until, attempts, tuple(map(str, content["begun"])))
        except (ValueError, TypeError, KeyError):
            return cls()
