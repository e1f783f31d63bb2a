"""The state machine of commandable devices."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict

from workloads.common.config import ConfigurationFolder
from workloads.common.device import Ack, Command, Device, SummaryState
from workloads.common.errors import WorkloadError


class Values(BaseModel):
    model_config = ConfigDict(extra="forbid")
    pause: float = 1.0
    site: str = ""


class Sample(Device):
    def __init__(self, emit, folder):
        super().__init__("sample", emit, folder)
        self.seen = []

    def handle_summary_state(self):
        self.seen.append(self.state)

    def commands(self):
        return {"measure": lambda parameters: f"measured {parameters['what']}", "break": self._break}

    def _break(self, _):
        raise ZeroDivisionError("broken")


@pytest.fixture
def device(tmp_path):
    (tmp_path / "_init.yaml").write_text("pause: 2.0\n")
    (tmp_path / "_summit.yaml").write_text("site: summit\n")
    (tmp_path / "fast.yaml").write_text("pause: 0.1\n")
    (tmp_path / "wrong.yaml").write_text("pauze: 0.1\n")
    events = []
    made = Sample(
        lambda event, content: events.append((event, dict(content))), ConfigurationFolder(tmp_path, "summit", Values)
    )
    made.events = events
    return made


def command(device, name, **parameters):
    device.command(Command(name, parameters, 7, "ocs"))
    return [content["ack"] for event, content in device.events if event == "ack"][-1]


def walk(device, *names):
    for name in names:
        assert command(device, name) == Ack.COMPLETE


def test_walks_through_all_states(device):
    device.begin()
    walk(device, "start", "enable", "disable", "standby", "exitControl")
    assert device.state is SummaryState.OFFLINE
    states = [int(content["summaryState"]) for event, content in device.events if event == "summaryState"]
    assert states == [5, 1, 2, 1, 5, 4]


@pytest.mark.parametrize(
    ("walked", "refused"),
    [
        ((), ("enable", "disable", "standby")),
        (("start",), ("start", "disable", "exitControl")),
        (("start", "enable"), ("start", "enable", "standby", "exitControl")),
    ],
)
def test_commands_in_the_wrong_state_are_rejected(device, walked, refused):
    walk(device, *walked)
    before = device.state
    for name in refused:
        assert command(device, name) == Ack.FAILED
        assert "not allowed in state" in device.events[-1][1]["result"]
    assert device.state is before


def test_every_command_is_acknowledged_before_it_is_answered(device):
    walk(device, "start")
    acks = [content for event, content in device.events if event == "ack"]
    assert [one["ack"] for one in acks] == [300, 303]
    assert all(one["cmdSeqNum"] == 7 and one["identity"] == "ocs" for one in acks)


def test_fault_emits_its_code_before_the_state_and_leaves_through_standby_only(device):
    walk(device, "start", "enable")
    device.fault(5701, "no camera")
    device.fault(5702, "again")
    names = [event for event, _ in device.events]
    assert names.index("errorCode") < len(names) - 1 - names[::-1].index("summaryState")
    assert [content["errorCode"] for event, content in device.events if event == "errorCode"] == [5701]
    for name in ("start", "enable", "disable", "exitControl"):
        assert command(device, name) == Ack.FAILED
    walk(device, "standby")
    assert device.error_code == 0


def test_domain_commands_need_enabled(device):
    assert command(device, "measure", what="sky") == Ack.FAILED
    walk(device, "start", "enable")
    assert command(device, "measure", what="sky") == Ack.COMPLETE
    assert device.events[-1][1]["result"] == "measured sky"


def test_a_handler_that_breaks_is_a_fault(device):
    walk(device, "start", "enable")
    assert command(device, "break") == Ack.FAILED
    assert device.state is SummaryState.FAULT


def test_configuration_merges_in_order_and_says_what_it_applied(device):
    assert command(device, "start", configurationOverride="fast.yaml") == Ack.COMPLETE
    assert device.configuration.values == Values(pause=0.1, site="summit")
    applied = dict(device.events)["configurationApplied"]
    assert applied["configurations"] == "_init.yaml,_summit.yaml,fast.yaml"
    assert len(applied["version"]) == 12


def test_configuration_is_refused_by_name_value_and_hash(device):
    for override, said in (
        ("slow.yaml", "expected one of"),
        ("wrong.yaml", "pauze"),
        ("fast.yaml:000000000000", "expected 000000000000"),
    ):
        assert command(device, "start", configurationOverride=override) == Ack.FAILED
        assert said in device.events[-1][1]["result"]
        assert device.state is SummaryState.STANDBY


def test_configuration_folder_version_changes_with_any_file(tmp_path):
    (tmp_path / "_init.yaml").write_text("pause: 1.0\n")
    folder = ConfigurationFolder(tmp_path, "base", Values)
    first = folder.version()
    (tmp_path / "more.yaml").write_text("{}\n")
    assert folder.version() != first
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(WorkloadError, match="expected a mapping"):
        folder.load("list.yaml")
