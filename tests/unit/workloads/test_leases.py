"""A worker has the slots of the partitions that its group gives it, and what it writes is refused once another has them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kafka_in_memory import Broker, Clock, Site
from unit.workloads.test_full_size import Repository
from workloads.common.aside import Aside, Asides
from workloads.common.avro import frame
from workloads.common.consume import UNKNOWN_SCHEMA_SECONDS, Loop, avro, passed_over
from workloads.common.consumer import Receiver
from workloads.common.errors import NonRetriableError
from workloads.common.plan import FIELDS, Field
from workloads.prompt_processing.inputs import FIELDS_KEPT, Inputs
from workloads.prompt_processing.leases import Leases
from workloads.prompt_processing.worker import HUNG_SECONDS, INGESTED, NEXT_VISIT, Worker


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker(Clock())
    made.patch(monkeypatch)
    return made


@pytest.fixture
def site(tmp_path: Path, broker: Broker) -> Callable[[str], Site]:
    return lambda principal: Site(tmp_path, broker, principal, "ncsa")


def leases(at: Site) -> tuple[Leases, Receiver]:
    source = Receiver(at.bus.settings, "ncsa", "prompt-processing", [INGESTED], hung=HUNG_SECONDS)
    butler: Any = None  # nothing is loaded
    return Leases(at.bus.settings, at.bus, source, butler), source


def give(source: Receiver, at: Site, *partitions: int) -> None:
    """Let the group give these partitions to a consumer."""
    client: Any = source._consumer
    client._positions = {(at.names[INGESTED], number): 0 for number in partitions}


def held(found: Leases) -> list[str]:
    return sorted(lease.detector.name for lease in found)


def test_slots_come_and_go_with_the_partitions_of_the_group(site: Any) -> None:
    at = site("prompt-processing")
    found, source = leases(at)
    give(source, at)
    found.follow()
    assert held(found) == []
    give(source, at, 4, 0)
    found.follow()
    assert held(found) == ["R22_S00", "R22_S11"]
    kept = next(lease for lease in found if lease.detector.name == "R22_S11")
    give(source, at, 4, 8)
    found.follow()
    assert held(found) == ["R22_S11", "R22_S22"]
    assert kept in list(found), "what stays is not taken anew"


def test_one_slot_is_loaded_at_a_time(site: Any) -> None:
    at = site("prompt-processing")
    found, source = leases(at)
    give(source, at, 1, 2)
    found.follow()
    for lease in found:
        lease.inputs = Loaded()
    assert not found.loaded
    found.load_one([])
    assert [lease.loaded for lease in found] == [True, False]
    found.load_one([])
    assert found.loaded


def test_a_slot_that_is_taken_over_has_what_was_announced_last_and_keeps_it_longest(site: Any) -> None:
    at = site("prompt-processing")
    found, source = leases(at)
    give(source, at, 1)
    found.follow()
    (lease,), repository = found, Repository()
    lease.inputs = Inputs(repository, lease.detector)  # type: ignore[arg-type]
    announced = [Field(number, f"field {number}", 0.0, 0.0) for number in range(FIELDS_KEPT)]
    found.load_one(reversed(announced))
    assert repository.loaded == ["calibration ", *(f"template {number}" for number in reversed(range(FIELDS_KEPT)))]
    lease.expect(Field(99, "field 99", 0.0, 0.0))
    lease.expect(announced[-1])
    assert repository.loaded[-1] == "template 99", "the one before is still there"


class Loaded:
    """Inputs of a detector of which there is nothing."""

    def preload(self) -> None:
        return


def test_a_message_to_a_partition_of_nobody_is_set_aside(site: Any, broker: Broker) -> None:
    at = site("prompt-processing")
    at.publish(INGESTED, at.record(INGESTED), 99)
    at.publish(INGESTED, b"hello", 99)
    found, source = leases(at)

    def take(deliveries: Any) -> None:
        for delivery in deliveries:
            found.of(delivery.message)

    loop = Loop(source, avro(at.bus, INGESTED), take, found.set_aside, commits=False, clock=broker.clock)
    for _ in range(4):
        loop.turn()
        found.follow()
    listed: list[Aside] = Asides(site("health").bus, "health-1").open()
    assert [one.partition for one in listed] == [99, 99]
    assert "partition 99 of dpp.raw.ingested: no detector's; expected one below 9" in listed[0].reason
    place = broker.place("prompt-processing", at.names[INGESTED], 99)
    assert place is not None
    assert place[0] == 2


def test_nobody_has_a_slot_of_a_partition_that_the_camera_does_not_have(site: Any) -> None:
    at = site("prompt-processing")
    found, source = leases(at)
    at.publish(INGESTED, at.record(INGESTED), 99)
    give(source, at, 99)
    found.follow()
    assert held(found) == []
    [message] = source.receive(0.1, 1)
    with pytest.raises(NonRetriableError, match="partition 99"):
        found.of(message)


# -- announcements


class Wanted:
    """A lease that notes what it is told to expect."""

    def __init__(self) -> None:
        self.fields: list[tuple[int, str]] = []

    def expect(self, field: Field) -> bool:
        self.fields.append((field.number, field.band))
        return True


def announcements(at: Site) -> tuple[Wanted, Loop]:
    """Return a worker's lease and its loop over announced visits."""
    worker, wanted = Worker.__new__(Worker), Wanted()
    # A lease that only takes note of what is wanted of it; an own one would ask for a place in Kafka's group.
    worker._fields, worker._leases = deque(maxlen=FIELDS_KEPT), [wanted]  # type: ignore[assignment]
    source = at.bus.receiver("prompt-processing-preload-a-1-0", NEXT_VISIT)
    return wanted, Loop(source, avro(at.bus, NEXT_VISIT), worker._announced, passed_over, clock=at.broker.clock)


def announced(at: Site, field: Field, filters: str) -> bytes:
    return at.record(NEXT_VISIT, position=[field.ra, field.dec], filters=filters)


@pytest.mark.parametrize(
    ("filters", "bands"), [("g", "g"), ("g_6", "g"), ("r_57", "r"), ("i_39,z_20", "iz"), ("SDSSY", "y")]
)
def test_what_is_preloaded_is_of_the_announced_filter(site: Any, filters: str, bands: str) -> None:
    at = site("prompt-processing")
    wanted, loop = announcements(at)
    at.publish(NEXT_VISIT, announced(at, FIELDS[1], filters))
    for _ in range(3):
        loop.turn()
    assert wanted.fields == [(FIELDS[1].number, band) for band in bands]


@pytest.mark.parametrize("odd", [b"hello", b"", frame(123456, b"abc"), None], ids=["text", "nothing", "id", "record"])
def test_a_worker_passes_over_what_is_no_announcement_and_takes_the_next(site: Any, odd: bytes | None) -> None:
    at = site("prompt-processing")
    wanted, loop = announcements(at)
    for value in (announced(at, FIELDS[0], "g"), odd if odd is not None else at.record("ledger")):
        at.publish(NEXT_VISIT, value)
    at.publish(NEXT_VISIT, announced(at, FIELDS[2], "r"))
    end = at.broker.clock.now + 2 * UNKNOWN_SCHEMA_SECONDS
    while at.broker.clock.now < end:
        loop.turn()
    assert wanted.fields == [(FIELDS[0].number, "g"), (FIELDS[2].number, "r")]
    assert not [one for one in at.broker.partitions[at.names["set-aside"], 0] if one], "the ledger's keeper does that"
