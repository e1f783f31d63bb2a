"""What a device does with commands, states and faults, on a broker in memory and with the registry's own answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

import sal_devices
from kafka_in_memory import Broker, Clock, Site
from workloads.common.config import ConfigurationFolder
from workloads.common.consume import Loop, ToTopic
from workloads.common.errors import NonRetriableError, RetriableError, WorkloadError
from workloads.sal import link as links
from workloads.sal.commands import PATIENCE_SECONDS, Obey, Running
from workloads.sal.device import Device
from workloads.sal.interfaces import component
from workloads.sal.link import Link
from workloads.sal.states import Ack, SummaryState
from workloads.schema_registry.api import Registry
from workloads.schema_registry.store import State

INDEX = 3
CLIENT, PROCESS = "observer@control", 42


class Values(BaseModel):
    model_config = ConfigDict(extra="forbid")
    pause: float = 1.0


class Sample(Device):
    """A device whose hooks and handlers do what a test wants."""

    def __init__(self, link: Link, folder: ConfigurationFolder) -> None:
        self.work: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.waits: Callable[[Running], None] = lambda running: running.wait(60.0)
        super().__init__(link, folder)

    def handle_summary_state(self) -> None:
        self.work.append(self.state.name)
        self._fail("handle")

    def begin(self, transition: str) -> None:
        self._fail(f"begin {transition}")

    def end(self, transition: str) -> None:
        self._fail(f"end {transition}")

    def _fail(self, where: str) -> None:
        if where in self.fails:
            raise self.fails.pop(where)

    def handlers(self) -> dict[str, Obey]:
        return {"wait": self._wait, "fail": self._crash, "fault": self._fault, "setScalars": self._scalars}

    def _wait(self, running: Running) -> str:
        running.in_progress(running["duration"])
        self.waits(running)
        return "waited"

    def _crash(self, running: Running) -> None:
        raise ZeroDivisionError(running["reason"])

    def _fault(self, running: Running) -> None:
        self.fault(running["code"], running["report"])

    def _scalars(self, running: Running) -> None:
        self.tell("scalars", running.command.parameters)


class Log:
    """The registry's log, without a Kafka."""

    def __init__(self, state: State) -> None:
        self._state = state

    def append(self, key: dict[str, Any], value: dict[str, Any]) -> None:
        self._state.apply(key, value)


class Rig:
    """A device, and whoever commands it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.broker = Broker(Clock())
        self.broker.clock.now = 2_000_000_000.0
        self.broker.patch(monkeypatch)
        state = State()
        registry = Registry(state, Log(state))
        monkeypatch.setattr(links, "RegistryClient", lambda _: _Client(registry))
        self.at = Site(folder, self.broker, sal_devices.DEVICE, sal_devices.SITE, sal_devices.principals())
        self.configurations = folder / "configurations"
        self.configurations.mkdir()
        (self.configurations / "_init.yaml").write_text("pause: 2.0\n")
        (self.configurations / "slow.yaml").write_text("pause: 9.0\n")
        (self.configurations / "wrong.yaml").write_text("pace: 9.0\n")
        self.component = component("Test")
        for topic in self.component.topics.values():
            self.broker.partitions[self.at.names[topic.role], 0]
        self.link = self.another()
        folder_ = ConfigurationFolder(self.configurations, "summit", Values)
        self.device = Sample(self.link, folder_)
        topics = [one for name, one in self.component.topics.items() if name.startswith("command_")]
        receiver = self.link.receiver("commands", topics)
        aside = ToTopic(self.at.bus, receiver, self.at.bus.sender("set-aside"))
        decode = {topic.role: self.link.decode for topic in topics}
        self.loop = Loop(receiver, decode, self.device.commands.take, aside, clock=self.broker.clock)
        self.number = 100

    def another(self) -> Link:
        return Link(self.at.bus, self.component, INDEX, self.broker.clock)

    def send(
        self, command: str, *, sent: float | None = None, index: int = INDEX, number: int | None = None, **values: Any
    ) -> int:
        topic = self.component.topics[f"command_{command}"]
        self.number += 1
        private = {
            "salIndex": index, "private_sndStamp": self.broker.clock.now if sent is None else sent, "private_rcvStamp": 0.0,
            "private_efdStamp": 0.0, "private_kafkaStamp": 0.0, "private_revCode": "other", "private_identity": CLIENT,
            "private_seqNum": self.number if number is None else number, "private_origin": PROCESS,
        }  # fmt: skip
        own = {field.name: field.default for field in topic.own} | values
        self.broker.append(self.at.names[topic.role], self.link._codec.encode(topic.role, private | own))
        return self.number

    def obey(self, command: str, **values: Any) -> tuple[int, str]:
        """Send a command, let the device carry it out, and return code and result of its last acknowledgement."""
        number = self.send(command, **values)
        self.turn()
        return self.answers(number)[-1]

    def turn(self) -> None:
        for _ in range(3):
            self.loop.turn(timeout=0.0)
        self.settle()

    def settle(self) -> None:
        """Wait until what was begun is over."""
        for thread in list(self.device.commands._threads.values()):
            thread.submit(lambda: None).result(60.0)

    def read(self, name: str) -> list[dict[str, Any]]:
        topic = self.component.topics[name]
        records = self.broker.partitions[self.at.names[topic.role], 0]
        return [self.link._codec.decode(topic.role, one.value) for one in records if one is not None and one.value]

    def keys(self, name: str) -> set[bytes | None]:
        records = self.broker.partitions[self.at.names[self.component.topics[name].role], 0]
        return {one.key for one in records if one is not None}

    def answers(self, number: int) -> list[tuple[int, str]]:
        return [(one["ack"], one["result"]) for one in self.read("ackcmd") if one["private_seqNum"] == number]

    def states(self) -> list[str]:
        return [SummaryState(one["summaryState"]).name for one in self.read("logevent_summaryState")]


class _Client:
    """The registry without HTTP."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        import json

        return int(self._registry.register(subject, {"schema": json.dumps(schema)})["id"])

    def schema(self, number: int) -> dict[str, Any]:
        import json

        found: dict[str, Any] = json.loads(self._registry.state.schema(number))
        return found


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    made = Rig(monkeypatch, tmp_path)
    made.device.announce_log_level()
    made.device.announce()
    yield made
    made.device.commands.end()


@pytest.fixture
def enabled(rig: Rig) -> Rig:
    for command in ("start", "enable"):
        assert rig.obey(command) == (Ack.COMPLETE, "Done")
    return rig


# -- states ------------------------------------------------------------------------------------------------------------


def test_it_tells_of_itself_at_the_start(rig: Rig) -> None:
    assert rig.states() == ["STANDBY"]
    assert rig.read("logevent_errorCode")[0]["errorCode"] == 0
    assert rig.read("logevent_simulationMode")[0]["mode"] == 0
    assert rig.read("logevent_configurationsAvailable")[0]["overrides"] == "slow.yaml,wrong.yaml"
    versions = rig.read("logevent_softwareVersions")[0]
    assert all(versions[name] for name in ("salVersion", "xmlVersion", "cscVersion", "subsystemVersions"))


def test_it_goes_through_all_states(rig: Rig) -> None:
    for command in ("start", "enable", "disable", "standby", "exitControl"):
        assert rig.obey(command) == (Ack.COMPLETE, "Done")
    assert rig.states() == ["STANDBY", "DISABLED", "ENABLED", "DISABLED", "STANDBY", "OFFLINE"]
    assert rig.device.work == ["DISABLED", "ENABLED", "DISABLED", "STANDBY", "OFFLINE"]
    assert rig.device.offline


@pytest.mark.parametrize("command", ["enable", "disable", "standby"])
def test_a_transition_from_the_wrong_state_fails_and_changes_nothing(rig: Rig, command: str) -> None:
    code, said = rig.obey(command)
    assert code == Ack.FAILED
    assert said.startswith(f"Failed: Test: {command} is not allowed in state STANDBY; expected ")
    assert rig.states() == ["STANDBY"]


@pytest.mark.parametrize("where", ["begin enable", "end enable", "handle"])
@pytest.mark.parametrize("error", [WorkloadError("not now"), ZeroDivisionError("by zero")])
def test_a_transition_that_fails_goes_back_and_is_no_fault(rig: Rig, where: str, error: Exception) -> None:
    rig.obey("start")
    rig.device.fails[where] = error
    code, said = rig.obey("enable")
    assert code == Ack.FAILED
    assert str(error) in said
    assert rig.device.state is SummaryState.DISABLED
    assert rig.states() == ["STANDBY", "DISABLED"]
    assert rig.obey("enable") == (Ack.COMPLETE, "Done"), "once more, and nothing is in its way"


def test_where_start_fails_the_former_configuration_holds(rig: Rig) -> None:
    rig.device.fails["end start"] = WorkloadError("not now")
    rig.obey("start", configurationOverride="slow.yaml")
    assert rig.device.configuration is None
    assert not rig.read("logevent_configurationApplied")


def test_a_fault_tells_the_error_before_the_state_and_is_left_by_standby_alone(enabled: Rig) -> None:
    assert enabled.obey("fault", code=5, report="a wheel came off") == (Ack.COMPLETE, "Done")
    error, state = enabled.read("logevent_errorCode")[-1], enabled.read("logevent_summaryState")[-1]
    assert (error["errorCode"], error["errorReport"]) == (5, "a wheel came off")
    assert SummaryState(state["summaryState"]) is SummaryState.FAULT
    assert error["private_sndStamp"] < state["private_sndStamp"]
    enabled.device.fault(6, "another one")
    assert len(enabled.read("logevent_errorCode")) == 2, "a second fault changes nothing"
    assert enabled.obey("enable")[0] == Ack.FAILED
    assert enabled.obey("standby") == (Ack.COMPLETE, "Done")
    assert enabled.read("logevent_errorCode")[-1]["errorCode"] == 0
    assert enabled.states()[-2:] == ["FAULT", "STANDBY"]


def test_a_fault_in_the_midst_of_a_transition_holds(rig: Rig) -> None:
    rig.obey("start")

    def fault(transition: str) -> None:
        if transition == "enable":
            rig.device.fault(9, "meanwhile")

    rig.device.end = fault  # type: ignore[method-assign]
    code, said = rig.obey("enable")
    assert code == Ack.FAILED
    assert "it went to FAULT meanwhile" in said
    assert rig.states() == ["STANDBY", "DISABLED", "FAULT"]


# -- commands ----------------------------------------------------------------------------------------------------------


def test_an_acknowledgement_is_addressed_to_its_sender(enabled: Rig) -> None:
    number = enabled.send("setScalars", int0=7)
    enabled.turn()
    (ack,) = [one for one in enabled.read("ackcmd") if one["private_seqNum"] == number]
    assert (ack["identity"], ack["origin"], ack["error"]) == (CLIENT, PROCESS, 0)
    assert ack["cmdtype"] == enabled.component.commands.index("setScalars")
    assert ack["private_identity"] == "Test:3"
    assert enabled.keys("ackcmd") == {b'{ "name": "Test", "index": 3, "topic": "ackcmd" }'}


def test_its_own_commands_want_enabled(rig: Rig) -> None:
    assert rig.obey("setScalars") == (Ack.FAILED, "Failed: Test: not allowed in state STANDBY; expected ENABLED")


def test_a_handler_that_fails_fails_the_command_and_not_the_device(enabled: Rig) -> None:
    number = enabled.send("fail", reason="nobody expects it")
    enabled.turn()
    assert enabled.answers(number) == [(Ack.FAILED, "Failed: ZeroDivisionError: nobody expects it")]
    assert enabled.read("ackcmd")[-1]["error"] == 1
    assert enabled.device.state is SummaryState.ENABLED


def test_what_takes_time_says_so_and_is_complete_with_its_result(enabled: Rig) -> None:
    enabled.device.waits = lambda _: None
    number = enabled.send("wait", duration=12.5)
    enabled.turn()
    assert enabled.answers(number) == [(Ack.INPROGRESS, ""), (Ack.COMPLETE, "waited")]
    assert [one["timeout"] for one in enabled.read("ackcmd") if one["private_seqNum"] == number] == [12.5, 0.0]


def test_what_runs_out_of_time_is_no_failure_of_the_device(enabled: Rig) -> None:
    def late(running: Running) -> None:
        running.limit(1e-9)
        running.wait(60.0)

    enabled.device.waits = late
    assert enabled.obey("wait") == (Ack.TIMEOUT, "Timeout")
    assert enabled.device.state is SummaryState.ENABLED


@pytest.mark.parametrize("ends", ["disable", "fault"])
def test_what_runs_is_called_off_where_the_device_leaves_enabled(enabled: Rig, ends: str) -> None:
    begun = threading.Event()

    def waits(running: Running) -> None:
        begun.set()
        running.wait(3600.0)

    enabled.device.waits = waits
    number = enabled.send("wait")
    for _ in range(2):
        enabled.loop.turn(timeout=0.0)
    assert begun.wait(60.0)
    assert enabled.obey(ends)[0] == Ack.COMPLETE
    assert enabled.answers(number) == [(Ack.INPROGRESS, ""), (Ack.ABORTED, "Aborted")]


def test_commands_of_one_name_follow_each_other_and_others_run_beside_them(enabled: Rig) -> None:
    go, seen = threading.Event(), list[int]()

    def waits(running: Running) -> None:
        seen.append(running.command.seq_num)
        assert go.wait(60.0)

    enabled.device.waits = waits
    first, second = enabled.send("wait"), enabled.send("wait")
    for _ in range(3):
        enabled.loop.turn(timeout=0.0)
    number = enabled.send("setScalars", string0="beside")
    for _ in range(2):
        enabled.loop.turn(timeout=0.0)
    enabled.device.commands._threads["setScalars"].submit(lambda: None).result(60.0)
    assert enabled.answers(number) == [(Ack.COMPLETE, "Done")]
    assert second not in seen
    go.set()
    enabled.settle()
    assert seen == [first, second]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (-3600.0, "sent before this device began"),
        (-0.1, "sent before this device began"),
        (float("nan"), "before this device"),
    ],
)
@pytest.mark.parametrize("command", ["start", "enable", "exitControl", "wait"])
def test_a_command_from_before_the_start_is_refused_and_answered(
    rig: Rig, command: str, sent: float, said: str
) -> None:
    number = rig.send(command, sent=rig.device.commands._begun + sent)
    rig.turn()
    ((code, result),) = rig.answers(number)
    assert code == Ack.FAILED
    assert said in result
    assert rig.device.state is SummaryState.STANDBY


@pytest.mark.parametrize(("command", "states"), [("enable", []), ("disable", ["enable"]), ("standby", [])])
def test_what_would_be_right_now_is_refused_all_the_same_if_it_is_from_before_the_start(
    rig: Rig, command: str, states: list[str]
) -> None:
    for one in ("start", *states):
        assert rig.obey(one) == (Ack.COMPLETE, "Done")
    before = rig.states()
    code, result = rig.obey(command, sent=rig.device.commands._begun - 3600.0)
    assert (code, rig.states()) == (Ack.FAILED, before)
    assert "sent before this device began" in result
    assert rig.obey(command) == (Ack.COMPLETE, "Done"), "sent anew it is obeyed"


def test_a_command_that_waited_too_long_is_refused(rig: Rig) -> None:
    number = rig.send("start")
    rig.broker.clock.now += PATIENCE_SECONDS + 1.0
    rig.turn()
    assert "sent 61.0 s ago, expected at most 60 s" in rig.answers(number)[0][1]


def test_a_command_of_another_instance_is_left_to_it_and_one_of_all_is_obeyed(rig: Rig) -> None:
    other = rig.send("start", index=4)
    rig.turn()
    assert rig.answers(other) == []
    everybody = rig.send("start", index=0)
    rig.turn()
    assert rig.answers(everybody) == [(Ack.COMPLETE, "Done")]


def test_bytes_that_are_no_command_are_set_aside_and_it_goes_on(rig: Rig) -> None:
    for value in (b"hello", b"", b"\0\0\0\0\7nothing"):
        rig.broker.append(rig.at.names["Test.command_start"], value)
    rig.turn()
    assert rig.obey("start") == (Ack.COMPLETE, "Done")
    assert len([one for one in rig.broker.partitions[rig.at.names["set-aside"], 0] if one]) == 3


@pytest.mark.parametrize("other", ["command_wait", "command_enable", "logevent_summaryState", "ackcmd"])
def test_a_record_of_another_topic_is_no_command(rig: Rig, other: str) -> None:
    topic = rig.component.topics[other]
    record = rig.link._codec.encode(topic.role, {field.name: field.default for field in topic.fields})
    rig.broker.append(rig.at.names["Test.command_start"], record)
    rig.turn()
    assert rig.obey("start") == (Ack.COMPLETE, "Done")
    (aside,) = [one for one in rig.broker.partitions[rig.at.names["set-aside"], 0] if one]
    assert aside.value is not None
    reason = rig.at.codec.decode("set-aside", aside.value)["reason"]
    assert reason.endswith(f"a record lsst.sal.Test.{other}; expected lsst.sal.Test.command_start")


# -- configuration and log ---------------------------------------------------------------------------------------------


def test_a_configuration_is_applied_and_told(rig: Rig) -> None:
    rig.obey("start", configurationOverride="slow.yaml")
    applied = rig.read("logevent_configurationApplied")[-1]
    available = rig.read("logevent_configurationsAvailable")[-1]
    assert applied["configurations"] == "_init.yaml,slow.yaml"
    assert [applied[name] for name in ("version", "url", "schemaVersion")] == [
        available[name] for name in ("version", "url", "schemaVersion")
    ]
    assert rig.device.configuration is not None
    assert rig.device.configuration.values == Values(pause=9.0)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("fast.yaml", "no such file; expected one of slow.yaml, wrong.yaml"),
        ("wrong.yaml", "pace"),
        (":abcdef", "expected abcdef"),
    ],
)
def test_a_wrong_configuration_fails_the_command_and_says_what_there_is(rig: Rig, override: str, said: str) -> None:
    code, result = rig.obey("start", configurationOverride=override)
    assert code == Ack.FAILED
    assert said in result
    assert rig.device.state is SummaryState.STANDBY


def test_the_level_of_the_log_is_set_and_told(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    import logging

    with caplog.at_level(logging.INFO, "sal.sample"):
        assert rig.obey("setLogLevel", level=30, subsystem="sal.sample") == (Ack.COMPLETE, "Done")
        assert logging.getLogger("sal.sample").level == logging.WARNING
    told = rig.read("logevent_logLevel")[-1]
    assert (told["level"], told["subsystem"]) == (30, "sal.sample")


# -- what is written ---------------------------------------------------------------------------------------------------


def test_an_event_is_written_when_it_changes_or_is_forced(rig: Rig) -> None:
    scalars = rig.link.event("scalars")
    assert scalars.write(int0=1)
    assert not scalars.write(int0=1)
    assert not scalars.write()
    assert scalars.write(double0=float("nan"))
    assert not scalars.write(double0=float("nan"))
    assert scalars.write(force=True)
    assert scalars.write(int0=2)
    records = rig.read("logevent_scalars")
    assert [one["private_seqNum"] for one in records] == [1, 2, 3, 4]
    stamps = [one["private_sndStamp"] for one in records]
    assert stamps == sorted(set(stamps)), "a client drops what is not newer, whatever the clock does"
    assert {one["private_efdStamp"] - one["private_sndStamp"] for one in records} == {-37.0}
    assert {one["salIndex"] for one in records} == {INDEX}
    assert {one["private_revCode"] for one in records} == {rig.component.topics["logevent_scalars"].revision}


def test_telemetry_is_always_written_and_has_no_key(rig: Rig) -> None:
    arrays = rig.link.telemetry("arrays")
    assert arrays.write(int0=[1, 2, 3, 4, 5])
    assert arrays.write()
    assert len(rig.read("arrays")) == 2
    assert rig.keys("arrays") == {None}


def test_a_value_that_does_not_fit_is_refused_and_the_last_one_holds(rig: Rig) -> None:
    scalars = rig.link.event("scalars")
    scalars.write(int0=1)
    with pytest.raises(
        NonRetriableError, match=r"Test.logevent_scalars: field int0 is 'x', expected a value of type int"
    ):
        scalars.write(int0="x")
    with pytest.raises(NonRetriableError, match=r"no field int9; expected some of boolean0, "):
        scalars.write(int9=1)
    with pytest.raises(NonRetriableError, match="Test: no topic logevent_nothing; expected one of "):
        rig.link.event("nothing")
    assert scalars.values["int0"] == 1


def test_an_event_that_kafka_does_not_take_is_written_anew(rig: Rig) -> None:
    scalars = rig.link.event("scalars")
    rig.broker.away = True
    with pytest.raises(RetriableError):
        scalars.write(int0=5)
    rig.broker.away = False
    rig.link.again()
    rig.link.again()
    assert rig.read("logevent_scalars")[-1]["int0"] == 5
    assert not scalars.write(int0=5)


def test_processes_are_told_apart_although_their_ids_are_the_same(rig: Rig) -> None:
    assert len({rig.another().origin for _ in range(5)}) == 5


def test_code_and_interface_must_go_together(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sample, "handlers", lambda _: {})
    with pytest.raises(
        WorkloadError, match=r"Test: handlers of \[\], its interface has \['fail', 'fault', 'setScalars', 'wait'\]"
    ):
        Sample(rig.another(), ConfigurationFolder(rig.configurations, "summit", Values))
