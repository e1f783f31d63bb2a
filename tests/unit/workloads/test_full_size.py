"""What must not grow or wait with the number of files, fields and years."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from workloads.common.consume import Delivery
from workloads.common.errors import RetriableError
from workloads.common.kafka import Received
from workloads.common.names import ExposureName, RawName
from workloads.common.plan import Field
from workloads.data_backbone.backbone import Backbone
from workloads.data_backbone.days import Days
from workloads.prompt_processing.inputs import Inputs

DAY = 20261122
DETECTOR = "R22_S11"


class Repository:
    """A Butler that has all that it is asked for, and counts what is loaded."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.registry = SimpleNamespace(refresh=lambda: None)

    def find_dataset(self, kind: str, data_id: dict[str, Any], collections: str) -> Any:
        assert collections
        return SimpleNamespace(id=f"{kind} {data_id.get('tract', '')}")

    def get(self, dataset: Any) -> str:
        self.loaded.append(dataset.id)
        return str(dataset.id)


def test_a_worker_keeps_the_templates_that_it_used_last() -> None:
    repository = Repository()
    inputs = Inputs(repository, SimpleNamespace(id=94, name=DETECTOR))  # type: ignore[arg-type]
    fields = [Field(number, f"field {number}", 0.0, 0.0) for number in range(100)]
    for _ in range(3):
        for field in fields:
            inputs.calibration(field)
            assert inputs.template(field) == f"template {field.number}"
            inputs.template(fields[0])
            assert len(inputs._kept) <= 5
    assert repository.loaded.count("calibration ") == 1
    assert repository.loaded.count("template 0") == 1, "what is used all the time stays"
    assert repository.loaded.count("template 50") == 3


class Archive:
    """A Backbone whose writer and Kafka are here, and fail when told to."""

    def __init__(self) -> None:
        self.made = Backbone.__new__(Backbone)
        self.made._detectors, self.made._halfway, self.made._found = {DETECTOR}, {}, []
        self.made._days = Days(lambda _: set())
        self.made.writer = self  # type: ignore[assignment]
        self.made.sender = self  # type: ignore[assignment]
        self.made.arrivals = None  # type: ignore[assignment]
        self.made._on_arrival = lambda *_: None
        self.made._report = lambda file: self.reported.append(file.arrival.name.exposure.seq_num)  # type: ignore[method-assign]
        self.reported: list[int] = []
        self.verified: list[int] = []
        self.committed: list[int] = []
        self.fails_at = 0

    def verify(self, arrivals: Any) -> list[Future[Any]]:
        futures = []
        for arrival in arrivals:
            self.verified.append(arrival.name.exposure.seq_num)
            future: Future[Any] = Future()
            if self.fails_at and arrival.name.exposure.seq_num >= self.fails_at:
                future.set_exception(RetriableError("the store is away"))
            else:
                future.set_result(SimpleNamespace(arrival=arrival))
            futures.append(future)
        return futures

    @staticmethod
    def ingest(results: list[Any]) -> tuple[list[Any], list[Any]]:
        return results, []

    @contextmanager
    def transaction(self, _: Any, *done: Received) -> Any:
        yield
        self.committed += [message.offset for message in done]


def notification(number: int) -> Delivery:
    name = RawName(ExposureName(DAY, number), DETECTOR)
    where = {"partition": number % 3, "offset": number, "timestamp": 1.8e9}
    message: Any = SimpleNamespace(where=("arrivals", number % 3), **where)
    return Delivery(message, [name.key])


def test_a_batch_that_fails_half_way_goes_on_where_it_was() -> None:
    archive, deliveries = Archive(), [notification(number) for number in range(1, 101)]
    archive.fails_at = 90
    with pytest.raises(RetriableError, match="away"):
        archive.made.take(deliveries)
    assert archive.verified == list(range(1, 101)), "the last is verified while the first are written"
    assert archive.reported == archive.committed == list(range(1, 65))
    archive.fails_at = 0
    archive.made.take(deliveries[:1])
    assert archive.reported == list(range(1, 65)), "taken by itself, what is done is not done again"
    archive.made.take(deliveries)
    assert archive.reported == archive.committed == list(range(1, 101))
    archive.made.take([notification(1)])
    assert archive.reported[-1] == 1, "a topic that begins anew is read anew"


def test_what_is_named_twice_in_a_batch_is_reported_once() -> None:
    archive = Archive()
    archive.made.take([notification(number) for number in [*range(1, 41), *range(1, 41)]])
    assert archive.reported == list(range(1, 41))
    assert len(archive.committed) == 80


def test_days_are_asked_for_once_and_only_those_that_are_kept_stay() -> None:
    asked: list[int] = []

    def ask(day: int) -> set[tuple[int, str]]:
        asked.append(day)
        return {(ExposureName(day, 1).exposure_id, DETECTOR)}

    days = Days(ask)
    days.keep({DAY, DAY - 1})
    days.add(RawName(ExposureName(DAY, 2), DETECTOR))
    for _ in range(3):
        assert {number % 100000 for number, _ in days.known(DAY)} == {1, 2}
        assert {number % 100000 for number, _ in days.known(20250101)} == {1}
    days.add(RawName(ExposureName(DAY, 3), DETECTOR))
    assert len(days.known(DAY)) == 3
    assert asked == [DAY, 20250101, 20250101, 20250101]
    days.keep({DAY + 1})
    assert len(days.known(DAY)) == 1, "asked for anew"
