"""No odd message stops a service, and none is lost: what becomes of each, by what its handler does."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from kafka_in_memory import Broker, Clock, Site
from workloads.common.aside import GIVEN_BACK_FROM, GIVEN_BACK_TO, Aside, Asides
from workloads.common.attempts import ATTEMPTS
from workloads.common.avro import Codec, frame
from workloads.common.consume import UNKNOWN_SCHEMA_SECONDS, Delivery, Loop, ToTopic, avro
from workloads.common.errors import AwayError, FencedError, NonRetriableError, RetriableError
from workloads.common.ledger import TOPIC as LEDGER
from workloads.common.ledger import Ledger, Subject
from workloads.common.names import ExposureName
from workloads.common.received import Received
from workloads.common.schemas import Declared
from workloads.common.sizes import largest
from workloads.common.slots import slots
from workloads.prompt_processing.leases import Lease
from workloads.prompt_processing.packets import Packets
from workloads.prompt_processing.worker import Worker
from workloads.sal import reading
from workloads.sal.interfaces import component

INGESTED = "ingested"


class Killed(BaseException):
    """The process dies: nothing of it goes on."""


class Group:
    """A consumer group with a handler that remembers what it has done."""

    def __init__(self, at: Site, group: str, role: str, decode: Callable[..., Any] = avro, **options: Any) -> None:
        self.at, self.role, self.group, self.options = at, role, group, options
        self.decode = decode
        self.done: list[Any] = []
        self.fails: Callable[[Delivery], None] = lambda _: None
        self.batches: list[int] = []
        self.start()

    def start(self) -> None:
        """Begin, as a new process."""
        self.receiver = self.at.bus.receiver(self.group, self.role)
        sender = self.at.bus.sender("set-aside")
        self.loop = Loop(
            self.receiver,
            self.decode(self.at.bus, self.role),
            self.take,
            ToTopic(self.at.bus, self.receiver, sender),
            clock=self.at.broker.clock,
            **self.options,
        )

    def take(self, deliveries: Any) -> None:
        self.batches.append(len(deliveries))
        for delivery in deliveries:
            self.fails(delivery)
        self.done += [delivery.message.offset for delivery in deliveries]

    def run(self, seconds: float = 60.0) -> None:
        end = self.at.broker.clock.now + seconds
        while self.at.broker.clock.now < end:
            self.loop.turn()

    def place(self) -> tuple[int, str] | None:
        return self.at.broker.place(self.group, self.at.names[self.role])


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker(Clock())
    broker.patch(monkeypatch)
    return broker


@pytest.fixture
def site(broker: Broker, tmp_path: Path) -> Callable[..., Site]:
    return lambda principal, where="ncsa": Site(tmp_path, broker, principal, where)


@pytest.fixture
def listed(site: Callable[..., Site]) -> Callable[..., list[Aside]]:
    return lambda where="ncsa": Asides(site("health", where).bus, "health-1").open()


# -- case 4: bytes that are no record, an unknown id, a record of another schema; an empty one, one too long, one cut short

_ODD: dict[str, tuple[Callable[[Site, str], bytes | None], str]] = {
    "garbage": (lambda _at, _role: b"hello", "not in Confluent framing"),
    "unknown id": (lambda _at, _role: frame(123456, b"abc"), "schema 123456: not found"),
    "record of another schema": (
        lambda at, role: at.record("ingested" if role != "ingested" else "ledger"),
        "; expected ",
    ),
    "nothing": (lambda _at, _role: None, "0 bytes: not in Confluent framing"),
    "too long": (lambda at, role: at.record(role) + b"more", "4 bytes follow its record"),
    "cut short": (lambda at, role: at.record(role)[:-6], "cannot be decoded"),
}
_CONSUMERS = [
    ("data-backbone", "ncsa", "data-backbone-keeper", "next-visit"),
    ("archiver", "summit", "archiver", "readouts"),
    ("data-backbone", "ncsa", "data-backbone-keeper", "forwarded"),
    ("alert-distribution", "ncsa", "alert-distribution", "ledger"),
    ("prompt-processing", "ncsa", "prompt-processing", "ingested"),
]


@pytest.mark.parametrize("odd", _ODD)
@pytest.mark.parametrize(("principal", "where", "group", "role"), _CONSUMERS)
@pytest.mark.parametrize("most", [1, 500])
def test_odd_messages_are_set_aside_and_the_good_ones_around_them_done(
    site: Any, listed: Any, principal: str, where: str, group: str, role: str, odd: str, most: int
) -> None:
    at = site(principal, where)
    make, said = _ODD[odd]
    value = make(at, role)
    places = [at.publish(role, one) for one in (at.record(role), value, at.record(role), value, at.record(role))]
    consumer = Group(at, group, role, most=most)
    consumer.run(2 * UNKNOWN_SCHEMA_SECONDS)
    assert consumer.done == places[::2]
    assert consumer.place() == (5, "")
    found = listed(where)
    assert [(one.group, one.role, one.offset, one.value) for one in found] == [
        (group, role, offset, value or b"") for offset in places[1::2]
    ]
    assert all(said in one.reason and one.workload == principal for one in found)


@pytest.mark.parametrize("odd", _ODD)
@pytest.mark.parametrize(
    ("principal", "where", "group", "event"),
    [
        ("forwarder", "summit", "forwarder", "logevent_imageStored"),
        ("data-backbone", "ncsa", "data-backbone-keeper", "logevent_imageRetrievalForArchiving"),
    ],
)
def test_odd_events_of_the_archiver_are_set_aside_and_the_good_ones_around_them_done(
    site: Any,
    listed: Any,
    monkeypatch: pytest.MonkeyPatch,
    principal: str,
    where: str,
    group: str,
    event: str,
    odd: str,
) -> None:
    at, topic, role = site(principal, where), component("MTArchiver").topic(event), f"MTArchiver.{event}"
    monkeypatch.setattr(reading, "RegistryClient", lambda _: at.registry)
    at.registry.known[20001] = topic.schema
    codec, record = Codec.of({role: Declared(20001, f"{role}-value", topic.schema)}), at.record
    good = codec.encode(role, {field.name: field.default for field in topic.fields})
    monkeypatch.setattr(at, "record", lambda name: good if name == role else record(name))
    make, said = _ODD[odd]
    value = make(at, role)
    places = [at.publish(role, one) for one in (good, value, good, value, good)]
    consumer = Group(at, group, role, reading.decoders, most=500)
    consumer.run(2 * UNKNOWN_SCHEMA_SECONDS)
    assert (consumer.done, consumer.place()) == (places[::2], (5, ""))
    found = listed(where)
    assert [(one.role, one.offset) for one in found] == [(role, offset) for offset in places[1::2]]
    assert all(said in one.reason for one in found)


def test_what_is_kept_of_a_message_is_the_whole_of_it(site: Any, listed: Any) -> None:
    at = site("data-backbone")
    at.publish("forwarded", b"hello", key=b"k", headers=[("h", b"1")], timestamp=1.7e9)
    Group(at, "data-backbone-keeper", "forwarded").run()
    (one,) = listed()
    assert (one.key, one.headers, one.value, one.size, one.timestamp) == (b"k", {"h": b"1"}, b"hello", 8, 1.7e9)
    assert (one.topic, one.partition, one.offset, one.attempts) == (at.names["forwarded"], 0, 0, 1)


@pytest.mark.parametrize("part", ["value", "key", "headers"])
def test_a_message_that_is_too_large_to_be_kept_is_named_and_not_given_back(site: Any, listed: Any, part: str) -> None:
    at = site("data-backbone")
    most = largest(at.bus.settings.site.kafka["ncsa"].message_bytes)
    fitting, taken = b"x" * (most - 2000), b"x" * (most - 10)  # what a broker takes does not fit in with its reason
    more: dict[str, dict[str, Any]] = {
        "value": {}, "key": {"key": taken, "value": b""}, "headers": {"headers": [("h", taken)], "value": b"hello"}
    }  # fmt: skip
    at.publish("forwarded", fitting)
    at.publish("forwarded", **({"value": taken} | more[part]))
    Group(at, "data-backbone-keeper", "forwarded").run()
    asides = Asides(site("health").bus, "health-1")
    kept, named = listed()
    assert kept.value == fitting
    assert (named.value, named.key, named.headers, named.whole) == (b"", None, {}, False)
    assert named.size > most - 20
    assert named.reason
    with pytest.raises(NonRetriableError, match="have its sender send it again"):
        asides.give_back([named])
    assert [one.name for one in asides.give_back([kept])] == [kept.name]


# -- case 10: the registry is away; the store is; Kafka does not take what is set aside; an id becomes known


@pytest.mark.parametrize("role", ["next-visit", "readouts", "forwarded"])
def test_a_registry_that_is_away_is_waited_for_and_nothing_is_skipped(
    site: Any, listed: Any, broker: Broker, role: str
) -> None:
    at = site("data-backbone")
    at.registry.away = True
    definition = at.codec._declared[role].definition
    more = {"name": "more", "type": "int", "default": 0}
    at.registry.known[20001] = definition | {"fields": [*definition["fields"], more]}
    newer = at.record(role)[5:] + b"\x02"
    at.publish(role, frame(20001, newer))
    at.publish(role, at.record(role))
    consumer = Group(at, "data-backbone-keeper", role, most=500)
    consumer.run(36_000.0)
    assert consumer.done == []
    assert listed() == []
    asked = broker.asked[consumer.group]
    assert asked > 36_000 / 35, "a group that does not ask for five minutes loses its place"
    at.registry.away = False
    consumer.run(60.0)
    assert consumer.done == [0, 1]


@pytest.mark.parametrize("error", [AwayError("store: away"), RetriableError("store: 503")])
def test_whatever_is_away_is_waited_for_with_a_pause_that_does_not_grow_for_ever(
    site: Any, listed: Any, error: RetriableError
) -> None:
    at = site("data-backbone")
    for _ in range(3):
        at.publish("forwarded", at.record("forwarded"))
    consumer = Group(at, "data-backbone-keeper", "forwarded", most=2)
    tried = []

    def fails(_: Delivery) -> None:
        tried.append(at.broker.clock.now)
        if len(tried) < 100:
            raise error

    consumer.fails = fails
    consumer.run(3600.0)
    assert consumer.done == [0, 1, 2]
    pauses = [later - earlier for earlier, later in pairwise(tried[:100])]
    assert max(pauses) < 31.0
    assert pauses[0] < pauses[1] < pauses[2]
    assert listed() == []
    assert consumer.place() == (3, ""), "an attempt that something else has spoilt is not the message's"


def test_what_cannot_be_set_aside_now_is_set_aside_later(site: Any, listed: Any, broker: Broker) -> None:
    at = site("data-backbone")
    at.publish("forwarded", at.record("forwarded"))
    consumer = Group(at, "data-backbone-keeper", "forwarded")

    def fails(_: Delivery) -> None:
        broker.away = True
        raise NonRetriableError("never")

    consumer.fails = fails
    consumer.run(600.0)
    broker.away = False
    consumer.run()
    assert [one.reason for one in listed()] == ["never"]
    assert consumer.batches == [1]
    assert consumer.place() == (1, "")


def test_an_id_that_becomes_known_in_time_is_read(site: Any, listed: Any) -> None:
    at = site("data-backbone")
    definition = at.codec._declared["next-visit"].definition
    at.publish("next-visit", frame(20007, at.record("next-visit")[5:]))
    consumer = Group(at, "data-backbone-keeper", "next-visit")
    consumer.run(UNKNOWN_SCHEMA_SECONDS * 0.8)
    assert (consumer.done, listed()) == ([], [])
    at.registry.known[20007] = definition
    consumer.run()
    assert (consumer.done, listed()) == ([0], [])


def test_many_unknown_ids_are_waited_for_together(site: Any, listed: Any, broker: Broker) -> None:
    at = site("data-backbone")
    for number in range(20):
        at.publish("next-visit", frame(30000 + number, b"abc"))
    at.publish("next-visit", at.record("next-visit"))
    consumer, begun = Group(at, "data-backbone-keeper", "next-visit"), broker.clock.now
    while not consumer.done:
        consumer.loop.turn()
    assert UNKNOWN_SCHEMA_SECONDS < broker.clock.now - begun < UNKNOWN_SCHEMA_SECONDS + 120.0
    assert len(listed()) == 20


# -- what a handler does


def test_an_error_of_a_handler_is_the_messages_and_kept_with_its_traceback(site: Any, listed: Any) -> None:
    at = site("data-backbone")
    for _ in range(3):
        at.publish("forwarded", at.record("forwarded"))
    consumer = Group(at, "data-backbone-keeper", "forwarded")

    def fails(delivery: Delivery) -> None:
        if delivery.message.offset == 1:
            raise ZeroDivisionError("of a handler")

    consumer.fails = fails
    consumer.run()
    assert consumer.done == [0, 2]
    (one,) = listed()
    assert (one.offset, one.reason, one.attempts) == (1, "ZeroDivisionError: of a handler", ATTEMPTS)
    assert "in fails" in one.traceback


def test_an_error_that_passes_costs_nothing(site: Any, listed: Any) -> None:
    at = site("data-backbone")
    at.publish("forwarded", at.record("forwarded"))
    consumer = Group(at, "data-backbone-keeper", "forwarded")
    consumer.fails = lambda _: None if len(consumer.batches) == ATTEMPTS else json.loads("{")
    consumer.run()
    assert (consumer.done, listed()) == ([0], [])


def test_of_a_batch_only_the_bad_one_is_set_aside(site: Any, listed: Any) -> None:
    at = site("data-backbone")
    for _ in range(10):
        at.publish("forwarded", at.record("forwarded"))
    consumer = Group(at, "data-backbone-keeper", "forwarded", most=500)

    def fails(delivery: Delivery) -> None:
        if delivery.message.offset == 4:
            raise NonRetriableError("the fifth")

    consumer.fails = fails
    consumer.run()
    assert consumer.done == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert [one.offset for one in listed()] == [4]
    at.publish("forwarded", at.record("forwarded"))
    at.publish("forwarded", at.record("forwarded"))
    consumer.run()
    assert consumer.batches[-1] == 2, "and then they are taken together again"


def test_a_client_that_cannot_go_on_ends_the_process_and_blames_no_message(site: Any, listed: Any) -> None:
    at = site("data-backbone")
    at.publish("forwarded", at.record("forwarded"))
    consumer = Group(at, "data-backbone-keeper", "forwarded", most=500)

    def fails(_: Delivery) -> None:
        raise FencedError("another has its place")

    consumer.fails = fails
    with pytest.raises(FencedError):
        consumer.run()
    assert listed() == []


def test_patience_with_one_message_ends_and_those_behind_it_have_their_turn(site: Any, listed: Any) -> None:
    at = site("data-backbone")
    for _ in range(2):
        at.publish("forwarded", at.record("forwarded"))
    consumer = Group(at, "data-backbone-keeper", "forwarded", patience=240.0)

    def fails(delivery: Delivery) -> None:
        if delivery.message.offset == 0:
            raise RetriableError("no template")

    consumer.fails = fails
    consumer.run(200.0)
    assert (consumer.done, listed()) == ([], [])
    consumer.run(200.0)
    assert consumer.done == [1]
    assert [one.reason for one in listed()] == ["no template"]


# -- a process that dies


def _dies_at(consumer: Group, offset: int) -> int:
    """Run processes until none dies; return how many did."""

    def fails(delivery: Delivery) -> None:
        if delivery.message.offset == offset:
            raise Killed

    consumer.fails = fails
    for deaths in range(20):
        try:
            consumer.run()
        except Killed:
            consumer.start()
        else:
            return deaths
    raise AssertionError("it dies for ever")


@pytest.mark.parametrize("offset", [0, 3, 9])
def test_a_message_that_kills_its_process_is_set_aside_after_three(site: Any, listed: Any, offset: int) -> None:
    at = site("data-backbone")
    for _ in range(10):
        at.publish("forwarded", at.record("forwarded"))
    consumer = Group(at, "data-backbone-keeper", "forwarded")
    assert _dies_at(consumer, offset) == ATTEMPTS
    assert consumer.done == [number for number in range(10) if number != offset]
    (one,) = listed()
    assert (one.offset, one.attempts) == (offset, ATTEMPTS)
    assert "its process has died 3 times" in one.reason
    assert consumer.place() == (10, "")


@pytest.mark.parametrize("offset", [0, 3, 9])
def test_a_batch_that_was_cut_short_is_taken_one_by_one(site: Any, listed: Any, offset: int) -> None:
    at = site("data-backbone")
    for _ in range(10):
        at.publish("forwarded", at.record("forwarded"))
    consumer = Group(at, "data-backbone-keeper", "forwarded", most=500)
    assert ATTEMPTS <= _dies_at(consumer, offset) <= ATTEMPTS + 1
    assert sorted(set(consumer.done)) == [number for number in range(10) if number != offset]
    assert [one.offset for one in listed()] == [offset]


def test_restarts_while_something_is_away_are_not_the_messages(site: Any, listed: Any) -> None:
    at = site("data-backbone")
    at.publish("forwarded", at.record("forwarded"))
    consumer = Group(at, "data-backbone-keeper", "forwarded")

    def fails(_: Delivery) -> None:
        raise AwayError("store: away")

    consumer.fails = fails
    for _ in range(10):
        consumer.run(5.0)
        consumer.start()
    consumer.fails = lambda _: None
    consumer.run()
    assert (consumer.done, listed()) == ([0], [])


@pytest.mark.parametrize("note", ["", "hello", "[]", '{"first": "x"}', '{"first": null, "until": 1, "attempts": 9}'])
def test_what_others_wrote_beside_the_offset_is_no_reason_to_stop(site: Any, listed: Any, note: str) -> None:
    at = site("data-backbone")
    at.publish("forwarded", at.record("forwarded"))
    at.broker.offsets["data-backbone-keeper", (at.names["forwarded"], 0)] = 0, note
    consumer = Group(at, "data-backbone-keeper", "forwarded")
    consumer.run()
    assert (consumer.done, listed()) == ([0], [])


# -- transactions


def _transactional(at: Site, take: Any, **options: Any) -> tuple[Loop, Any]:
    sender = at.bus.sender(LEDGER, "set-aside", transactional_id="prompt-processing-R22_S11")
    ledger, receiver = Ledger(at.bus, "prompt-processing", sender), at.bus.receiver("prompt-processing", INGESTED)
    aside = ToTopic(at.bus, receiver, sender, ledger, lambda _, record: [Subject(record["obsId"], "R22_S11")])

    def handle(deliveries: Any) -> None:
        take(*deliveries)
        with sender.transaction(receiver, *(one.message for one in deliveries)):
            ledger.stamp("processed", Subject(deliveries[0].content["obsId"], "R22_S11"))

    return Loop(
        receiver, avro(at.bus, INGESTED), handle, aside, commits=False, clock=at.broker.clock, **options
    ), receiver


def _steps(at: Site) -> list[str]:
    records = at.broker.partitions[at.names[LEDGER], 0]
    return [str(at.codec.decode(LEDGER, one.value)["step"]) for one in records if one is not None]


@pytest.mark.parametrize("odd", [b"hello", None])
def test_setting_aside_is_one_transaction_with_the_offset(
    site: Any, listed: Any, broker: Broker, odd: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = site("prompt-processing")
    at.publish(INGESTED, odd or at.record(INGESTED))
    at.publish(INGESTED, at.record(INGESTED))

    def take(delivery: Delivery) -> None:
        if delivery.message.offset == 0:
            raise NonRetriableError("all pixels are 65535")

    def dies(*_: Any) -> None:
        raise Killed

    loop, _ = _transactional(at, take)
    with monkeypatch.context() as patched:
        patched.setattr("kafka_in_memory.Producer.commit_transaction", dies)
        with pytest.raises(Killed):
            loop.turn()
    assert listed() == [], "neither set aside"
    place = broker.place("prompt-processing", at.names[INGESTED])
    assert place is None or place[0] == 0, "nor committed"
    loop, _ = _transactional(at, take)
    for _ in range(3):
        loop.turn()
    assert [one.offset for one in listed()] == [0]
    assert _steps(at) == (["processed"] if odd else ["failed", "processed"]), "what was set aside is owed by its name"
    assert broker.place("prompt-processing", at.names[INGESTED])[0] == 2  # type: ignore[index]


def test_a_transaction_that_kafka_does_not_take_is_done_once(site: Any, listed: Any, broker: Broker) -> None:
    at = site("prompt-processing")
    at.publish(INGESTED, at.record(INGESTED))
    away = iter([True, True, False])

    def take(_: Delivery) -> None:
        broker.away = next(away)

    loop, _ = _transactional(at, take)
    end = broker.clock.now + 60.0
    while broker.clock.now < end:
        loop.turn()
        broker.away = False
    assert _steps(at) == ["processed"]
    assert listed() == []


def test_an_outage_of_kafka_takes_nothing_from_a_messages_patience(site: Any, listed: Any, broker: Broker) -> None:
    at = site("prompt-processing")
    at.publish(INGESTED, at.record(INGESTED))
    back, tried = broker.clock.now + 7200.0, []

    def take(_: Delivery) -> None:
        tried.append(broker.clock.now)
        broker.away = broker.clock.now < back

    loop, _ = _transactional(at, take, patience=240.0)
    while broker.clock.now < back + 60.0:
        loop.turn()
        broker.away = False
    assert len(tried) > 200
    assert _steps(at) == ["processed"]
    assert listed() == []


def test_a_producer_that_was_fenced_ends_the_process(site: Any, listed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    at = site("prompt-processing")
    at.publish(INGESTED, at.record(INGESTED))
    loop, _ = _transactional(at, lambda _: None)

    def fenced(*_: Any) -> None:
        raise KafkaException(KafkaError(KafkaError._FENCED, "fenced", fatal=True))

    monkeypatch.setattr("kafka_in_memory.Producer.commit_transaction", fenced)
    with pytest.raises(FencedError):
        loop.turn()
    assert listed() == []


# -- given back


def test_what_is_given_back_is_its_groups_alone_and_listed_no_longer(site: Any, listed: Any, broker: Broker) -> None:
    keeper, worker = site("data-backbone"), site("prompt-processing")
    value = keeper.record("next-visit")
    keeper.publish("next-visit", value, key=b"k", headers=[("h", b"1")])
    one = Group(keeper, "data-backbone-keeper", "next-visit")
    two = Group(worker, "prompt-processing-preload-a-1-0", "next-visit")
    broken = [True]

    def fails(_: Delivery) -> None:
        if broken:
            raise ZeroDivisionError("until it is mended")

    one.fails = fails
    one.run()
    two.run()
    assert (one.done, two.done) == ([], [0])
    asides = Asides(site("health").bus, "health-1")
    broken.clear()
    assert len(asides.give_back(asides.open())) == 1
    one.run()
    two.run()
    assert (one.done, two.done) == ([1], [0])
    assert two.place() == (2, "")
    assert listed() == []
    given = broker.partitions[keeper.names["next-visit"], 0][1]
    assert given is not None
    assert (given.value, given.key, dict(given.headers)["h"]) == (value, b"k", b"1")
    assert dict(given.headers)[GIVEN_BACK_TO] == b"data-backbone-keeper"


def test_what_is_given_back_and_still_cannot_be_handled_is_listed_anew(site: Any, listed: Any) -> None:
    at = site("data-backbone")
    at.publish("forwarded", b"hello")
    consumer = Group(at, "data-backbone-keeper", "forwarded")
    consumer.run()
    asides = Asides(site("health").bus, "health-1")
    asides.give_back(asides.open())
    consumer.run()
    assert [one.offset for one in listed()] == [1]
    asides.dismiss(asides.open())
    assert listed() == []


def test_a_topic_of_the_public_is_not_written_to(site: Any) -> None:
    asides = Asides(site("health").bus, "health-1")
    one = Aside(
        "set-aside", "alert-distribution", "alert-distribution", "alerts", "lsst-alerts-v11", 0, 0, 0.0, None, {},
        b"x", 1, "", "", 1, 0.0,
    )  # fmt: skip
    with pytest.raises(NonRetriableError, match="topic alerts"):
        asides.give_back([one])


# -- places


def test_while_it_holds_it_takes_nothing_and_stays_in_its_group(site: Any, broker: Broker) -> None:
    at = site("archiver", "summit")
    consumer = Group(at, "archiver", "readouts")
    at.publish("readouts", at.record("readouts"))
    before = broker.asked[consumer.group]
    for _ in range(100):
        consumer.loop.turn(hold=True)
    assert consumer.done == []
    assert broker.asked[consumer.group] - before == 100
    consumer.run()
    assert consumer.done == [0]


def test_what_waits_when_it_begins_to_hold_waits_on_without_haste(site: Any, broker: Broker) -> None:
    at = site("archiver", "summit")
    consumer = Group(at, "archiver", "readouts")
    at.publish("readouts", at.record("readouts"))

    def fails(_: Delivery) -> None:
        raise AwayError("journal: full")

    consumer.fails = fails
    consumer.run(5.0)
    begun = broker.clock.now
    for _ in range(100):
        consumer.loop.turn(hold=True)
    assert broker.clock.now - begun == pytest.approx(50.0)
    consumer.fails = lambda _: None
    consumer.run()
    assert consumer.done == [0]


def test_partitions_that_went_to_another_are_forgotten(site: Any) -> None:
    at = site("data-backbone")
    at.publish("forwarded", at.record("forwarded"))
    consumer = Group(at, "data-backbone-keeper", "forwarded")

    def fails(_: Delivery) -> None:
        raise AwayError("store: away")

    consumer.fails = fails
    consumer.run(5.0)
    assert consumer.loop.waiting
    consumer.receiver._lost.add((at.names["forwarded"], 0))
    consumer.loop.turn()
    assert not consumer.loop.waiting


def test_the_oldest_open_message_bounds_what_is_committed(site: Any) -> None:
    at = site("data-backbone")
    for _ in range(10):
        at.publish("forwarded", at.record("forwarded"))
    open_at = [3.0]
    consumer = Group(at, "data-backbone-keeper", "forwarded", oldest_open=lambda _: open_at[0])
    consumer.run()
    assert consumer.place() == (3, "")
    open_at[0] = float("inf")
    consumer.run()
    assert consumer.place() == (10, "")


# -- a worker whose packets were kept before its exposure was set aside


class _Kept:
    """A store of packets that remembers the offset that they belong to."""

    def __init__(self) -> None:
        self.offsets: list[int] = []

    def save(self, _: Any, __: str, packets: Packets) -> None:
        self.offsets.append(packets.offset)


def _worker(at: Site) -> tuple[Worker, Lease, _Kept]:
    worker = Worker.__new__(Worker)
    worker._source = at.bus.receiver("prompt-processing", INGESTED)
    worker._packets = kept = _Kept()  # type: ignore[assignment]
    butler: Any = None  # nothing is loaded
    return worker, Lease(at.bus, worker._source, butler, slots(at.bus.settings.site.camera)[4]), kept


@pytest.mark.parametrize(
    ("kept_at", "headers", "published", "saved"),
    [
        (7, {}, True, []),
        (3, {}, False, []),
        (3, {GIVEN_BACK_FROM: b"3"}, True, [7]),
        (5, {GIVEN_BACK_FROM: b"3"}, False, []),
        (7, {GIVEN_BACK_FROM: b"3"}, True, []),
    ],
    ids=["its own", "delivered again", "given back", "given back twice", "given back, then cut short"],
)
def test_alerts_are_published_once_whatever_comes_again(
    site: Any, broker: Broker, kept_at: int, headers: dict[str, bytes], published: bool, saved: list[int]
) -> None:
    at = site("prompt-processing")
    worker, lease, kept = _worker(at)
    record = at.codec.decode(INGESTED, at.record(INGESTED))
    message = Received(INGESTED, at.names[INGESTED], 4, 7, 1.8e9, None, b"", headers)
    packets = Packets({1: b"one", 2: b"two"}, {"alerts": 2.0}, kept_at)
    worker._publish(lease, ExposureName.from_obs_id(record["obsId"]), Delivery(message, record), packets)
    alerts = [one.value for one in broker.partitions[at.names["alerts"], 0] if one is not None]
    assert alerts == ([b"one", b"two"] if published else [])
    assert kept.offsets == saved
    place = broker.place("prompt-processing", at.names[INGESTED], 4)
    assert place is not None
    assert place[0] == 8
