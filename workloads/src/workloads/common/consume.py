"""The one way in which services take messages, so that none of them stops a service and none is lost.

What a handler does decides what becomes of a message:

=====================================  ===================================================================================
it returns                             the message is done, and committed
`RetriableError`                       something is away: the loop waits, keeps its place and stays in its group
`NonRetriableError`, no readable one   it can never be handled: set aside with its reason, and committed
any other exception                    the message is tried `ATTEMPTS` times, then set aside with its traceback
`FencedError`                          the process ends; it is not the message that is wrong
the process dies                       known by the note beside the group's offset; after `ATTEMPTS` the message is set aside
another takes it from the living       no attempt, where processes say so (`Survivors`)
=====================================  ===================================================================================
"""

from __future__ import annotations

import logging
import math
import os
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pydantic import ValidationError

from workloads.common import aside as asides
from workloads.common.aside import Aside
from workloads.common.attempts import ATTEMPTS, Progress, Trouble
from workloads.common.avro import Codec
from workloads.common.consumer import Receiver
from workloads.common.errors import (
    AwayError,
    FencedError,
    NonRetriableError,
    RetriableError,
    UnknownSchemaError,
    WorkloadError,
)
from workloads.common.kafka import Bus
from workloads.common.ledger import Ledger, Step, Subject
from workloads.common.patience import PAUSES_SECONDS
from workloads.common.producer import Sender
from workloads.common.received import Received, Where
from workloads.common.serve import Health, Stop
from workloads.common.survivors import Survivors

LOG = logging.getLogger(__name__)
UNKNOWN_SCHEMA_SECONDS = float(os.environ.get("DPP_UNKNOWN_SCHEMA_SECONDS", "600"))
"""How long a group waits for ids that the registry does not know: registry and topic are mirrored apart."""
_UNKNOWN_AGAIN_SECONDS = 3600.0
"""A registry that has learnt nothing in that time is waited for again only so much later: many odd ids are one wait."""
_TURN_SECONDS = 10.0
"""After so long a turn lets others know that it lives."""
_NEVER = (NonRetriableError, ValidationError)
Decode = Callable[[Received], Any]


@dataclass(frozen=True)
class Delivery:
    """A message with what it says."""

    message: Received
    content: Any


Handle = Callable[[Sequence[Delivery]], None]
Subjects = Callable[[str, Any], Iterable[Subject]]
"""Whom a stamp of the ledger names when a message of a topic, by its role, with this content is set aside."""


SetAside = Callable[[Received, Any, str, str, int], bool]
"""Deals with a message that cannot be handled: what it says if it can be read, the reason, a traceback, the attempts.

It returns whether the message's offset was committed with that.
"""


def avro(bus: Bus, *roles: str) -> dict[str, Decode]:
    """Return the decoders of topics with a declared schema."""
    codec: Codec = bus.codec
    return {role: lambda message: codec.decode(message.role, message.value) for role in roles}


def readable(codec: Codec, messages: Iterable[Received]) -> Iterator[tuple[Received, dict[str, Any]]]:
    """Yield what can be read, for those who only listen: what cannot is its group's business."""
    for message in messages:
        try:
            yield message, codec.decode(message.role, message.value)
        except WorkloadError as error:
            LOG.warning("%s/%d at %d passed over: %s", message.topic, message.partition, message.offset, error)


class ToTopic:
    """Sets messages of a group aside in the topic of the site.

    Parameters
    ----------
    bus
        The site's Kafka.
    receiver
        The group's consumer.
    sender
        A producer for topic `set-aside`. A transactional one makes the message's offset part of the same transaction.
    ledger
        Where the subjects of messages are stamped as failed, if `subjects` knows any; of the same producer.
    """

    def __init__(
        self,
        bus: Bus,
        receiver: Receiver,
        sender: Sender,
        ledger: Ledger | None = None,
        subjects: Subjects = lambda _role, _content: (),
    ) -> None:
        self._bus, self._receiver, self._sender = bus, receiver, sender
        self._ledger, self._subjects = ledger, subjects

    def __call__(self, message: Received, content: Any, reason: str, trace: str, attempts: int) -> bool:
        """Set a message aside, durably."""
        principal = self._bus.settings.site.principal
        aside = Aside.of(message, self._receiver.group, principal, reason, trace, attempts)
        if self._sender.transactional:
            with self._sender.transaction(self._receiver, message):
                self._write(aside, content)
        else:
            self._write(aside, content)
            self._sender.flush()
        LOG.error("%s: %s/%d at %d set aside: %s", aside.group, *message.where, message.offset, reason)
        asides.COUNT.labels(aside.group, message.role).inc()
        return self._sender.transactional

    def _write(self, aside: Aside, content: Any) -> None:
        asides.write(self._bus, self._sender, aside)
        if self._ledger is not None and content is not None:
            for subject in self._subjects(aside.role, content):
                self._ledger.stamp(Step.FAILED, subject, reason=aside.reason)


def passed_over(message: Received, _content: Any, reason: str, trace: str, _attempts: int) -> bool:
    """Pass over a message that another group of the same workload owes an answer."""
    LOG.error("%s/%d at %d passed over: %s %s", *message.where, message.offset, reason, trace)
    return False


class Loop:
    """Takes the messages of a group and gives them to a handler, in their order, until each is done or set aside.

    Parameters
    ----------
    receiver
        The group's consumer.
    decode
        How messages are read, by the role of their topic.
    handle
        The handler. It is given one message, or up to `most`; if it fails with several, it is given them one by one. It
        may be given the same message again at any time after a restart.
    set_aside
        Where messages go that cannot be handled.
    most
        How many messages it takes at once.
    commits
        Whether a return of `handle` is committed here; otherwise its own transactions have the offsets.
    patience
        Seconds that a message may wait for what only it lacks, then those behind it have their turn; without end unless
        given. What is away (`AwayError`) is always waited for.
    oldest_open
        The oldest message of a partition that the handler has not finished, although it returned: no offset behind it is
        committed, so that it comes again after a restart.
    survivors
        Where this process says that it lost a message alive, if others of its group may take it over in mid-handling.
    clock
        Seconds of a clock that is never set.
    """

    def __init__(
        self,
        receiver: Receiver,
        decode: Mapping[str, Decode],
        handle: Handle,
        set_aside: SetAside,
        *,
        most: int = 1,
        commits: bool = True,
        patience: float = math.inf,
        oldest_open: Callable[[Where], float] = lambda _: math.inf,
        survivors: Survivors | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._receiver, self._decode, self._handle, self._set_aside = receiver, decode, handle, set_aside
        self._most, self._commits, self._patience = most, commits, patience
        self._clock = clock
        self._progress = Progress(receiver, oldest_open, survivors)
        self._waiting: deque[Received] = deque()
        self._trouble: Trouble | None = None
        self._again = -math.inf
        self._singly = 0
        """So many of the waiting messages are taken one by one: together they failed."""
        self._unknown_since = -math.inf

    def run(
        self,
        stop: Stop,
        health: Health,
        name: str,
        *,
        beside: Callable[[], None] = lambda: None,
        hold: Callable[[], bool] = lambda: False,
        timeout: float = 0.5,
    ) -> None:
        """Take messages until told to stop; `beside` is called between them, and none are taken while `hold` says so."""
        while not stop:
            health.beat(name)
            self.turn(timeout, hold=hold())
            beside()

    def turn(self, timeout: float = 0.5, *, hold: bool = False) -> None:
        """Wait `timeout` seconds for messages and handle them; those that wait for something are tried when it is time.

        Raises
        ------
        FencedError
            If this process cannot go on.
        """
        self._receive(timeout, hold=hold)
        end = self._clock() + _TURN_SECONDS
        while self._waiting and not hold and self._again <= self._clock() < end:
            try:
                self._take()
            except RetriableError as error:
                self._wait(error)
        self.commit()

    def commit(self) -> None:
        """Commit how far this group is; where Kafka does not take it, that is done with the next messages."""
        self._progress.commit()

    def survive(self) -> None:
        """Say that this process is told to end: whoever takes over what it has in hand does so from the living.

        It may be called from another thread than all else.
        """
        self._progress.survive()

    @property
    def waiting(self) -> bool:
        """Whether there are messages that wait to be handled."""
        return bool(self._waiting)

    def _receive(self, timeout: float, *, hold: bool) -> None:
        busy = hold or bool(self._waiting) or self._clock() < self._again
        due = self._again - self._clock() if self._waiting and not hold else timeout
        try:
            if busy:
                self._waiting += self._receiver.idle(max(0.0, min(timeout, due)))
            else:
                self._waiting += self._receiver.receive(timeout, self._most)
        except RetriableError as error:
            LOG.warning("%s: %s; asking again", self._receiver.group, error)
            self._again = self._clock() + PAUSES_SECONDS[0]
        self._forget(self._receiver.lost())

    def _forget(self, lost: set[Where]) -> None:
        """Drop what others of the group have now."""
        if lost:
            self._waiting = deque(message for message in self._waiting if message.where not in lost)
            self._progress.forget(lost)

    # -- one message, or some ------------------------------------------------------------------------------------------

    def _take(self) -> None:
        trouble = self._examine(self._waiting[0])
        if trouble.hopeless:
            self._put_aside(trouble)
            return
        batch, contents = self._read(trouble)
        if not batch:
            return
        self._progress.begin(batch, trouble)
        try:
            if contents:
                self._handle(contents)
        except RetriableError:
            raise
        except FencedError:  # another has its place, and goes on with it
            self._progress.survive()
            raise
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is the message's
            self._progress.failed()
            self._failed(batch, trouble, error)
        else:
            self._done(batch, [] if self._commits else [delivery.message for delivery in contents])

    def _examine(self, first: Received) -> Trouble:
        """Return what is known of the first message, from this process or those before."""
        if self._trouble is None or self._trouble.message is not first:
            self._trouble = self._progress.trouble(first)
        return self._trouble

    def _read(self, trouble: Trouble) -> tuple[list[Received], list[Delivery]]:
        """Return the messages to take together, and those of them that are for this group with what they say."""
        batch: list[Received] = []
        contents: list[Delivery] = []
        alone = trouble.attempts > 0 or self._alone(trouble.message)
        for message in islice(self._waiting, 1 if alone else self._most):
            if batch and self._alone(message):
                break
            if asides.is_for(message, self._receiver.group):
                try:
                    contents.append(Delivery(message, self._decode[message.role](message)))
                except RetriableError:
                    if batch:
                        break
                    raise
                except Exception as error:  # noqa: BLE001 - whatever it raises, these bytes cannot be read
                    if batch:
                        break
                    trouble.attempts += 1
                    self._give_up(trouble, error)
                    return [], []
            batch.append(message)
        return batch, contents

    def _alone(self, message: Received) -> bool:
        """Tell whether a message is taken by itself: with others, it has failed or ended a process."""
        return self._singly > 0 or self._progress.cut_short(message)

    def _failed(self, batch: list[Received], trouble: Trouble, error: Exception) -> None:
        if len(batch) > 1:
            LOG.warning("%d messages failed together (%s); one by one", len(batch), error)
            self._singly = len(batch)
            return
        trouble.attempts += 1
        if isinstance(error, _NEVER) or trouble.attempts >= ATTEMPTS:
            self._give_up(trouble, error)
        else:
            self._pause(trouble, f"attempt {trouble.attempts} failed: {type(error).__name__}: {error}")

    def _give_up(self, trouble: Trouble, error: Exception) -> None:
        known = isinstance(error, WorkloadError | ValidationError)
        trouble.hopeless = True
        trouble.reason = str(error) if known else f"{type(error).__name__}: {error}"
        trouble.trace = "" if known else "".join(traceback.format_exception(error))
        self._put_aside(trouble)

    def _put_aside(self, trouble: Trouble) -> None:
        message, reason = trouble.message, trouble.reason
        committed = self._set_aside(message, self._content(message), reason, trouble.trace, trouble.attempts)
        self._done([message], [message] if committed else [])

    def _content(self, message: Received) -> Any:
        try:
            return self._decode[message.role](message)
        except Exception:  # noqa: BLE001 - then nobody knows what it is about
            return None

    def _done(self, batch: list[Received], committed: list[Received]) -> None:
        """Go on behind some messages, some of which were committed with what came of them."""
        for _ in batch:
            self._waiting.popleft()
        self._singly = max(0, self._singly - len(batch))
        self._trouble = None
        self._progress.done(batch, committed)

    # -- waiting -------------------------------------------------------------------------------------------------------

    def _wait(self, error: RetriableError) -> None:
        """Keep the place until what is away is back, or patience ends."""
        trouble = self._trouble
        if trouble is None or trouble.message is not self._waiting[0]:
            trouble = Trouble(self._waiting[0])
        pause = self._pause(trouble, str(error))
        trouble.waited += 0.0 if isinstance(error, AwayError) else pause
        if not trouble.hopeless and self._waited_enough(trouble, error):
            trouble.hopeless, trouble.reason, self._again = True, str(error), -math.inf
        self._progress.forgive(trouble)

    def _waited_enough(self, trouble: Trouble, error: RetriableError) -> bool:
        if not isinstance(error, UnknownSchemaError):
            return trouble.waited > self._patience
        if self._clock() - self._unknown_since > _UNKNOWN_AGAIN_SECONDS:
            self._unknown_since = self._clock()
        return self._clock() - self._unknown_since > UNKNOWN_SCHEMA_SECONDS

    def _pause(self, trouble: Trouble, reason: str) -> float:
        pause = PAUSES_SECONDS[min(trouble.waits, len(PAUSES_SECONDS) - 1)]
        trouble.waits += 1
        self._again = self._clock() + pause
        message = trouble.message
        LOG.warning(
            "%s: %s at %d, again in %.0f s: %s", self._receiver.group, message.role, message.offset, pause, reason
        )
        return pause
