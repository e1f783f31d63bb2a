"""A message that is taken from living processes, however often, is no message that kills them; deaths are counted as before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kafka_in_memory import Broker, Clock, Site
from unit.workloads.test_consume import Group, Killed
from workloads.common.aside import Aside, Asides
from workloads.common.attempts import ATTEMPTS
from workloads.common.consume import Delivery
from workloads.common.errors import AwayError, FencedError
from workloads.prompt_processing.leases import SERVICE, SURVIVORS, survivors
from workloads.prompt_processing.worker import INGESTED


class Worker(Group):
    """A worker of one slot, whose process is another after each that is over."""

    def __init__(self, at: Site) -> None:
        super().__init__(at, SERVICE, INGESTED, survivors=survivors(at.bus.settings))

    def life(self, what: Callable[[Worker], None]) -> None:
        """Be one process, to which something happens while it has a message in hand."""

        def fails(_: Delivery) -> None:
            what(self)

        self.fails = fails
        with suppress(FencedError, Killed):
            self.run(5.0)
        self.fails = lambda _: None
        self.start()

    def refused(self) -> None:
        """Let Kafka take no more offsets of this process: another has its slot."""
        self.receiver.commit = lambda *_, **__: None  # type: ignore[method-assign]
        self.receiver._lost.add((self.at.names[self.role], 0))


def fenced(worker: Worker) -> None:
    worker.refused()
    raise FencedError("another has its place")


def stands_still(worker: Worker) -> None:
    worker.refused()
    raise AwayError("alert database: away")


def told_to_end(worker: Worker) -> None:
    thread = threading.Thread(target=worker.loop.survive)
    thread.start()
    thread.join()
    raise Killed


def dies(_: Worker) -> None:
    raise Killed


HANDED_OVER = {"fenced": fenced, "it stood still": stands_still, "it was told to end": told_to_end}


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker(Clock())
    made.patch(monkeypatch)
    return made


@pytest.fixture
def worker(tmp_path: Path, broker: Broker) -> Worker:
    at = Site(tmp_path, broker, "prompt-processing", "ncsa")
    at.publish(INGESTED, at.record(INGESTED))
    return Worker(at)


@pytest.fixture
def listed(tmp_path: Path, broker: Broker) -> Callable[[], list[Aside]]:
    return lambda: Asides(Site(tmp_path, broker, "health", "ncsa").bus, "health-1").open()


@pytest.mark.parametrize("how", HANDED_OVER)
def test_a_slot_that_moves_on_again_and_again_sets_nothing_aside(worker: Worker, listed: Any, how: str) -> None:
    for _ in range(3 * ATTEMPTS):
        worker.life(HANDED_OVER[how])
    worker.run()
    assert (worker.done, listed()) == ([0], [])


def test_slots_that_move_for_one_reason_and_another_set_nothing_aside(worker: Worker, listed: Any) -> None:
    for what in (*HANDED_OVER.values(), dies, *HANDED_OVER.values(), dies, *HANDED_OVER.values()):
        worker.life(what)
    worker.run()
    assert (worker.done, listed()) == ([0], [])


@pytest.mark.parametrize("how", HANDED_OVER)
def test_between_them_deaths_are_counted(worker: Worker, listed: Any, how: str) -> None:
    for _ in range(ATTEMPTS):
        worker.life(HANDED_OVER[how])
        worker.life(dies)
    worker.run()
    (aside,) = listed()
    assert (worker.done, aside.attempts) == ([], ATTEMPTS)
    assert aside.reason == f"its process has died {ATTEMPTS} times while it was handled"


def test_what_fails_by_itself_has_failed_whoever_has_it_next(worker: Worker, listed: Any) -> None:
    def errs(lost: Worker) -> None:
        lost.receiver._lost.add((lost.at.names[INGESTED], 0))
        raise ZeroDivisionError

    worker.life(errs)
    worker.life(errs)
    worker.life(fenced)
    worker.life(errs)
    worker.run()
    (aside,) = listed()
    assert (worker.done, aside.attempts) == ([], ATTEMPTS)


def test_what_another_message_was_spared_is_not_this_ones(worker: Worker, listed: Any) -> None:
    for _ in range(2 * ATTEMPTS):
        worker.life(fenced)
    worker.run(5.0)
    worker.at.publish(INGESTED, worker.at.record(INGESTED))
    for _ in range(ATTEMPTS):
        worker.life(dies)
    worker.run()
    assert (worker.done, [aside.offset for aside in listed()]) == ([0], [1])


def test_who_cannot_say_that_it_lives_counts_as_dead(worker: Worker, broker: Broker, listed: Any) -> None:
    def cut_off(lost: Worker) -> None:
        broker.away = True
        fenced(lost)

    for _ in range(ATTEMPTS):
        worker.life(cut_off)
        broker.away = False
    worker.run()
    assert (worker.done, len(listed())) == ([], 1)


def test_nothing_is_set_aside_as_long_as_survivors_cannot_be_asked(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, listed: Any
) -> None:
    for _ in range(ATTEMPTS):
        worker.life(fenced)

    def away(*_: Any) -> None:
        raise AwayError("Kafka: away")

    with monkeypatch.context() as patched:
        patched.setattr("workloads.common.survivors.Survivors.of", away)
        worker.run(600.0)
        assert (worker.done, listed()) == ([], [])
    worker.run()
    assert (worker.done, listed()) == ([0], [])


@pytest.mark.parametrize("note", ["", "hello", "{}", "7", "[null]"])
def test_what_others_wrote_there_saves_nobody_and_stops_nobody(
    worker: Worker, broker: Broker, listed: Any, note: str
) -> None:
    for _ in range(ATTEMPTS):
        worker.life(dies)
    broker.offsets[SURVIVORS, (worker.at.names[INGESTED], 0)] = 0, note
    worker.run()
    assert (worker.done, len(listed())) == ([], 1)


def test_its_note_does_not_grow_for_ever(worker: Worker, broker: Broker) -> None:
    for _ in range(100):
        worker.life(fenced)
    place = broker.place(SURVIVORS, worker.at.names[INGESTED])
    own = worker.place()
    assert place is not None
    assert own is not None
    assert max(len(place[1]), len(own[1])) < 1024
    worker.run()
    assert worker.done == [0]
