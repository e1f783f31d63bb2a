"""Alert distribution's count of a visit's alerts, and what a restart makes of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import fastavro
import pytest

from kafka_in_memory import Broker, Clock, Registry, Site
from workloads.alert_distribution.watch import ALERTS, SHORT_SECONDS, OriginReader, Watch
from workloads.common import schemas
from workloads.common.avro import frame
from workloads.common.consume import Loop, ToTopic, avro
from workloads.common.errors import UnknownSchemaError
from workloads.common.ledger import TOPIC as LEDGER
from workloads.common.ledger import Ledger

OBS, VISIT = "MC_S_20261122_000001", 2026112200001
SERVICE = "alert-distribution"
_NULLS: dict[str, Any] = {}


class Service:
    """Alert distribution as a process: its loop with its watch."""

    def __init__(self, at: Site) -> None:
        self.at = at
        self.begin()

    def begin(self) -> None:
        """Start anew, as after a crash."""
        sender = self.at.bus.sender(LEDGER, "set-aside")
        self.sender, self.receiver = sender, self.at.bus.receiver(SERVICE, ALERTS, LEDGER)
        ledger = Ledger(self.at.bus, SERVICE, sender)
        self.watch = Watch(ledger, {90: "R22_S00"}, SERVICE, self.at.broker.clock)
        self.loop = Loop(
            self.receiver,
            {ALERTS: OriginReader(self.at.registry), **avro(self.at.bus, LEDGER)},
            self.watch.take,
            ToTopic(self.at.bus, self.receiver, sender),
            most=7,
            oldest_open=self.watch.oldest_open,
            clock=self.at.broker.clock,
        )
        self.caught_up = False

    def run(self, seconds: float = 5.0) -> None:
        end = self.at.broker.clock.now + seconds
        while self.at.broker.clock.now < end:
            self.loop.turn()
            self.caught_up = self.caught_up or (self.receiver.caught_up and not self.loop.waiting)
            if self.caught_up:
                self.watch.answer()
                self.sender.flush()
            self.loop.commit()

    @property
    def stamps(self) -> list[tuple[str, str, str, str]]:
        """What it has stamped: step, exposure, detector, reason."""
        log = self.at.broker.partitions[self.at.names[LEDGER], 0]
        records = [self.at.codec.decode(LEDGER, one.value) for one in log if one is not None and one.value]
        return [
            (one["step"], one["obsId"], one["detector"], one["reason"]) for one in records if one["service"] == SERVICE
        ]

    def place(self, role: str, partition: int = 0) -> int:
        found = self.at.broker.place(SERVICE, self.at.names[role], partition)
        return found[0] if found else 0

    def alert(self, number: int = 1, partition: int = 0, detector: int = 90) -> None:
        self.at.publish(ALERTS, packet("11.1", VISIT - 1 + number, detector), partition)

    def processed(self, alerts: int, number: int = 1, obs_id: str = "", detector: str = "R22_S00") -> None:
        obs_id = obs_id or OBS[:-1] + str(number)
        figures = {"alerts": float(alerts), "latency_s": 9.0}
        self.at.publish(LEDGER, self.at.record(LEDGER, obsId=obs_id, detector=detector, figures=figures))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Service:
    broker = Broker(Clock())
    broker.patch(monkeypatch)
    at = Site(tmp_path, broker, SERVICE, "ncsa")
    for partition in range(3):
        broker.partitions[at.names[ALERTS], partition]  # it is made with the broker
    return Service(at)


def _filled(schema: Any) -> Any:
    """Return a value of a schema: nulls where they may be, zeros otherwise."""
    if isinstance(schema, list):
        return None if "null" in schema else _filled(schema[0])
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "record":
        _NULLS[schema["name"]] = {one["name"]: _filled(one["type"]) for one in schema["fields"]}
        return _NULLS[schema["name"]]
    plain = {
        "string": "",
        "bytes": b"",
        "boolean": False,
        "array": [],
        "map": {},
        "float": 0.0,
        "double": 0.0,
        "null": None,
    }
    return plain.get(kind, 0) if isinstance(kind, str) else _filled(kind)


def packet(version: str, visit: int, detector: int, history: int = 0, cutout: int = 0) -> bytes:
    """Return a packet of an alert, with so many former sources of its object and bytes of each cutout."""
    declared = schemas.alerts()[version]
    content = _filled(declared.definition)
    if content["diaSource"] is None:
        raise AssertionError("an alert has a source")
    content["diaSource"] |= {"diaSourceId": 5, "visit": visit, "ccdVisitId": visit, "detector": detector}
    if history:
        content["prvDiaSources"] = [content["diaSource"]] * history
    if cutout:
        content |= {f"cutout{which}": bytes(cutout) for which in ("Difference", "Science", "Template")}
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(declared.definition), content)
    return frame(declared.id, body.getvalue())


def test_a_detector_is_alerted_when_all_its_alerts_are_in_the_stream(service: Service) -> None:
    service.alert()
    service.processed(2)
    service.run()
    assert (service.watch.idle, service.stamps) == (False, [])
    service.alert(partition=2)
    service.run()
    assert service.watch.idle
    assert service.stamps == [("alerted", OBS, "R22_S00", "")]


def test_alerts_that_do_not_all_come_are_named_once(service: Service) -> None:
    service.processed(2)
    service.alert()
    service.run(SHORT_SECONDS - 5.0)
    assert service.stamps == []
    service.run(3 * SHORT_SECONDS)
    assert service.watch.idle
    ((step, obs_id, detector, reason),) = service.stamps
    assert (step, obs_id, detector) == ("late", OBS, "R22_S00")
    assert reason.startswith("1 of 2 of its alerts are in the stream")
    service.begin()
    service.run(3 * SHORT_SECONDS)
    assert len(service.stamps) == 1


@pytest.mark.parametrize("controller", ["O", "C", "S", "P"])
def test_whatever_triggered_an_exposure_its_alerts_are_its_own(service: Service, controller: str) -> None:
    obs_id = OBS.replace("_S_", f"_{controller}_")
    service.alert()
    service.processed(1, obs_id=obs_id)
    service.run()
    assert service.stamps == [("alerted", obs_id, "R22_S00", "")]
    assert service.watch.idle
    assert service.place(ALERTS) == 1, "nothing of it is open"
    assert service.place(LEDGER) >= 1


def test_a_stamp_of_another_camera_is_no_reason_to_stop(service: Service) -> None:
    service.processed(1, obs_id="AT_O_20261122_000001")
    service.processed(0)
    service.run()
    assert service.stamps == [("alerted", OBS, "R22_S00", "")]


def test_alerts_without_a_word_from_the_ledger_are_named_by_their_exposure(service: Service) -> None:
    service.alert()
    service.run(2 * SHORT_SECONDS)
    assert [stamp[:3] for stamp in service.stamps] == [("late", str(VISIT), "R22_S00")]


# -- case 19: a visit stays open while others come; the process restarts in the middle; so it does again and again


def _night(service: Service, first: int, last: int) -> None:
    """Take visits of three alerts each, every 25 s."""
    for number in range(first, last):
        for partition in range(3):
            service.alert(number, partition)
        service.processed(3, number)
        service.run(25.0)


def test_a_visit_that_stays_open_bounds_the_commit_and_no_more(service: Service) -> None:
    _night(service, 2, 4)
    service.alert(1, 1)
    service.processed(2, 1)
    before = service.place(ALERTS, 1)
    _night(service, 4, 9)
    assert service.place(ALERTS, 1) == before == 2, "its own alert comes again"
    assert service.place(ALERTS, 0) == service.place(ALERTS, 2) == 7, "where it has none, nothing does"
    service.run(2 * SHORT_SECONDS)
    assert service.watch.idle
    ends = [
        len(service.at.broker.partitions[service.at.names[role], number]) for role, number in ((ALERTS, 1), (LEDGER, 0))
    ]
    assert [service.place(ALERTS, 1), service.place(LEDGER)] == ends


@pytest.mark.parametrize("restarts", [(5,), (4, 5, 6, 7, 8), (8,)])
def test_a_restart_beside_an_open_visit_stamps_nothing_twice(service: Service, restarts: tuple[int, ...]) -> None:
    service.alert(1, 1)
    service.processed(2, 1)
    for number in range(2, 9):
        _night(service, number, number + 1)
        if number in restarts:
            service.begin()
    service.run(30.0)
    stamps = [stamp[:2] for stamp in service.stamps]
    assert stamps == [("alerted", OBS[:-1] + str(number)) for number in range(2, 9)]
    service.alert(1, 2)
    service.run()
    assert [stamp[:2] for stamp in service.stamps][len(stamps) :] == [("alerted", OBS)], "and counts the open one right"
    service.begin()
    service.run(2 * SHORT_SECONDS)
    assert len(service.stamps) == len(stamps) + 1


def test_alerts_that_come_again_without_their_stamps_are_nobody_unknown(service: Service) -> None:
    """The stamps of an answered visit lie before those of the open one, its alerts behind the open one's."""
    service.processed(3, 2)
    service.alert(2, 0)
    service.alert(1, 0)
    service.alert(2, 0)
    service.alert(2, 0)
    service.run()
    service.processed(2, 1)
    service.run()
    assert [stamp[:2] for stamp in service.stamps] == [("alerted", OBS[:-1] + "2")]
    service.begin()
    service.run(100.0)
    service.alert(1, 0)
    service.run(2 * SHORT_SECONDS)
    assert [stamp[:2] for stamp in service.stamps] == [("alerted", OBS[:-1] + "2"), ("alerted", OBS)]


def test_what_is_given_again_is_counted_once(service: Service) -> None:
    taken: list[Any] = []
    take = service.watch.take

    def fails_behind(deliveries: Any) -> None:
        take(deliveries)
        taken.append(len(deliveries))
        if len(taken) == 1:
            raise ZeroDivisionError("behind the last of them")

    service.loop._handle = fails_behind
    service.alert()
    service.alert()
    service.processed(3)
    service.run(60.0)
    assert taken == [3, 1, 1, 1]
    assert (service.stamps, service.watch.idle) == ([], False)
    service.alert()
    service.run()
    assert service.stamps == [("alerted", OBS, "R22_S00", "")]


# -- case 24: no more is read of a packet than its origin


def _has_origin(version: str) -> bool:
    """Tell whether sources of a version have visit and detector: the first had a number for both together."""
    source = next(one["type"] for one in schemas.alerts()[version].definition["fields"] if one["name"] == "diaSource")
    return {"visit", "detector"} <= {one["name"] for one in source["fields"]}


def test_the_versions_without_an_origin_are_those_that_nobody_writes() -> None:
    assert [version for version in schemas.alerts() if not _has_origin(version)] == ["3.0", "4.0", "5.0", "6.0", "6.1"]


@pytest.mark.parametrize("version", [version for version in schemas.alerts() if _has_origin(version)])
def test_the_origin_of_a_packet_of_any_version_is_its_sources(version: str) -> None:
    reader = OriginReader(Registry())
    for visit in (0, 1, VISIT, 2**62):
        for detector in (0, 63, 64, 204):
            message = type("Message", (), {"value": packet(version, visit, detector)})()
            assert vars(reader(message)) == {"visit": visit, "detector": detector}


@pytest.mark.parametrize(("history", "cutout"), [(0, 0), (50, 0), (50, 40_000), (2000, 0)])
def test_however_much_a_packet_holds_its_origin_is_read_from_its_first_bytes(history: int, cutout: int) -> None:
    whole = packet("11.1", VISIT, 94, history, cutout)
    assert len(whole) > 100 * history + 3 * cutout
    reader, messages = OriginReader(Registry()), [type("Message", (), {"value": one})() for one in (whole, whole[:40])]
    for message in messages:
        assert vars(reader(message)) == {"visit": VISIT, "detector": 94}, "what is cut off is not missed"


def test_a_packet_of_a_newer_schema_is_read_with_it() -> None:
    newest = schemas.alerts()["11.1"].definition
    first = {"name": "more", "type": "string"}
    registry = Registry()
    message = type("Message", (), {"value": frame(1200, b"\x02x" + packet("11.1", VISIT, 94)[5:])})()
    with pytest.raises(UnknownSchemaError):
        OriginReader(registry)(message)
    registry.known[1200] = newest | {"fields": [first, *newest["fields"]]}
    assert vars(OriginReader(registry)(message)) == {"visit": VISIT, "detector": 94}


@pytest.mark.parametrize("value", [b"hello", frame(1101, b""), frame(1101, b"\x02\x04\x06"), b""])
def test_packets_that_are_none_are_set_aside_and_the_others_counted(service: Service, value: bytes) -> None:
    service.alert()
    service.at.publish(ALERTS, value)
    service.alert()
    service.processed(2)
    service.run()
    assert service.stamps == [("alerted", OBS, "R22_S00", "")]
    aside = service.at.broker.partitions[service.at.names["set-aside"], 0]
    assert len([one for one in aside if one is not None]) == 1
